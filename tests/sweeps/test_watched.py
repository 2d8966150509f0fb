"""Trunks on which trials wait for a criterion: how they are run, cut, shared and let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.config import MeasureConfig
from core.schedule_terms import ScheduleConfig
from studies.coverage import Coverage
from studies.expand import Trial
from studies.stems import WATCH_CHECKS
from studies.store import Store
from studies.views import open_views
from studies.watchers import resolved
from sweeps.audit import audit
from sweeps.executor import Event
from sweeps.observer import Silent
from sweeps.round import Limits
from sweeps.run import RunResult, run
from sweeps.units import WORK, Lane
from tests.sweeps.bits import differences, view_differences
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, of_config, trial

EVERY = 2
STRIDE = EVERY * WATCH_CHECKS
"""Steps between the cuts of a watched trunk."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def scp(
    seed: int = 0, *, arm: str = "scp", steps: int = 60, lr: float = 1e-2, train: Any = None, **terms: Any
) -> Trial:
    """A trial whose switch SCP decides."""
    base = config(seed, steps=steps, lr=lr, **(train or {}))
    criterion = {"check_every": EVERY, "delta1": 0.02, "delta2": 10.0, "patience": 2} | terms
    return of_config(replace(base, schedule=ScheduleConfig(kind="shift-scp", **criterion)), arm)


def never(seed: int = 0, **terms: Any) -> Trial:
    """Its criterion never ends the stage."""
    return scp(seed, delta1=1e-12, delta2=1e-12, **terms)


def at(step: int, seed: int = 0, **terms: Any) -> Trial:
    """Its criterion ends the stage at a step: at its latest."""
    return never(seed, latest=step, **terms)


@dataclass
class Watchful(Direct):
    """A `Direct` that remembers what its bundles did to the states, and in which order lanes ended."""

    ended: list[Lane] = field(default_factory=list)
    passing: list[tuple[int, set[tuple[str, int]]]] = field(default_factory=list)
    """After each poll that ran something and was followed by another: lanes ended so far, passing states there."""

    def __init__(self, root: Path, slots: int = 1) -> None:
        super().__init__(root, slots)
        self.ended, self.passing, self._ran = [], [], False

    def poll(self, timeout: float) -> list[Event]:
        if self._queue and self._ran:  # the driver has settled what ran before
            self.passing.append((len(self.ended), passing(self._root)))
        self._ran = bool(self._queue)
        if self._queue and self._queue[0].work == WORK:
            self.ended += [lane for unit in self._queue[0].units for lane in unit.lanes]
        return super().poll(timeout)


def passing(root: Path) -> set[tuple[str, int]]:
    names = (path.name.split(".")[0] for path in (root / "checkpoints").rglob("*.passing.safetensors"))
    return {(lineage, int(step)) for lineage, step in (name.split("-") for name in names)}


def kept(store: Store) -> set[tuple[str, int]]:
    names = (path.name for path in (store.root / "checkpoints").rglob("*.safetensors"))
    return {(n.split("-")[0], int(n.split("-")[1].split(".")[0])) for n in names if "passing" not in n}


def go(
    trials: Sequence[Trial], store: Store, pack: int = 4, slots: int = 1, **terms: Any
) -> tuple[RunResult, list[Lane], Watchful]:
    executor = Watchful(store.root, slots)
    limits = Limits(**terms.pop("limits", {}))
    result = run(partial(resolved, trials, store), store, executor, pack=pack, limits=limits, **terms)
    return result, executor.ended, executor


def steps(lanes: Iterable[Lane]) -> int:
    return sum(lane.end - lane.start for lane in lanes)


def trained(store: Store, lineage: str) -> int:
    """Updates of a lineage that are recorded, each as often as it was."""
    rows = store.read("segments").to_pylist()
    return sum(row["reached"] - row["start"] for row in rows if row["lineage"] == lineage)


def ends(trials: Sequence[Trial], store: Store) -> list[tuple[int, ...]]:
    return [each.ended for each in resolved(trials, store)]


def trunk(one: Trial) -> str:
    return one.links[0].lineage


