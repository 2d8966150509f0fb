"""Controls: arms that have as many parameters, or take as many FLOPs, as another arm, setting by setting.

An arm with ``match`` is a *control* of the arm `Match.to`. For each setting of that arm (base, axes, nuisance axes) it
has one of its own: the same values, the control's own terms over them (a single pass where it says nothing), and one
term, `Match.by`, set to the whole number that brings its parameters or FLOPs nearest. Against (k ⊗ L), k blocks looped
L times, that is (k ⊗ 1) at equal parameters and (kL ⊗ 1) at equal FLOPs (Saunshi et al. 2025, arXiv 2502.17416).

Numbers are those of `core.flops`. Drawn loops count as their mean, so that a control is the same whatever the seed;
where a criterion decides, FLOPs are not known before rows are, and there is no match. Nothing within `TOLERANCE` is an
error and no worse control, and so is a match that the values of nuisance axes would decide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from core.config import ModelConfig, TrainConfig, TrialConfig
from core.errors import InputError, Problem
from core.flops import expected_flops, parameters
from core.lineage import acting_keys, stages, trial_id, watch
from core.schedule import declared, placed
from core.terms import nearest, terms
from studies.grid import Assignment
from studies.nested import shown, written
from studies.settings import ArmSettings, Setting

TOLERANCE = 0.05
"""Largest distance of a control from what it is matched to, relative to that."""

Kind = Literal["parameters", "flops"]
Way = Literal["model.depth", "model.width", "train.steps"]
KINDS: tuple[str, ...] = get_args(Kind)
WAYS: tuple[str, ...] = get_args(Way)

_NUMBERS = {"parameters": "parameters", "flops": "FLOPs"}
_OTHERWISE = {
    ("parameters", "model.depth"): 'write match_by = "model.width"',
    ("parameters", "model.width"): 'lower model.heads, or write match_by = "model.depth"',
    ("flops", "model.depth"): 'write match_by = "train.steps"',
    ("flops", "model.width"): 'write match_by = "train.steps" or "model.depth"',
    ("flops", "train.steps"): 'write match_by = "model.depth"',
}


@dataclass(frozen=True, kw_only=True)
class Match:
    """What makes an arm a control."""

    kind: Kind
    """What is equal: the number of parameters, or training FLOPs alone."""
    to: str
    """The arm that it is matched to."""
    by: Way
    """The term that is chosen."""
    own: Mapping[str, Mapping[str, Any]]
    """By section, the control's own terms; they lie over the axes of the other arm."""


def parse_match(name: str, arms: Mapping[str, Mapping[str, Any]], problems: list[Problem]) -> Match | None:
    """What makes an arm a control, without its own terms; None where it is none, or what it says leaves that open.

    Args:
        name: of the arm.
        arms: the tables of all arms.
        problems: receives every problem found.
    """

    def wrong(key: str, message: str) -> None:
        problems.append(Problem(f"arms.{name}.{key}", message))

    table = arms[name]
    kind, by = table.get("match"), table.get("match_by", "model.depth")
    if kind is None:
        for key in ("match_to", "match_by"):
            if key in table:
                wrong(key, "acts only beside `match`; add it, or drop this")
        return None
    if kind not in KINDS or by not in WAYS:  # the grammar says so
        return None
    others = [other for other, their in arms.items() if other != name and "match" not in their]
    to = table.get("match_to", others[0] if len(others) == 1 else None)
    if to is None:
        wrong("match_to", f"is required; arms without `match` are {', '.join(others) or 'none'}")
        return None
    if to not in others:
        is_arm = isinstance(to, str) and to in arms
        rule = "must be another arm, without a match of its own" if is_arm else "no such arm"
        wrong("match_to", f"{rule}, got {to!r}; {nearest(str(to), others)}")
        return None
    if kind == "parameters" and by == "train.steps":
        wrong("match_by", 'parameters do not depend on it; write "model.depth" or "model.width", or match = "flops"')
    section, _, term = by.partition(".")
    if isinstance(own := table.get(section), dict) and term in own:
        wrong(by, "is chosen by the match; drop it, or name another term in match_by")
    if table.get("task"):
        wrong("task", f"a control has the task of the arm it is matched to, {to}; drop this")
    if table.get("axes"):
        wrong("axes", f"a control has the axes of the arm it is matched to; add them to arms.{to}")
    return Match(kind=kind, to=to, by=by, own={})


