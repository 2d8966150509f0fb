"""The rows of the view `trials` as far as configurations and segments decide them; the view adds what metrics say.

Trials of a grid differ in few sections, and whole sections are the same objects in many of them: what depends on a
section alone is worked out once for each object, so that 10^5 trials take seconds. (Not for each *equal* object: a step
of 1 and a share of 1.0 are equal, and not the same text.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from core.config import TrialConfig
from core.flops import flops_alone, parameters
from core.lineage import canonical_json
from studies.cost import Reach, alone_seconds, spent_shares, step_times
from studies.coverage import ChainState, Coverage
from studies.nested import written
from studies.switches import switches

if TYPE_CHECKING:
    from studies.expand import Trial

_TIME = pa.timestamp("us", tz="UTC")


OF_OBJECTIVES = frozenset({"trial_id", "status", "steps", "flops_alone", "alone_s"})
"""The columns that `studies.objectives` reads; a search asks for them again and again."""


def trial_rows(
    trials: Sequence[Trial],
    chains: Sequence[ChainState],
    coverage: Coverage,
    ends: Reach,
    calibrations: pa.Table,
    *,
    only: Collection[str] | None = None,
) -> tuple[pa.Table, list[str]]:
    """One row per trial, in their order; and the names of the varied keys among the columns.

    Args:
        trials: of any studies.
        chains: what is recorded of each.
        coverage: of the store.
        ends: by trial_id, the step up to which each of its links is known to be its own.
        calibrations: the table.
        only: the columns that are wanted; default: all, and those of the varied keys.
    """
    of_config, columns = _OfConfig(), dict[str, Any]()

    def wanted(*names: str) -> bool:
        return only is None or any(name in only for name in names)

    columns |= {name: pa.array([read(t) for t in trials], kind) for name, kind, read in _FROM_TRIAL if wanted(name)}
    if wanted("config"):
        columns["config"] = pa.array([of_config.text(t.config) for t in trials], pa.string())
    if wanted("parameters"):
        columns["parameters"] = pa.array([of_config.parameters(t.config) for t in trials], pa.int64())
    if wanted("flops_alone"):
        columns["flops_alone"] = pa.array([of_config.flops_alone(t) for t in trials], pa.int64())
    columns |= {name: pa.array([of(c) for c in chains], kind) for name, kind, of in _FROM_CHAIN if wanted(name)}
    if wanted("flops_spent", "spent_s"):
        shares = spent_shares(trials, chains, coverage, ends)
        columns["flops_spent"] = pa.array([share and share.flops for share in shares], pa.float64())
        columns["spent_s"] = pa.array([share and share.seconds for share in shares], pa.float64())
    if wanted("alone_s"):
        times, pairs = step_times(calibrations), zip(trials, chains, strict=True)
        columns["alone_s"] = pa.array([alone_seconds(*pair, times) if times else None for pair in pairs], pa.float64())
    if only is not None:
        return pa.table(columns), []
    varied = list(dict.fromkeys(key for keys in dict.fromkeys(tuple(t.varied) for t in trials) for key in keys))
    settings = {id(trial.varied): trial.varied for trial in trials}  # the seeds of one share it
    texts = {known: _setting(values) for known, values in settings.items()}
    columns["setting"] = pa.array([texts[id(trial.varied)] for trial in trials], pa.string())
    for key in varied:
        columns[key] = _varied_column([trial.varied.get(key) for trial in trials])
    return pa.table(columns), varied


def _of_last(column: str) -> Callable[[ChainState], Any]:
    return lambda chain: chain.coverage.value(column, chain.rows[-1]) if chain.rows else None


def _first_switch(trial: Trial) -> int | None:
    return next((link.start for link in switches(trial.links)), None)


_FROM_TRIAL: tuple[tuple[str, Any, Callable[[Trial], Any]], ...] = (
    ("trial_id", pa.string(), lambda t: t.trial_id),
    ("study", pa.string(), lambda t: t.study),
    ("arm", pa.string(), lambda t: t.arm),
    ("role", pa.string(), lambda t: t.role),
    ("seed", pa.int64(), lambda t: t.config.seed),
    ("steps", pa.int64(), lambda t: t.config.train.steps),
    ("switch_step", pa.int64(), _first_switch),
    ("switches", pa.int64(), lambda t: None if t.watch is not None else len(switches(t.links))),
)

_FROM_CHAIN: tuple[tuple[str, Any, Callable[[ChainState], Any]], ...] = (
    ("status", pa.string(), lambda c: c.status),
    ("attempts", pa.int32(), lambda c: c.attempts),
    ("numerics_class", pa.string(), lambda c: "; ".join(c.numerics_classes) or None),
    ("pack_size", pa.int32(), _of_last("pack_size")),
    ("error", pa.string(), lambda c: c.error),
    ("started_at", _TIME, lambda c: c.started_at),
    ("finished_at", _TIME, lambda c: c.finished_at),
    ("provenance", pa.string(), _of_last("provenance")),
)


class _OfConfig:
    """What follows from configurations, once for each object behind it. The trials keep these alive meanwhile."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, ...], tuple[str, str]] = {}
        self._parameters: dict[tuple[int, int], int] = {}
        self._flops: dict[tuple[Any, ...], int] = {}

    def text(self, config: TrialConfig) -> str:
        """Canonical JSON of a configuration."""
        key = _sections(config)
        around = self._texts.get(key)
        if around is None:
            whole = config.to_dict()
            before = canonical_json({name: value for name, value in whole.items() if name < "seed"})
            after = canonical_json({name: value for name, value in whole.items() if name > "seed"})
            around = self._texts[key] = before.removesuffix("}") + ',"seed":', "," + after.removeprefix("{")
        return f"{around[0]}{config.seed}{around[1]}"

    def parameters(self, config: TrialConfig) -> int:
        """Number of trained parameters."""
        key = id(config.model), id(config.task)
        if key not in self._parameters:
            self._parameters[key] = parameters(config)
        return self._parameters[key]

    def flops_alone(self, trial: Trial) -> int | None:
        """What a trial costs by itself; None while a criterion that it waits for decides that."""
        if trial.watch is not None:
            return None
        config = trial.config
        if any(link.draw is not None for link in trial.links):  # drawn by the seed
            return flops_alone(config, chain=trial.links)
        key = *_sections(config), trial.ended
        if key not in self._flops:
            self._flops[key] = flops_alone(config, chain=trial.links)
        return self._flops[key]


def _sections(config: TrialConfig) -> tuple[int, ...]:
    return id(config.task), id(config.model), id(config.train), id(config.schedule), id(config.measure)


def _varied_column(values: Sequence[Any]) -> Any:
    """Values of an axis as one type: integers, numbers, truth values or text; lists as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    for kind, allowed in (
        (pa.bool_(), {bool}),
        (pa.int64(), {int}),
        (pa.float64(), {int, float}),
        (pa.string(), {str}),
    ):
        if kinds <= allowed:
            return pa.array([float(v) if v is not None and pa.types.is_floating(kind) else v for v in values], kind)
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _setting(varied: Mapping[str, Any]) -> str:
    """What is varied and acts on a trial, as one text: ``model.loops = 3, train.lr = 0.001``."""
    return ", ".join(f"{key} = {_text(value)}" for key, value in varied.items())


def _text(value: Any) -> str:
    text = written(value)
    return text if isinstance(text, str) else canonical_json(text)