# --- where criteria end ----------------------------------------------------------------------------------------------

GRID = [scp(delta1=delta, patience=patience) for delta in (0.002, 0.01, 0.05) for patience in (1, 2, 4)]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("grid") / "store", create=True)
    assert go([*GRID, never(latest=1.0), never(latest=0.5)], store)[0].counts == {"ok": 11}
    return store


def test_a_grid_of_settings_ends_at_several_steps_and_as_alone(grid: Store) -> None:
    """The other tests would prove little on a grid that ends at one step."""
    assert len(set(ends(GRID, grid))) >= 4
    assert differences([*GRID, never(latest=1.0), never(latest=0.5)], grid) == []


def test_where_criteria_end_is_told_by_rows_alone_whoever_asks(grid: Store) -> None:
    known = {each.trial_id: each.ended for each in resolved(GRID, grid)}
    other = Store.open(grid.root)
    assert {each.trial_id: each.ended for each in resolved(GRID[::-1], other)} == known
    assert [each.ended for each in (resolved([one], other)[0] for one in GRID)] == ends(GRID, grid)
    seconds = {each.trial_id: each.ended for each in resolved(resolved(GRID, other)[::2], other)}
    assert seconds.items() <= known.items()


def test_equal_ends_with_equal_futures_are_one_computation_with_rows_for_each(grid: Store) -> None:
    found = resolved(GRID, grid)
    distinct = {each.ended for each in found}
    assert len(distinct) < len(GRID)
    branches = {each.links[1].lineage for each in found}
    assert len(branches) == len(distinct)
    assert all(
        trained(grid, lineage)
        == next(each.links[1].end - each.links[1].start for each in found if each.links[1].lineage == lineage)
        for lineage in branches
    )
    assert trained(grid, trunk(GRID[0])) == 60  # one trunk, as long as who waits longest
    coverage = Coverage(grid.read("segments"))
    assert {coverage.chain(each).status for each in found} == {"ok"}
    with open_views(found, grid) as views:
        steps = Counter(row["trial_id"] for row in views.arrow("metrics").to_pylist())
        assert [row["status"] for row in views.arrow("trials").to_pylist()] == ["ok"] * len(GRID)
    assert steps.keys() == {each.trial_id for each in GRID}
    assert view_differences(GRID, grid) == []
    fixed = trial(arm="fixed", kind="shift", switch=found[0].ended[0], steps=60, lr=1e-2)
    assert go([fixed], grid)[1] == []  # a fixed switch there is the same computation too


def test_a_criterion_that_never_holds_ends_at_its_latest_step_and_1_means_never(grid: Store) -> None:
    half, whole = never(latest=0.5), never(latest=1.0)
    assert ends([half, whole], grid) == [(30,), (60,)]
    (found,) = resolved([whole], grid)
    assert [(link.loops, link.end) for link in found.links] == [(1, 60)]
    assert grid.has_state(trunk(whole), 60)  # where it ends stays, as of any other trial
    kinds = [row["kind"] for row in grid.read("events").to_pylist() if row["lineage"] == trunk(whole)]
    assert kinds == []


@pytest.mark.parametrize("lr", [30.0, 1e3])
def test_a_trunk_that_diverges_gives_each_of_its_trials_a_diverged_row(store: Store, lr: float) -> None:
    terms = {"lr": lr, "train": {"optimizer": "sgd"}}
    trials = [never(latest=latest, **terms) for latest in (0.5, 0.7, 1.0)] + [never(1, latest=0.5)]
    result, lanes, _ = go(trials, store)
    assert result.counts == {"diverged": 3, "ok": 1}
    assert result.exit_code == 0
    rows = [row for row in store.read("segments").to_pylist() if row["lineage"] == trunk(trials[0])]
    assert [row["status"] for row in rows][-1] == "diverged"
    assert {lane.lineage for lane in lanes if lane.config.seed == 0} == {trunk(trials[0])}  # no branch is begun
    assert go(trials, store)[1] == []
    assert differences(trials, store) == []
    with open_views(resolved(trials, store), store) as views:
        statuses = [(row["seed"], row["status"]) for row in views.arrow("trials").to_pylist()]
    assert Counter(statuses) == {(0, "diverged"): 3, (1, "ok"): 1}


