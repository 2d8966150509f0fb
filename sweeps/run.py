"""The driver: asks what a study wants, sees what is recorded, and runs rounds until nothing is missing.

A study's trials are asked anew before each round, since they may depend on rows: winners of nuisance axes are known
when the tuning trials are recorded, proposals of a search when its last batch is. The store alone is remembered, so
the same command goes on wherever an earlier one, or another driver at the same time, has come to.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from core.config import TrialConfig
from core.errors import LoopsweepError, StoreError
from core.lineage import Link
from core.numerics import device_and_engine
from core.schedule import Watch
from studies.expand import Trial
from studies.keys import shape_key
from studies.schemas import FAILURES
from studies.store import Store
from studies.tree import Tree
from studies.watchers import assumed, resolved
from sweeps import calibrate
from sweeps.executor import Executor, Finished, Lost
from sweeps.holds import Holds
from sweeps.interrupts import Interrupts
from sweeps.look import Outlook, outlook_of
from sweeps.measure_cost import measure_cost, measuring
from sweeps.measuring import MeasureResult, measure_kept, missing
from sweeps.observer import Observer, Silent
from sweeps.packs import PACK_SIZES, Pace, Ready, paces
from sweeps.round import POLL_SECONDS, Limits, Round
from sweeps.tables import duration, plural
from sweeps.units import WORK, Bundle, Lane, unit

TOLD_SECONDS = 10.0
"""Measuring curvature is told where it takes at least so long."""
IDLE_ROUNDS = 2
"""Rounds in a row that may record nothing new while something is missing."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    trials: int
    counts: Mapping[str, int]
    """Trials by status; ``missing`` where a trial is not recorded."""
    exit_code: int
    """0 complete, 1 some trials are failed, timeout or oom, 130/143 interrupted."""
    seconds: float
    rounds: int

    @property
    def interrupted(self) -> bool:
        """Whether it ended before nothing was missing."""
        return self.exit_code > 128


def run(
    ask: Callable[[], Sequence[Trial]],
    store: Store,
    executor: Executor,
    *,
    limits: Limits | None = None,
    pack: int | Literal["auto"] = "auto",
    retry: Iterable[str] = (),
    propose: Callable[[], bool] | None = None,
    follows: bool = False,
    observer: Observer | None = None,
    holds: Holds | None = None,
) -> RunResult:
    """Runs what is missing.

    Args:
        ask: the trials that are wanted, as far as the rows of the store decide them now.
        store: where results are and go.
        executor: what runs bundles; it is not closed.
        limits: device, attempts, time-outs.
        pack: trials that train in one step, or ``auto``: by measurement.
        retry: statuses (failed, timeout, oom, diverged) whose trials are run again, once.
        propose: of an adaptive search: called where nothing is missing; True where `ask` will now give more.
        follows: it is called, and `ask`, whenever trials have ended too, while others run (`sweeps.promote`).
        observer: is told what happens.
        holds: what this driver and others hold; default: with the usual times.

    Raises:
        StoreError: the store cannot be written or is damaged.
        LoopsweepError: workers cannot start, or nothing comes of what they do.
    """
    limits, observer = limits or Limits(), observer or Silent()
    again, begun, rounds, idle = frozenset(retry), time.monotonic(), 0, 0
    measured: MeasureResult | None = None

    def decided() -> Sequence[Trial]:
        """The trials that are wanted now that others have ended."""
        if propose is not None:
            propose()
        return ask()

    with Interrupts() as interrupts, holds or Holds(store) as held:
        while True:
            held.planning()
            trials = ask()
            outlook = outlook_of(trials, store, again)
            tree = outlook.tree
            if rounds == 0 and not measured and (found := missing(trials, store)).kept:
                # What is measured at kept states need not be trained again.
                measured = measure_kept(
                    found,
                    executor,
                    limits=limits,
                    observer=observer,
                    draining=lambda: interrupts.draining,
                    at_once=lambda: interrupts.at_once,
                )
                continue
            if rounds == 0:
                _say_classes(trials, tree, store, limits=limits, observer=observer)
            if not tree.todo():
                # Also while draining: a search that has more to propose is not complete.
                if propose is not None and not interrupts.at_once and propose():
                    continue
                break
            if interrupts.draining:
                break
            known = _calibrated(
                outlook, store, executor, limits=limits, pack=pack, interrupts=interrupts, observer=observer
            )
            if rounds == 0:
                _say_measuring(outlook, known, executor.slots, observer)
            this = Round(
                outlook=outlook,
                # What is run again is missing to the tree only until it is recorded once more: the round looks once.
                anew=None if again else partial(_anew, decided if follows else trials, store),
                follows=follows,
                store=store,
                executor=executor,
                holds=held,
                ready=_ready(known, executor.slots, limits, pack),
                limits=limits,
                observer=observer,
                draining=lambda: interrupts.draining,
                at_once=lambda: interrupts.at_once,
            )
            this.run()
            rounds, again = rounds + 1, frozenset()
            idle = 0 if this.progressed else idle + 1
            if idle >= IDLE_ROUNDS and not interrupts.draining:
                left = len(tree.todo())
                raise LoopsweepError(f"{left} stretches stay missing though workers ran them; try `loopsweep verify`")
        if not tree.todo():  # nothing is to begin from a passing state any more, unless a failure is retried
            held.look()
            store.remove_passing({node.lineage for node in tree.nodes} - held.needed, needed=tree.resumed())
    counts = Counter(status or "missing" for status in tree.statuses)
    code = 1 if any(counts[status] for status in FAILURES) else 0
    if interrupts.draining and counts["missing"]:
        code = interrupts.exit_code
    return RunResult(
        trials=len(trials), counts=dict(counts), exit_code=code, seconds=time.monotonic() - begun, rounds=rounds
    )