class ControlSettings(ArmSettings):
    """The settings of a control, one for each setting of the arm that it is matched to."""

    def __init__(
        self,
        arm: str,
        values: Mapping[str, Mapping[str, Any]],
        *,
        match: Match,
        target: ArmSettings,
        tuned: Collection[str] = (),
        **study: Any,
    ) -> None:
        """Takes a control.

        Args:
            arm: its name.
            values: of the arm that it is matched to, so that filters see those, with this arm's name.
            match: how it is matched.
            target: the settings of that arm.
            tuned: keys of nuisance axes.
            study: `measure` and `where`, as for any arm.
        """
        super().__init__(arm, values, over=match.own, **study)
        self._match = match
        self._target = target
        self._tuned = frozenset(tuned)
        self._found: dict[tuple[Any, ...], int] = {}
        self._chosen: dict[Assignment, int] = {}
        self._paired: dict[tuple[str, str], dict[str, Any]] = {}
        own = {f"{section}.{name}" for section, given in match.own.items() for name in given}
        forms = {"schedule.kind", "schedule.stages"}  # a list of stages and a short form displace each other
        self._own = own | forms if own & forms else own

    def setting(self, assignment: Assignment) -> Setting | None:
        """The control of a setting; None where there is no such setting, or a filter drops the control.

        Raises:
            InputError: where it breaks a rule between terms, or nothing is near; the problems name the assignment.
        """
        try:
            target = self._target.setting(assignment)
        except InputError:  # the other arm says it
            return None
        if target is None or not self._stays(assignment):
            return None
        texts = {key: written(value) for key, value in assignment}
        assigned = self._by_section(assignment, texts)
        by = self._match.by
        start = self._built(assigned, {by: self._quantum(assigned)} if by == "model.width" else {}, assignment)
        chosen = self._nearest(target.config, start, assignment)
        config = self._built(assigned, {by: chosen}, assignment)
        acting = acting_keys(config)
        varied = {key: text for key, text in texts.items() if key in acting and key != by and key not in self._own}
        paired = {key: text for key, text in texts.items() if key in target.varied or key in varied}
        # Of settings that are one trial on either side the first stays: a share of the steps, and the step that it is.
        paired = self._paired.setdefault((trial_id(target.config), trial_id(config)), paired)
        return Setting(config=config, varied={**varied, by: chosen}, assignment=assignment, paired=paired)

    def keeps(self, setting: Setting, seed: int) -> bool:
        """Whether the filters that read the seed keep it and the setting that it is matched to."""
        return super().keeps(setting, seed) and self._target.keeps(setting, seed)

    def _built(self, assigned: BySection, last: Mapping[str, int], assignment: Assignment) -> TrialConfig:
        try:
            return self._config(assigned, last)
        except InputError as error:
            raise InputError([self._located(problem, assignment) for problem in error.problems]) from error

    def _quantum(self, assigned: BySection) -> int:
        """What a width is a multiple of: the heads, and twice as much where positions are rotary."""
        model = self._layers("model", assigned.get("model", ()))
        heads = int(model.get("heads", terms(ModelConfig)["heads"].default))
        return 2 * heads if model.get("position") == "rotary" else heads

    def _nearest(self, target: TrialConfig, own: TrialConfig, assignment: Assignment) -> int:
        """The value of `by` with which a control comes nearest to a trial.

        Raises:
            InputError: where it does not come within `TOLERANCE`, where a criterion decides, or where another setting
                that differs in nuisance axes alone has another.
        """
        place = *_costs(target), *_costs(own)
        chosen = self._found.get(place)
        if chosen is None:
            self._decided(target, self._match.to)
            self._decided(own, self.arm)
            chosen = self._found[place] = self._searched(target, own, assignment)
        if self._tuned:
            compared = tuple(pair for pair in assignment if pair[0] not in self._tuned)
            if self._chosen.setdefault(compared, chosen) != chosen:
                number, to = _NUMBERS[self._match.kind], self._match.to
                message = f"nuisance axes change the {number} of arm {to}, and which value wins is not known before it"
                way = "move the axis that does into [axes], or match_to another arm"
                raise self._refused("match", f"{message} is trained; {way}", assignment)
        return chosen

    def _decided(self, config: TrialConfig, arm: str) -> None:
        """Refuses FLOPs that depend on what a criterion decides."""
        if self._match.kind == "flops" and watch(config) is not None:
            message = f'the FLOPs of arm {arm} are not known before its criteria decide; write match = "parameters"'
            raise InputError([Problem(f"arms.{self.arm}.match", message)])

    def _searched(self, target: TrialConfig, own: TrialConfig, assignment: Assignment) -> int:
        kind, by = self._match.kind, self._match.by
        wanted, of = cost(kind, target), cost_by(kind, by, own)
        chosen = nearest_whole(wanted, of, allowed(by, step=own.model.width if by == "model.width" else 1))
        got = of(chosen)
        if abs(got - wanted) > TOLERANCE * wanted:
            rule = f"no {by} comes within {100 * TOLERANCE:g} % of the {_NUMBERS[kind]} of arm {self._match.to}"
            detail = f"{wanted:,} wanted, {by} = {chosen} has {got:,}"
            raise self._refused("match_by", f"{rule}; {_OTHERWISE[kind, by]}", assignment, detail)
        return chosen

    def _refused(self, key: str, message: str, assignment: Assignment, detail: str = "") -> InputError:
        values = ", ".join(f"{name} = {shown(value)}" for name, value in assignment)
        said = ": ".join(text for text in (values, detail) if text)
        return InputError([Problem(f"arms.{self.arm}.{key}", f"{message} (with {said})")])