# --- growth ----------------------------------------------------------------------------------------------------------


def test_settings_added_later_use_what_is_recorded(store: Store) -> None:
    keep = {"train": {"keep": "all"}}
    first = [at(20, **keep), at(44, **keep)]
    go(first, store)
    assert trained(store, trunk(first[0])) == 44
    inside = at(36, **keep)
    _, lanes, _ = go([*first, inside], store)
    assert ends([inside], store) == [(36,)]
    # The trunk's rows decide it. What was not there is its state at 36 and the metrics of that step.
    assert [(lane.start, lane.end, lane.record) for lane in lanes] == [(32, 36, True), (36, 60, True)]
    beyond = at(52, **keep)
    _, lanes, _ = go([*first, inside, beyond], store)
    assert [(lane.start, lane.end, lane.record) for lane in lanes] == [(44, 48, True), (48, 52, True), (52, 60, True)]
    assert trained(store, trunk(beyond)) == 52 + 4
    assert differences([*first, inside, beyond], store) == []


def test_a_setting_that_ends_where_another_did_runs_nothing(store: Store) -> None:
    go([at(20)], store)
    same = scp(delta1=100.0, delta2=100.0, patience=9)  # holds from the first change on: ends at the tenth check
    assert go([same], store)[1] == []
    assert ends([same], store) == [(20,)]


def test_firing_states_that_are_gone_are_replayed_to_the_same_bits(store: Store) -> None:
    trials = [at(20), at(28)]
    go(trials, store)
    for path in (store.root / "checkpoints").rglob("*.safetensors"):
        path.unlink()
    later = [at(20, steps=70), at(28, steps=70), at(24)]
    _, lanes, _ = go(later, store)
    assert any(not lane.record for lane in lanes)
    assert differences([*trials, *later], store) == []


def test_checks_that_a_fixed_switch_did_not_record_are_added_by_a_recording_replay(store: Store) -> None:
    fixed = trial(kind="shift", switch=40, steps=60, lr=1e-2)
    go([fixed], store)
    before = store.read("metrics").num_rows
    assert store.read("checks").num_rows == 0
    watched = at(40)
    _, lanes, _ = go([watched], store)
    assert all(lane.lineage == trunk(watched) for lane in lanes)  # what follows is the fixed switch's
    assert steps(lanes) == 40
    assert store.read("checks")["step"].to_pylist() == list(range(2, 41, 2))
    assert store.read("metrics").num_rows == before + 0
    assert differences([fixed, watched], store) == []


# --- the order of things ---------------------------------------------------------------------------------------------


def test_branches_begin_before_the_trunk_ends(store: Store) -> None:
    trials = [at(step) for step in (4, 10, 30, 56)]
    _, lanes, _ = go(trials, store)
    order = {(lane.lineage, lane.start): number for number, lane in enumerate(lanes)}
    found = resolved(trials, store)
    last = max(number for (lineage, _), number in order.items() if lineage == trunk(trials[0]))
    begun = [order[each.links[1].lineage, each.ended[0]] for each in found]
    assert max(begun[:2]) < last
    # By the cut after its firing each branch is ready; the longest chain goes first, which the trunk is on.
    assert begun[0] > order[trunk(trials[0]), 0]


def test_the_longest_chain_goes_first(store: Store) -> None:
    short = [trial(seed, steps=20) for seed in range(1, 5)]
    _, lanes, _ = go([*short, never(latest=0.9)], store, pack=1)
    assert lanes[0].watches
    assert lanes[0].lineage == trunk(never())


def test_packs_form_across_branches_and_trunks_of_equal_shape(store: Store) -> None:
    seeds = [at(20, seed) for seed in range(3)]
    rates = [at(20, seed, lr=3e-3) for seed in range(3)]
    _, _, executor = go([*seeds, *rates], store, pack=8)
    units = [unit for bundle in executor.bundles for unit in bundle.units if bundle.work == WORK]
    assert [(len(u.lanes), u.lanes[0].start, u.lanes[0].end) for u in units] == [(6, 0, 16), (6, 16, 20), (6, 20, 60)]
    assert differences([*seeds, *rates], store) == []


