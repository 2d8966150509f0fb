"""One trial's place in the stage tree: its chain link by link, what ends each, what is there, who shares it.

Everything is returned as plain values (what ``--json`` prints); `explain_text` says the same for people. Seeds share
nothing, so all that shares a link with a trial has its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.config import TrialConfig
from core.flops import link_flops
from core.lineage import Link
from core.schedule import Criterion
from core.schedule_terms import step_of
from studies.coverage import Coverage, asked_of
from studies.expand import Trial
from studies.outline import earliest
from studies.stage_ends import StageEnd, stage_ends
from studies.stage_words import acting_text, acts_text, loops_text
from studies.states import States
from studies.store import Store
from sweeps.tables import flops, pairs, plural, table

MOST_IDS = 3
"""Trial ids that people are shown for each link and arm; ``--json`` has all."""


def explained(uses: Sequence[Trial], trials: Sequence[Trial], store: Store) -> dict[str, Any]:
    """A trial's chain and what of it is shared.

    Args:
        uses: the trial, once for each study and arm that asks for it.
        trials: of all the studies among which sharing is looked for.
        store: what is recorded; may not exist yet.
    """
    trial = uses[0]
    coverage, states = Coverage(store.read("segments")), store.states()
    state = coverage.chain(trial)
    sharers = _sharers(trial, trials)
    links = [_link(trial, index, coverage, states, sharers[link.lineage]) for index, link in enumerate(trial.links)]
    return {
        "trial_id": trial.trial_id,
        "asked_by": [{"study": use.study, "arm": use.arm, "role": use.role} for use in uses],
        "seed": trial.config.seed,
        "varied": dict(trial.varied),
        "status": state.status,
        "waits": trial.watch is not None,
        "flops_alone": sum(link["flops_alone"] for link in links),
        "flops_share": sum(link["flops_share"] for link in links),
        "chain": links,
    }


def _link(
    trial: Trial, index: int, coverage: Coverage, states: States, sharers: Mapping[str, tuple[Trial, int]]
) -> dict[str, Any]:
    link, config = trial.links[index], trial.config
    known = coverage.link(link, asked_of(trial)[index], config.measure if config.measure.quantities else None)
    return {
        "lineage": link.lineage,
        "start": link.start,
        "end": link.end,
        "stage": link.stage,
        "loops": link.loops,
        "draw": link.draw,
        "acts": list(acts_text(link)),
        "ending": _ending(trial, index),
        "status": known.status,
        "recorded_to": known.covered,
        "checkpoint": states.has(link.lineage, link.end),
        "flops_alone": link_flops(config, link, link.start, link.end),
        "flops_share": _share(config, link, sharers),
        "shared": _shared(link, sharers),
    }


# --- how links end ----------------------------------------------------------------------------------------------------


def _ending(trial: Trial, index: int) -> dict[str, Any]:
    """How a link ends: at a step, at a share of the steps, by a criterion, where the decay begins, with the trial."""
    link, last = trial.links[index], index == len(trial.links) - 1
    passed = next((each for each in reversed(stage_ends(trial)) if each.end == link.end), None)
    if last and trial.watch is None:
        return {"by": "last step", "step": link.end}
    if not last and trial.links[index + 1].stage == link.stage:
        return {"by": "decay", "step": link.end}
    if passed is not None and isinstance(passed.stage.until, Criterion):
        return _criterion(trial, passed, passed.stage.until)
    ending: dict[str, Any] = {"by": "step", "step": link.end}
    share = _written_share(trial.config, link.end)
    return ending if share is None else {"by": "share of the steps", "step": link.end, "share": share}


def _criterion(trial: Trial, passed: StageEnd, criterion: Criterion) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "by": "criterion",
        "step": None if passed.waits else passed.end,
        "criterion": criterion.terms(),
        "then": acting_text(passed.follows[0].acting) if passed.follows else None,
    }
    if passed.waits and trial.watch is not None:
        ending |= {"earliest": earliest(trial.watch), "latest": criterion.latest}
    return ending


def _written_share(config: TrialConfig, step: int) -> float | None:
    """The share of the steps that the schedule names for a step; None where it names the step itself, or a rule."""
    schedule = config.schedule
    ends: list[Any] = [schedule.switch] if schedule.kind in ("shift", "reverse") else []
    if schedule.kind == "stages":
        ends = [stage.until for stage in schedule.stages]
    return next((end for end in ends if isinstance(end, float) and step_of(end, config.train.steps) == step), None)


# --- who shares them --------------------------------------------------------------------------------------------------


def _sharers(trial: Trial, trials: Sequence[Trial]) -> dict[str, dict[str, tuple[Trial, int]]]:
    """By lineage of a trial's links: the trials that pass through it (itself too) and the last step of it they need."""
    found: dict[str, dict[str, tuple[Trial, int]]] = {link.lineage: {} for link in trial.links}
    first = trial.links[0].lineage
    for other in (trial, *trials):
        if other.links[0].lineage != first:  # a chain that begins otherwise shares nothing
            continue
        for link in other.links:
            if link.lineage not in found:
                break
            found[link.lineage].setdefault(f"{other.study}\n{other.arm}\n{other.trial_id}", (other, link.end))
    return found