def _anew(trials: Sequence[Trial] | Callable[[], Sequence[Trial]], store: Store) -> Outlook:
    """The same trials, or those that are wanted now, over what is recorded now."""
    return outlook_of(trials() if callable(trials) else resolved(trials, store), store)


def _say_classes(trials: Sequence[Trial], tree: Tree, store: Store, *, limits: Limits, observer: Observer) -> None:
    """Says where trials are finished on another kind of device, or by another engine: nothing is run again for that."""
    rows = store.read("segments", ["lineage", "numerics_class"]).to_pylist()
    kinds = {row["lineage"]: device_and_engine(row["numerics_class"]) for row in rows if row["numerics_class"]}
    ends = (tree.nodes[end].lineage for end, status in zip(tree.ends, tree.statuses, strict=True) if status is not None)
    here = (limits.device, limits.engine)
    others = Counter(kind for lineage in ends if (kind := kinds.get(lineage, here)) != here)
    for kind, count in sorted(others.items()):
        # The engine is named only where it tells the two apart.
        theirs, ours = (names[: 1 + (kind[1] != here[1])] for names in (kind, here))
        done = f"{count} of {len(trials)} trials are finished on {', '.join(theirs)}"
        observer.said(f"{done}; they are not run again on {', '.join(ours)}")


def _say_measuring(outlook: Outlook, known: Mapping[str, Pace], slots: int, observer: Observer) -> None:
    """Says that curvature is measured where it takes a while: no step goes by meanwhile."""
    tree = outlook.tree
    found = measuring([tree.nodes[index] for index in tree.todo()], known, slots, outlook.coverage)
    if found is not None and found.seconds >= TOLD_SECONDS:
        spectra = f", {found.exact:,} with an exact spectrum" if found.exact else ""
        observer.said(
            f"curvature: {plural(found.measurements, 'measurement')}{spectra}, about {duration(found.seconds)}, during "
            "which steps stand still"
        )