def test_a_trunk_ends_where_nobody_waits_any_more(store: Store) -> None:
    early = scp(delta1=100.0, delta2=100.0, patience=2)
    go([early], store)
    assert ends([early], store) == [(6,)]
    assert trained(store, trunk(early)) == 6


def test_evaluation_and_measurement_fork_no_trunk_and_denser_checks_do_not_either(store: Store) -> None:
    base = never(latest=40)
    dense = never(latest=40, train={"evaluate_every": 3})
    measured = of_config(
        replace(base.config, measure=MeasureConfig(quantities=("lambda_max",), at=(8, 30), probe=4)), "measured"
    )
    often = never(latest=40, check_every=1)
    trials = [base, dense, measured, often]
    assert len({trunk(each) for each in trials}) == 1
    go(trials, store)
    assert trained(store, trunk(base)) == 40
    branches = [row for row in store.read("segments").to_pylist() if row["lineage"] != trunk(base)]
    assert len(branches) == 1
    assert differences(trials, store) == []


def test_budgets_share_a_trunk_but_not_under_cosine_and_seeds_share_nothing() -> None:
    def lineages(*trials: Trial) -> int:
        return len({trunk(each) for each in trials})

    assert lineages(*(never(steps=steps) for steps in (40, 60, 80))) == 1
    assert lineages(*(never(steps=steps, train={"lr_schedule": "wsd", "decay": 10}) for steps in (40, 60, 80))) == 1
    assert lineages(*(never(steps=steps, train={"lr_schedule": "cosine"}) for steps in (40, 60, 80))) == 3
    assert lineages(*(never(seed) for seed in range(5))) == 5


def test_budgets_under_wsd_train_the_stable_phase_once(store: Store) -> None:
    trials = [trial(0, kind="looped", steps=steps, lr=1e-2, lr_schedule="wsd", decay=10) for steps in (20, 40, 60)]
    _, lanes, _ = go(trials, store)
    assert steps(lanes) == 50 + 3 * 10
    assert differences(trials, store) == []


# --- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["final", "none"])
@pytest.mark.parametrize(("pack", "slots"), [(1, 1), (4, 2)])
def test_passing_states_are_there_only_while_somebody_is_to_begin_from_them(
    store: Store, keep: str, pack: int, slots: int
) -> None:
    terms = {"train": {"keep": keep}}
    trials = [at(step, seed, **terms) for step in (4, 10, 20, 56) for seed in range(2)]
    trials += [scp(delta1=delta, **terms) for delta in (0.01, 0.05)] + [never(latest=1.0, **terms)]
    trials += [trial(0, kind="shift", switch=30, steps=60, lr=1e-2, keep=keep)]
    _, _, executor = go(trials, store, pack=pack, slots=slots)
    most = 0
    for count, there in executor.passing:
        to_come = Counter(lane.origin for lane in executor.ended[count:])
        assert there <= set(to_come), "a state from which nothing begins any more"
        most = max(most, len(there))
    assert most >= 2
    assert passing(store.root) == set()
    last = {(each.links[-1].lineage, 60) for each in resolved(trials, store)}
    assert kept(store) == (last if keep == "final" else set())


def test_keep_all_keeps_cuts_and_firings_whoever_shares_the_trunk(store: Store) -> None:
    mine = scp(delta1=100.0, delta2=100.0, patience=3, train={"keep": "all"})
    go([mine, at(44), at(30)], store)
    assert ends([mine], store) == [(8,)]
    assert passing(store.root) == set()
    assert {step for lineage, step in kept(store) if lineage == trunk(mine)} == {8, 16, 30, 32, 44}


def test_a_complete_run_removes_no_state_that_another_study_keeps(store: Store) -> None:
    theirs = [trial(0, steps=20, lr=1e-2, keep="all"), at(20, train={"keep": "all"})]
    go(theirs, store)
    before = kept(store)
    assert before
    go([at(20, steps=80), at(12, train={"keep": "none"})], store)
    assert before <= kept(store)