BySection = Mapping[str, Sequence[tuple[str, type, Any, Any]]]
"""As `ArmSettings` takes what is assigned."""


def _costs(config: TrialConfig) -> tuple[int, ...]:
    """What parameters and FLOPs of a trial depend on; its sections live as long as the makers of settings do."""
    return id(config.task), id(config.model), id(config.schedule), config.train.steps, config.train.batch


def cost(kind: Kind, config: TrialConfig) -> int:
    """The number that is matched: parameters, or the FLOPs of a trial whose stages are all fixed."""
    return parameters(config) if kind == "parameters" else expected_flops(config, stages(config))


def cost_by(kind: Kind, by: Way, config: TrialConfig) -> Callable[[int], int]:
    """The number that is matched, as a function of the term that is chosen; it never falls.

    Rules between terms are not tried: what does not suit the value that is found is said of that one.
    """
    if by == "train.steps":
        if kind == "parameters":
            raise ValueError("parameters do not depend on train.steps")
        model, train, schedule = config.model, config.train, config.schedule
        return lambda steps: expected_flops(
            config, placed(declared(model, replace(train, steps=steps), schedule), ())[0]
        )
    found = () if kind == "parameters" else stages(config)

    def of(number: int) -> int:
        other = replace(config.model, depth=number) if by == "model.depth" else replace(config.model, width=number)
        one = replace(config, model=other)
        return parameters(one) if kind == "parameters" else expected_flops(one, found)

    return of


def allowed(by: Way, *, step: int = 1) -> range:
    """The values that a term may take, a multiple of `step` each."""
    section, _, name = by.partition(".")
    bounds = terms(TrainConfig if section == "train" else ModelConfig)[name].metadata["bounds"]
    return range(step, int(bounds.le) + 1, step)


def nearest_whole(wanted: int, of: Callable[[int], int], values: range) -> int:
    """The value whose number is nearest to the one that is wanted; of two that are as near the smaller.

    Args:
        wanted: the number.
        of: the number of a value; never falls as values grow.
        values: ascending, not empty.
    """
    after = bisect_left(values, wanted, key=of)
    near = values[max(after - 1, 0) : after + 1]
    return min(near, key=lambda value: (abs(of(value) - wanted), value))
