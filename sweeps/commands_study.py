"""What the commands that look at a study do: studies, plan, status.

Each takes checked options, prints through `sweeps.output` and returns its exit code; errors are raised as
`LoopsweepError` and become lines and codes in `sweeps.cli`. Nothing is written, and neither torch nor ray is imported.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from core.errors import InputError, Problem
from studies.coverage import Coverage
from studies.expand import Trial, count
from studies.importances import latest_importances
from studies.proposals import read_proposals
from studies.sizes import SMALL
from studies.spec import catalogue, load_sizes, load_study
from studies.store import Store
from studies.study import Study
from studies.texts import StudyText
from studies.wanted import wanted
from sweeps import output
from sweeps.explain import explain_text, explained
from sweeps.holds import current
from sweeps.known import known_trials
from sweeps.local_executor import available_cores
from sweeps.options import as_typed
from sweeps.plan import Plan
from sweeps.plan import plan as plan_trials
from sweeps.rung_costs import HalvingCost, halving_cost
from sweeps.show import HEX, find
from sweeps.size_costs import MOST_PLANNED, SizeCost, size_costs, time_left, to_come
from sweeps.standing import counts, lacking, standing_table
from sweeps.tables import Quantity, duration, flops, pairs, plural, size, table
from sweeps.tree_text import tree_text

SHOWN_KEYS = 4
"""Searched keys of which the importance is shown, the largest first."""


def load(name: str, *, max_trials: int) -> Study:
    """A study, unless it has more trials than allowed.

    Raises:
        InputError: for bad input, and for more trials than `max_trials`, told from the product alone.
    """
    study = load_study(name)
    if (most := count(study)) > max_trials:
        raise InputError(
            [
                Problem(
                    study.file,
                    f"has up to {most:,} trials, more than --max-trials {max_trials:,}; raise it, or trim axes",
                )
            ]
        )
    return study


# --- studies and plan ------------------------------------------------------------------------------------------------


def studies(root: str, *, as_json: bool) -> int:
    """The catalogue, each study in each of its sizes."""
    store = Store.open(root)
    found = [size_costs(load_sizes(path.stem), store) for path in catalogue()]
    if as_json:
        output.emit_json([_catalogued(costs) for costs in found])
        return 0
    shown = [_costs_row(cost) for costs in found for cost in costs.values()]
    output.emit(table(["study", "trials", "done", "cost alone", "saved", "time left", "question"], shown))
    return 0


def _catalogued(costs: Mapping[str, SizeCost]) -> dict[str, Any]:
    """A study of the catalogue: its numbers as it stands, and those of each of its sizes."""
    small = costs[SMALL]
    numbers = {} if small.planned is None else _numbers(small.planned)
    sizes = {size: cost.to_dict() for size, cost in costs.items()}
    return {"name": small.study.name, "question": small.study.question} | numbers | {"sizes": sizes}


def _costs_row(cost: SizeCost) -> tuple[Any, ...]:
    study, planned = cost.study, cost.planned
    if planned is None:
        return study.name, count(study), None, None, None, None, study.question
    return (
        study.name,
        planned.trials,
        planned.done,
        flops(planned.flops_alone),
        Quantity(f"{planned.saving:.2f}×"),
        duration(planned.estimate_s),
        study.question,
    )


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Without the cyclic collector, which walks 10^5 growing trials again and again: a quarter of a large plan."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def plan(name: str, root: str, *, max_trials: int, as_json: bool) -> int:
    """What a study would train and cost."""
    study, store = load(name, max_trials=max_trials), Store.open(root)
    with _collection_paused():
        trials = wanted(study, store)
        planned = plan_trials(trials, store, workers=available_cores())
        sizes = size_costs(load_sizes(name), store, {study.name: planned})
        halved = halving_cost(study, read_proposals(study, store)) if count(study) <= MOST_PLANNED else None
    later = to_come(study, planned)
    if as_json:
        of_sizes = {size: cost.to_dict() for size, cost in sizes.items()}
        texts = [text.to_dict() for text in study.texts]
        output.emit_json(
            {"study": study.name, "trials_to_come_at_most": later}
            | planned.to_dict()
            | {"sizes": of_sizes, "texts": texts, "halving": None if halved is None else halved.to_dict()}
        )
        return 0
    roles = Counter((trial.arm, trial.role) for trial in trials)
    rows = [(arm, role, n, planned.arms[arm]["done"] if first else None) for arm, role, n, first in _by_arm(roles)]
    output.emit(f"{output.clean(study.name)}: {output.clean(study.question)}\n\n")
    output.emit(table(["arm", "role", "trials", "done"], rows))
    output.emit(f"\n{tree_text(planned.tree)}\n\n" if trials else "")
    others = [(f"size {size}", cost.text) for size, cost in sizes.items() if cost.study.name != study.name]
    output.emit(pairs([*_plan_lines(planned, later), *_rung_lines(halved), *_text_lines(study.texts), *others]))
    for text in planned.notes:
        output.emit(f"\nnote: {output.clean(text)}")
    return 0


def explain(beginning: str, name: str | None, root: str, *, max_trials: int, as_json: bool) -> int:
    """One trial's place in the stage tree: of a study, or of all that are known where none is named."""
    store = Store.open(root)
    if name is None:
        trials, searched = known_trials((), store)
    else:
        study = load(name, max_trials=max_trials)
        trials, searched = wanted(study, store), f"the study {study.name}"
        _of_study(beginning, trials, study)
    next_step = "name its study: loopsweep plan STUDY --explain ID"
    facts = explained(find(beginning, trials, searched=searched, next_step=next_step), trials, store)
    if as_json:
        output.emit_json(facts)
    else:
        output.emit(explain_text(facts))
    return 0