def test_an_interrupted_run_keeps_what_its_resume_begins_from(store: Store) -> None:
    trials = [at(20), at(44)]

    class Stops(Watchful):
        """Fails after its third bundle, as a driver that is killed."""

        def submit(self, bundle: Any) -> None:
            if len(self.bundles) == 3:
                raise KeyboardInterrupt
            super().submit(bundle)

    executor = Stops(store.root)
    with pytest.raises(KeyboardInterrupt):
        run(partial(resolved, trials, store), store, executor, pack=1)
    assert passing(store.root)
    _, lanes, _ = go(trials, store, pack=1)
    assert all(lane.record for lane in lanes)  # nothing is replayed
    assert passing(store.root) == set()
    assert differences(trials, store) == []


class Told(Silent):
    """What an observer knows at the end: how many trials wait, which have ended, the steps that are done."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.settled_trials: list[tuple[str, str]] = []
        self.left = self.done = 0

    def planned(self, arms: dict[str, int], steps: int, *, waiting: int = 0, goes_on: bool = False) -> None:
        assert goes_on == bool(self.waiting)
        self.waiting.append(waiting)
        self.settled_trials, self.left = [], steps

    def settled(self, arm: str, status: str) -> None:
        self.settled_trials.append((arm, status))

    def ended(self, unit: str, *, steps: int) -> None:
        self.done += steps
        self.left -= steps


def test_an_observer_is_told_of_each_trial_once_whatever_is_decided_on_the_way(store: Store) -> None:
    told = Told()
    trials = [*GRID[:5], never(latest=1.0), at(30, 1), trial(2, steps=20)]
    result, _, _ = go(trials, store, slots=2, observer=told)
    assert result.rounds == 1
    assert Counter(told.settled_trials) == {("scp", "ok"): 7, ("single", "ok"): 1}
    assert told.waiting[0] == 7
    assert told.waiting == sorted(told.waiting, reverse=True)
    assert told.waiting[-1] == 0
    segments = store.read("segments").to_pylist()
    assert told.done == sum(row["reached"] - row["start"] for row in segments)
    assert told.left == 0


# --- faults and audits -----------------------------------------------------------------------------------------------


def test_a_failed_stretch_of_a_trunk_fails_its_trials_and_a_retry_goes_on_from_the_nearest_state(store: Store) -> None:
    trials = [at(10), at(44)]
    limits = {"work": "tests.sweeps.work:fails_at_32", "attempts": 1}
    result, _, _ = go(trials, store, pack=1, limits=limits)
    assert result.counts == {"ok": 1, "failed": 1}
    assert go(trials, store)[1] == []
    result, lanes, _ = go(trials, store, retry=["failed"])
    assert result.counts == {"ok": 2}
    assert [(lane.start, lane.end, lane.record) for lane in lanes] == [(32, 44, True), (44, 60, True)]
    assert passing(store.root) == set()
    assert differences(trials, store) == []


def test_an_audit_of_watched_trials_is_clean_and_finds_one_altered_check(store: Store) -> None:
    trials = [*GRID[:4], never(latest=1.0)]
    go(trials, store)
    found = audit(resolved(trials, store), store, Direct(store.root), share=1.0)
    assert (found.trials, found.mismatches) == (5, ())
    row = store.read("checks").to_pylist()[0]
    segment = next(s for s in store.read("segments").to_pylist() if s["lineage"] == row["lineage"] and s["start"] == 0)
    wrong = row["grad_norm"] * (1 + 2**-50)
    store.commit({"segments": [segment | {"generation": 1}], "checks": [row | {"grad_norm": wrong}]})
    found = audit(resolved(trials, store), store, Direct(store.root), share=1.0)
    assert found.exit_code == 3
    assert len(found.mismatches) == 5  # the trunk is everybody's
    assert all(f"checks at step {row['step']}: grad_norm is recorded as" in each for each in found.mismatches)