def _ready(known: Mapping[str, Pace], slots: int, limits: Limits, pack: int | Literal["auto"]) -> Ready:
    """The pool of lanes, which forms packs of the chosen size."""

    def pace(lane: Lane) -> Pace | None:
        return known.get(shape_key(lane.config, lane.where))

    def size(lane: Lane) -> int:
        if pack != "auto":
            return pack
        found = pace(lane)
        return 1 if found is None else found.best()

    def seconds(lane: Lane, lanes: int) -> float:
        found = pace(lane)
        if found is None:
            # Work that does not train has no pace: bundles are as full as they may be.
            return float("inf") if limits.work == WORK else 0.0
        measuring = 0.0
        if lane.asked.measure:
            one = measure_cost(lane.config, lane.where, found).seconds
            measuring = lanes * len(lane.asked.measure) * one
        return (lane.end - lane.start) * found.seconds(lanes) + measuring

    return Ready(slots=slots, size=size, seconds=seconds)


# --- calibration ---------------------------------------------------------------------------------------------------


def _calibrated(
    outlook: Outlook,
    store: Store,
    executor: Executor,
    *,
    limits: Limits,
    pack: int | Literal["auto"],
    interrupts: Interrupts,
    observer: Observer,
) -> dict[str, Pace]:
    """The paces of the shapes to be run, measured where they are not recorded yet."""
    if limits.work != WORK:
        return {}
    known = paces(store, engine=limits.engine, device=limits.device)
    wanted = {
        shape: lanes
        for shape, lanes in _by_shape(outlook, executor.slots, pack).items()
        if _unmeasured(known.get(shape), len(lanes))
    }
    if not wanted:
        return known
    observer.said(f"measuring step times of {plural(len(wanted), 'shape')}")
    open_ = set()
    for number, lanes in enumerate(wanted.values()):
        bundle = Bundle(
            id=f"c{number}", units=(unit(lanes),), device=limits.device, engine=limits.engine, work=calibrate.WORK
        )
        open_.add(bundle.id)
        executor.submit(bundle)
    while open_ and not interrupts.draining:
        for event in executor.poll(POLL_SECONDS):
            if isinstance(event, Lost):
                if event.kind == "store":
                    raise StoreError(event.reason)
                observer.said(f"a measurement of step times was lost, its trials run alone: {event.reason}")
            if isinstance(event, (Finished, Lost)):
                open_.discard(event.bundle)
    return paces(store, engine=limits.engine, device=limits.device)


def _by_shape(outlook: Outlook, slots: int, pack: int | Literal["auto"]) -> dict[str, list[Lane]]:
    """By shape, the lanes of a calibration: one lane as often as the largest pack would hold it."""
    counts: Counter[str] = Counter()
    first: dict[str, Lane] = {}

    def add(config: TrialConfig, chain: tuple[Link, ...]) -> None:
        shape = shape_key(config, chain[-1])
        counts[shape] += 1
        first.setdefault(shape, Lane(config=config, chain=chain, start=chain[-1].start, end=chain[-1].end))

    for index in outlook.tree.todo():
        node = outlook.tree.nodes[index]
        add(node.config, node.chain)
    for trial in _futures(outlook.trials):
        for index in range(len(trial.links)):
            add(trial.config, trial.links[: index + 1])
    largest = PACK_SIZES[-1] if pack == "auto" else 1  # alone is always measured: cost alone is stated from it
    return {shape: [first[shape]] * min(largest, -(-counts[shape] // slots)) for shape in first}


def _futures(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that wait for a criterion, as if it ended its stage at the first check: what they may become."""

    def first(_trial: Trial, watch: Watch) -> int:
        return next(iter(watch.criterion.grid(watch.start)), watch.criterion.latest)

    return assumed([trial for trial in trials if trial.watch is not None], first)


def _unmeasured(pace: Pace | None, lanes: int) -> bool:
    """Whether a shape needs measuring: never done, or packs may be larger now than any that was tried."""
    if pace is None:
        return True
    tried = max(pace.step_s)
    return pace.best() == tried and any(tried < size <= lanes for size in PACK_SIZES)