def _of_study(beginning: str, trials: Sequence[Trial], study: Study) -> None:
    """Refuses what may be an id but is none of the study's; what cannot be one is `find`'s to refuse."""
    if set(beginning.lower()) <= HEX and not any(trial.trial_id.startswith(beginning.lower()) for trial in trials):
        message = f"no such trial in the study {study.name}; leave STUDY out to search all that are known"
        raise InputError([Problem(beginning, message)])


def _by_arm(roles: Mapping[tuple[str, str], int]) -> list[tuple[str, str, int, bool]]:
    """Counts with a mark at the first line of each arm, where what belongs to the whole arm stands."""
    seen: set[str] = set()
    lines = []
    for (arm, role), number in roles.items():
        lines.append((arm, role, number, arm not in seen))
        seen.add(arm)
    return lines


def _plan_lines(planned: Plan, later: int) -> list[tuple[str, str]]:
    lines = [
        ("trials", f"{planned.trials:,}, of which {planned.done:,} are recorded"),
        (
            "stage tree",
            f"{plural(planned.nodes, 'node')}, {planned.missing:,} to run in {plural(planned.units, 'pack')}",
        ),
        ("cost, each trial alone", flops(planned.flops_alone)),
        (
            "cost, pasts shared",
            f"{flops(planned.flops_spent)} ({planned.saving:.2f}× saved), {flops(planned.flops_left)} left",
        ),
        ("time left", time_left(planned, later)),
        *_measuring_lines(planned),
        ("disk, when complete", f"about {size(planned.disk_bytes)}"),
    ]
    if planned.disk_passing_bytes:
        passing = f"at most {size(planned.disk_passing_bytes)} more, for states that branches begin from"
        lines.append(("disk, while it runs", passing))
    if planned.assumes is not None:
        waits = f"{plural(planned.waiting, 'trial waits', 'trials wait')} for criteria; all numbers are those of the"
        lines.append(("criteria decide", f"{waits} {planned.assumes['worst']}"))
        lines.append(("", f"{planned.saving_best:.2f}× saved in the {planned.assumes['best']}"))
    if later:
        lines.insert(1, ("trials to come", f"at most {later:,}, once what they depend on is recorded"))
    return lines


def _rung_lines(cost: HalvingCost | None) -> list[tuple[str, str]]:
    """What a halved search takes at most, rung by rung."""
    return [] if cost is None else [("" if n else "rungs, at most", line) for n, line in enumerate(cost.lines())]


def _text_lines(texts: Sequence[StudyText]) -> list[tuple[str, str]]:
    """What text tasks read; their names and sizes are in ``--json``."""
    return [
        (
            "text",
            f"{plural(len(text.files), 'file')}, {size(text.size)}, vocabulary {text.tokens:,}, digest {text.digest}",
        )
        for text in texts
    ]


def _measuring_lines(planned: Plan) -> list[tuple[str, str]]:
    """What measuring takes of the time left; exact spectra apart."""
    found = planned.measuring
    kept = []
    if planned.kept_states:
        states = plural(planned.kept_states, "kept state")
        kept = [
            ("curvature, no training", f"is missing at {states}: `run` measures there first, `measure` does just that")
        ]
    if found is None:
        return kept
    text = f"{plural(found.measurements, 'measurement')}, about {found.products:,} Hessian products"
    text += f" and {duration(found.seconds)} of the time left"
    if not found.exact:
        return [*kept, ("curvature", text)]
    held = f"of which {found.exact:,} with an exact spectrum, {size(found.memory_bytes)} each while it is taken"
    return [*kept, ("curvature", text), ("", held)]


def _numbers(planned: Plan) -> dict[str, Any]:
    names = ("trials", "done", "flops_alone", "flops_spent", "saving", "saving_best", "estimate_s", "estimate_from")
    return {name: getattr(planned, name) for name in names}


# --- status ----------------------------------------------------------------------------------------------------------


def status(name: str, root: str, *, max_trials: int, as_json: bool) -> int:
    """Trials by arm and by how they stand."""
    study, store = load(name, max_trials=max_trials), Store.open(root)
    trials, coverage = wanted(study, store), Coverage(store.read("segments"))
    found = counts(trials, coverage, current(store, now=datetime.now(UTC)))
    if as_json:
        searched = {} if study.search is None else {"importances": latest_importances(study, store)}
        output.emit_json({"study": study.name} | found | searched)
        return 0
    output.emit(standing_table(found))
    for one in latest_importances(study, store):
        shares = ", ".join(f"{key} {value:.2f}" for key, value in list(one["shares"].items())[:SHOWN_KEYS])
        what = f"what matters for {one['metric']} in {one['arm']}, by {one['evaluator']} of {one['n']:,} settings"
        output.emit(f"\n{output.clean(what)}: {shares}")
    if said := lacking(as_typed(name, root), trials, store, coverage):
        output.emit(f"\n{said}")
    return 0
