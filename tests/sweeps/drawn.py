"""Random trials that share pasts: one family of trials has one task, one model and one base of optimiser terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from core.config import MeasureConfig, ModelConfig, TrainConfig, TrialConfig
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from core.task_terms import MarkovTask

Draw = st.DrawFn

STEPS = (24, 40, 60)


@dataclass(frozen=True, kw_only=True, repr=False)
class Drawn:
    """Trials, and one way to run them."""

    configs: tuple[TrialConfig, ...]
    first: int
    """So many are run before the others are asked for."""
    pack: int
    slots: int
    checkpoint_seconds: float

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For hypothesis: what the differences do not say; the trials, every default written out, fill a page each."""
        how = f"first={self.first}, pack={self.pack}, slots={self.slots}, seconds={self.checkpoint_seconds}"
        printer.text(f"Drawn({len(self.configs)} trials, {how}, base={self.configs[0]})")

    @property
    def schedules(self) -> set[tuple[Any, ...]]:
        """What the trials differ in beside their seeds and what is observed."""
        kept = {"evaluate_every": 1, "keep": "final"}
        return {(c.task, c.model, replace(c.train, **kept), c.schedule) for c in self.configs}


@st.composite
def families(draw: Draw, schedules: int = 8, seeds: int = 2) -> Drawn:
    """Trials of one family: so many schedules under so many seeds."""
    base = _base(draw)
    settings = [_setting(draw, base) for _ in range(schedules)]
    configs = [replace(each, seed=seed) for each in settings for seed in range(seeds)]
    return Drawn(
        configs=tuple(draw(st.permutations(configs))),
        first=draw(st.sampled_from([0, 0, 0, len(configs) // 3, len(configs) - 2])),
        pack=draw(st.integers(1, 8)),
        slots=draw(st.integers(1, 3)),
        checkpoint_seconds=draw(st.sampled_from([600.0, 600.0, 0.0])),  # 0: every unit ends at its first block
    )


def _base(draw: Draw) -> TrialConfig:
    def one(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    task = MarkovTask(states=4, chains=2, length=6, train_size=one(0, 32), val_size=8, data_seed=one(None, 5))
    model = ModelConfig(
        width=one(4, 8),
        loops=one(2, 3),
        mlp_ratio=one(0.0, 1.0),
        norm=one("none", "rms"),
        injection=one("none", "add"),
        loss_on=one("last", "all"),
        output=one("untied", "tied"),
    )
    train = TrainConfig(
        steps=STEPS[-1],
        batch=2,
        optimizer=one("adamw", "adamw", "sgd"),
        lr=one(3e-3, 3e-2, 30.0),
        weight_decay=one(0.0, 0.1),
        clip=one(0.0, 1.0),
        warmup=one(0, 6),
        lr_schedule=one("constant", "wsd", "wsd", "cosine"),
        precision=one("float32", "float32", "float64"),
    )
    return TrialConfig(task=task, model=model, train=train)


def _setting(draw: Draw, base: TrialConfig) -> TrialConfig:
    def one(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    steps = one(*STEPS)
    train = replace(
        base.train,
        steps=steps,
        evaluate_every=one(4, 7, 10, 60),
        keep=one("final", "final", "all", "none"),
        decay=one(0.25, 0.5, 10),
        lr_schedule=base.train.lr_schedule if base.train.lr_schedule == "cosine" else one("constant", "wsd"),
    )
    model = replace(base.model, loops=one(base.model.loops, base.model.loops, 4))
    measure = one(*[MeasureConfig()] * 5, MeasureConfig(quantities=("lambda_max",), at=(0, 9, steps), probe=4))
    kind = one(*["stages"] * 5, *["shift-scp"] * 3, "single", "looped", "shift", "grow", "linear-grow", "reverse")
    begun = {"lr_factor": one(1.0, 1.0, 0.5), "rewarm": one(0, 0, 5), "optimizer": one("keep", "keep", "reset")}
    drawn = {"draw": one("fixed", "fixed", "poisson-lognormal")}
    every = {"check_every": one(0, 1, 3, 5)}
    if kind == "stages":
        schedule = ScheduleConfig(kind="stages", stages=_stages(draw, steps), **every)
    elif kind == "shift-scp":
        schedule = ScheduleConfig(kind=kind, **_criterion(draw, one(0.5, 0.9, 1.0)), **begun, **drawn, **every)
    else:
        schedule = ScheduleConfig(kind=kind, switch=one(0.3, 10, 20), ramp=one(0.4, 1.0), **begun, **drawn)
    return replace(base, train=train, model=model, measure=measure, schedule=schedule)


def _criterion(draw: Draw, latest: float | int) -> dict[str, Any]:
    def one(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    return {
        "criterion": one("scp", "loss", "gradient"),
        "delta1": one(1e-9, 3e-3, 3e-2, 10.0),
        "delta2": one(1e-9, 3e-2, 0.3, 10.0),
        "patience": one(1, 2, 4),
        "change": one("relative", "absolute"),
        "on": one("val", "train"),
        "latest": latest,
    }


def _stages(draw: Draw, steps: int) -> tuple[StageConfig, ...]:
    ends: Sequence[int] = sorted(draw(st.sets(st.integers(1, steps - 1), max_size=3)))
    found = []
    for end in [*ends, None]:
        until: Any = end
        if end is not None and draw(st.integers(0, 2)):
            until = CriterionConfig(**_criterion(draw, end))
        found.append(
            StageConfig(
                loops=draw(st.sampled_from([None, 1, 2, 3])),
                until=until,
                lr_factor=draw(st.sampled_from([1.0, 1.0, 2.0])),
                rewarm=draw(st.sampled_from([0, 0, 4])),
                optimizer=draw(st.sampled_from(["keep", "keep", "reset"])),
                draw=draw(st.sampled_from(["fixed", "fixed", "poisson-lognormal"])),
            )
        )
    return tuple(found)