def _share(config: TrialConfig, link: Link, sharers: Mapping[str, tuple[Trial, int]]) -> float:
    """FLOPs of a link where each step is shared by the trials that need it; equal trials (of two arms) are one."""
    total, step = 0.0, link.start
    left = sorted({other.trial_id: end for other, end in sharers.values()}.values())
    for number, end in enumerate(left):
        if end > step and step < link.end:
            total += link_flops(config, link, step, min(end, link.end)) / (len(left) - number)
            step = min(end, link.end)
    return total


def _shared(link: Link, sharers: Mapping[str, tuple[Trial, int]]) -> list[dict[str, Any]]:
    """By study and arm, the others that pass through a link, and the steps up to which they share it."""
    own = next(iter(sharers.values()))[0]
    arms: dict[tuple[str, str], list[tuple[Trial, int]]] = {}
    for other, end in sharers.values():
        if other.trial_id != own.trial_id:
            arms.setdefault((other.study, other.arm), []).append((other, min(end, link.end)))
    return [
        {
            "study": study,
            "arm": arm,
            "trials": len(found),
            "trial_ids": [other.trial_id for other, _ in found],
            "up_to": [min(end for _, end in found), max(end for _, end in found)],
        }
        for (study, arm), found in arms.items()
    ]


# --- for people -------------------------------------------------------------------------------------------------------


def explain_text(facts: Mapping[str, Any]) -> str:
    """The same facts as text."""
    varied = ", ".join(f"{key} = {value}" for key, value in facts["varied"].items())
    head = [("trial", facts["trial_id"]), ("seed", facts["seed"])]
    head += [("asked by", f"{use['study']} / {use['arm']} ({use['role']})") for use in facts["asked_by"]]
    head += [("varied", varied)] if varied else []
    share = facts["flops_share"] / facts["flops_alone"]
    so_far = " as far as its chain is known" if facts["waits"] else ""
    head += [
        ("status", facts["status"] or ("waits for a criterion" if facts["waits"] else "not complete")),
        ("cost alone", f"{flops(facts['flops_alone'])}{so_far}"),
        ("its share", f"{flops(facts['flops_share'])}, {100 * share:.3g} % of that: each step is shared by all below"),
    ]
    rows = [
        (
            _span(link),
            ", ".join((loops_text(link["loops"], link["draw"]), *link["acts"])),
            "where the trial diverged" if link["status"] == "diverged" else _ending_text(link["ending"]),
            _recorded_text(link),
            "yes" if link["checkpoint"] else "no",
            link["lineage"],
        )
        for link in facts["chain"]
    ]
    columns = ["steps", "what acts", "ends", "recorded", "state at its end", "lineage"]
    lines = [line for link in facts["chain"] for line in (*_criterion_lines(link), *_shared_lines(link))]
    return "\n".join((pairs(head), "", table(columns, rows), "", *lines))


def _ending_text(ending: Mapping[str, Any]) -> str:
    match ending["by"]:
        case "last step":
            return "with the trial"
        case "decay":
            return "where the learning rate's decay begins"
        case "step":
            return f"at step {ending['step']}"
        case "share of the steps":
            return f"at {ending['share']:g} of the steps"
    if ending["step"] is None:
        return f"waits for a criterion: {ending['earliest']} … {ending['latest']}"
    backstop = ", its latest step" if ending["step"] == ending["criterion"]["latest"] else ""
    return f"by a criterion, at step {ending['step']}{backstop}"


def _criterion_lines(link: Mapping[str, Any]) -> Iterator[str]:
    """What the criterion asks for that ends a link, if one does."""
    ending = link["ending"]
    if ending["by"] != "criterion":
        return
    terms = ending["criterion"]
    loss = {"val": "validation loss", "train": "training loss"}[terms["on"]]
    changes = [(terms["delta1"], loss), (terms["delta2"], "gradient norm")]
    limits = " and ".join(f"{name} below {delta:g}" for delta, name in changes if delta is not None)
    often = f"{plural(terms['patience'], 'check')} in a row, one every {plural(terms['every'], 'step')}"
    then = "" if ending["then"] is None else f"; then {ending['then']}"
    yield f"{_span(link)}: the criterion asks for a {terms['change']} change of {limits} at {often}{then}"


def _span(link: Mapping[str, Any]) -> str:
    return f"{link['start']} → {link['end']}"


def _recorded_text(link: Mapping[str, Any]) -> str:
    if link["status"] == "diverged":
        return f"to step {link['recorded_to']}, then diverged"
    if link["status"] is not None:
        return str(link["status"])
    return f"to step {link['recorded_to']}" if link["recorded_to"] > link["start"] else "missing"


def _shared_lines(link: Mapping[str, Any]) -> Iterator[str]:
    span = _span(link)
    if not link["shared"]:
        yield f"{span}: shared with no other trial"
    for found in link["shared"]:
        low, high = found["up_to"]
        steps = f"step {low}" if low == high else f"steps {low} … {high}"
        ids = ", ".join(found["trial_ids"][:MOST_IDS]) + (" …" if found["trials"] > MOST_IDS else "")
        whom = f"{plural(found['trials'], 'trial')} of {found['study']} / {found['arm']}"
        yield f"{span}: shared with {whom} up to {steps} ({ids})"
