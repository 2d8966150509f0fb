"""Identity and lineage: what acts decides, what does not act changes nothing, a shared past is a shared lineage."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any, get_args, get_origin

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.config import SECTIONS, MeasureConfig, TrialConfig, trial_config
from core.errors import InputError
from core.lineage import (
    acting_keys,
    canonical_json,
    identity_json,
    links,
    pack_shape,
    stages,
    trial_id,
    under_seeds,
    watch,
)
from core.observation import Asked, asked, evaluation_steps, measurement_steps, with_measure
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from core.task_terms import MarkovTask
from core.terms import check, hints, terms

VALUES: dict[str, dict[str, list[Any]]] = {
    "task": {
        "states": [8, 16],
        "chains": [2, 8],
        "low_share": [0.0, 0.5, 1.0],
        "alpha_low": [0.05, 0.1],
        "alpha_high": [1.0, 2.0],
        "length": [8, 32],
        "train_size": [0, 4096],
        "val_size": [64, 512],
        "strata": ["quantile", "chain"],
        "data_seed": [None, 0, 7],
    },
    "model": {
        "width": [16, 32],
        "heads": [1, 2],
        "depth": [1, 2],
        "loops": [1, 2, 3],
        "prelude": [0, 1],
        "coda": [0, 1],
        "mlp_ratio": [0.0, 2.0],
        "attention": ["softmax", "linear"],
        "attention_scale": ["sqrt", "none"],
        "norm": ["none", "layer", "rms"],
        "position": ["learned", "none", "rotary"],
        "injection": ["none", "add"],
        "output": ["untied", "tied"],
        "loss_on": ["last", "all"],
        "loops_by": ["fixed"],  # "length" needs another task: tests/core/test_loops_by_length.py
        "loops_offset": [0, 1],
        "backprop_loops": [0, 1, 2],
        "timestep": ["none", "sinusoidal"],
        "init_scale": [1.0, 0.5],
    },
    "train": {
        "steps": [40, 100],
        "batch": [8, 64],
        "optimizer": ["adamw", "sgd"],
        "lr": [1e-3, 3e-3],
        "beta1": [0.9, 0.8],
        "beta2": [0.999, 0.95],
        "eps": [1e-8, 1e-6],
        "momentum": [0.9, 0.0],
        "weight_decay": [0.0, 0.1],
        "clip": [0.0, 1.0],
        "warmup": [0, 10],
        "lr_schedule": ["constant", "cosine", "wsd"],
        "lr_final": [0.0, 0.1],
        "decay": [0.2, 0.5, 1.0, 1, 10],
        "precision": ["float32", "bf16", "float64"],
        "evaluate_every": [100, 7],
        "keep": ["final", "all", "none"],
    },
    "schedule": {
        "kind": ["single", "looped", "shift", "shift-scp", "grow", "linear-grow", "reverse", "stages"],
        "switch": [0.5, 0.25, 1, 10, 30],
        "ramp": [0.5, 1.0, 1, 3],
        "criterion": ["scp", "loss", "gradient"],
        "delta1": [0.01, 0.1],
        "delta2": [0.1, 0.5],
        "patience": [3, 1],
        "change": ["relative", "absolute"],
        "on": ["val", "train"],
        "latest": [0.9, 1.0, 1, 30],
        "check_every": [0, 7, 50, 100],
        "lr_factor": [1.0, 0.5],
        "rewarm": [0, 1, 5, 20],
        "optimizer": ["keep", "reset"],
        "draw": ["fixed", "poisson-lognormal"],
        "sigma": [0.5, 0.0],
        "stages": [
            [],
            [{}],
            [{"loops": 1, "until": 0.5}, {"lr_factor": 0.5, "rewarm": 5}],
            [{"loops": 1, "until": 20}, {"loops": 1, "until": {"criterion": "loss"}}, {"optimizer": "reset"}],
            [{"loops": 2, "until": {"latest": 1.0}}, {"until": {"latest": 1.0}}, {"loops": 1}],
            [{"rewarm": 10, "until": 5}, {"until": 20}, {"draw": "poisson-lognormal", "sigma": 0.3}],
        ],
    },
    "measure": {
        "quantities": [[], ["lambda_max"]],
        "every": [0, 20],
        "at": [[], [0, 5]],
        "probe": [32, 8],
        "exact": [5000, 0],
        "products": [256, 8],
        "top": [10, 1],
        "vectors": [8, 4],
        "nodes": [48, 4],
        "rho": [0.05, 1.0],
        "adaptive_rho": [0.5, 1.0],
        "loops": [3, 2],
        "points": [12, 1],
        "radius": [1.0, 0.5],
        "window": [16, 2],
        "decay": [100, 1],
        "lag": [50, 1],
        "test_loops": [[1, 2, 4, 8], [3]],
    },
}
"""Some values of every term, the default first; any combination makes a trial unless a rule forbids it.

Stages are listed exactly where the kind is "stages" (`values_of_schedule`).
"""
INSIDE: dict[type, dict[str, list[Any]]] = {
    StageConfig: {
        "loops": [None, 1, 2],
        "until": [None, 0.5, 20, {"latest": 0.5}],
        "lr_factor": [1.0, 0.5],
        "rewarm": [0, 3],
        "optimizer": ["keep", "reset"],
        "draw": ["fixed", "poisson-lognormal"],
        "sigma": [0.5, 0.1],
    },
    CriterionConfig: {
        "criterion": ["scp", "loss", "gradient"],
        "delta1": [0.01, 0.1],
        "delta2": [0.1, 0.5],
        "patience": [3, 1],
        "change": ["relative", "absolute"],
        "on": ["val", "train"],
        "latest": [0.9, 1.0, 30],
    },
}
"""Likewise of the terms of a stage and of a criterion in a list of stages."""


@st.composite
def listed_stages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A list of stages: one of the table's, or any three."""
    if draw(st.booleans()):
        return draw(st.sampled_from(VALUES["schedule"]["stages"][1:]))
    stages = [
        {name: draw(st.sampled_from(options)) for name, options in INSIDE[StageConfig].items()}
        for _ in range(draw(st.integers(1, 3)))
    ]
    for number, stage in enumerate(stages, start=1):
        if number == len(stages):
            stage["until"] = None
        elif draw(st.booleans()):
            criterion = {name: draw(st.sampled_from(options)) for name, options in INSIDE[CriterionConfig].items()}
            stage["until"] = criterion | {"latest": draw(st.sampled_from([number * 12, 1.0]))}
        else:
            stage["until"] = number * 10
    return stages


@st.composite
def nested(draw: st.DrawFn) -> dict[str, Any]:
    """Plain values of a whole trial; those that break a rule between terms are not drawn."""
    values: dict[str, Any] = {
        section: {name: draw(st.sampled_from(options)) for name, options in options_of.items()}
        for section, options_of in VALUES.items()
    }
    values["schedule"]["stages"] = draw(listed_stages()) if values["schedule"]["kind"] == "stages" else []
    values["seed"] = draw(st.integers(0, 3))
    model = values["model"]
    if model["injection"] == "none" or model["loss_on"] == "all":
        model["backprop_loops"] = 0
    try:
        trial_config(values)
    except InputError:
        assume(False)
    return values


def build(**sections: Any) -> TrialConfig:
    return trial_config(sections)


def lineages(config: TrialConfig) -> list[str]:
    return [link.lineage for link in links(config)]


# --- what acts decides ---------------------------------------------------------------------------------------------


def test_the_table_of_values_covers_every_term() -> None:
    assert {section: set(terms(cls)) for section, cls in SECTIONS.items()} == {
        section: set(VALUES[section]) for section in SECTIONS
    }
    assert set(terms(MarkovTask)) == set(VALUES["task"]) | {"kind"}
    assert all(set(terms(cls)) == set(values) for cls, values in INSIDE.items())


@settings(max_examples=200)
@given(nested(), st.data())
def test_a_term_changes_the_trial_exactly_where_it_acts(values: dict[str, Any], data: st.DataObject) -> None:
    config = trial_config(values)
    section = data.draw(st.sampled_from(sorted(VALUES)))
    name = data.draw(st.sampled_from(sorted(VALUES[section])))
    other = data.draw(st.sampled_from(VALUES[section][name]))
    assume((type(other), other) != (type(values[section][name]), values[section][name]))
    moved = {**values[section], name: other}
    if name == "kind":  # a list of stages goes with its kind
        moved["stages"] = VALUES["schedule"]["stages"][2] if other == "stages" else []
    try:
        changed = trial_config({**values, section: moved})
    except InputError:
        assume(False)
    key = f"{section}.{name}"
    if key not in acting_keys(config) | acting_keys(changed):
        assert trial_id(changed) == trial_id(config)
        assert links(changed) == links(config)
    elif section == "schedule" or key in THROUGH_STAGES:
        assert (trial_id(changed) == trial_id(config)) == (decided(changed) == decided(config))
    else:
        assert trial_id(changed) != trial_id(config)


THROUGH_STAGES = (
    *("model.loops", "model.injection", "model.loss_on", "model.backprop_loops"),
    *("train.decay", "train.evaluate_every"),
)
"""What acts through the stages that it gives, as all of the schedule does."""


def decided(config: TrialConfig) -> tuple[Any, ...]:
    """Stages of a trial as far as known, what it waits for, and so on for every way in which its criteria may end."""
    chain = [(link.start, link.end, link.stage, link.loops, link.injection, link.loss_on) for link in links(config)]
    acting = [(k.decay, k.draw, k.backprop, k.lr_factor, k.rewarm, k.reset) for k in links(config)]
    later = []
    ended: tuple[int, ...] = ()
    while (waits := watch(config, ended)) is not None:
        ended = (*ended, waits.start + 1)
        later.append((waits, stages(config, ended)))
    train = config.train  # its decay may cut a stage that is not known yet
    decay = (train.decay_steps, train.lr_final) if later and train.lr_schedule == "wsd" else None
    return chain, acting, later, decay


@settings(max_examples=100)
@given(nested(), nested())
def test_equal_ids_mean_equal_identities(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, two = trial_config(first), trial_config(second)
    assert (trial_id(one) == trial_id(two)) == (identity_json(one) == identity_json(two))
    assert identity_json(one) == canonical_json(json.loads(identity_json(one)))


@given(nested())
def test_what_is_observed_is_not_identity(values: dict[str, Any]) -> None:
    config = trial_config(values)
    config = replace(config, schedule=replace(config.schedule, check_every=config.schedule.check_every or 9))
    observed = with_measure(config, MeasureConfig(quantities=("lambda_max",), every=1, probe=2))
    kept = replace(observed, train=replace(observed.train, keep="all", evaluate_every=3))
    assert trial_id(kept) == trial_id(config)
    assert lineages(kept) == lineages(config)
    observing = {f"train.{name}" for name, term in terms(SECTIONS["train"]).items() if not term.metadata["identity"]}
    assert observing >= {"train.evaluate_every", "train.keep"}
    assert not {key for key in acting_keys(config) if key in observing or key.startswith("measure.")}


@given(nested())
def test_the_written_form_is_the_trial(values: dict[str, Any]) -> None:
    config = trial_config(values)
    written = json.loads(json.dumps(config.to_dict()))
    assert trial_config(written) == config
    assert set(written) == {"task", "seed", *SECTIONS}
    assert all(set(written[section]) == set(terms(cls)) for section, cls in SECTIONS.items())


@given(nested(), st.lists(st.integers(0, 2**63 - 1), max_size=5))
def test_seeds_of_one_setting_are_the_trials_one_by_one(values: dict[str, Any], seeds: list[int]) -> None:
    config = trial_config(values)
    expected = [replace(config, seed=seed) for seed in seeds]
    assert list(under_seeds(config, seeds)) == [(trial, trial_id(trial), links(trial)) for trial in expected]


def test_defaults_written_out_are_the_silent_ones() -> None:
    whole = {section: {name: options[0] for name, options in values.items()} for section, values in VALUES.items()}
    whole["task"]["strata"] = "chain"
    whole["task"].update(states=16, chains=8, low_share=0.5, length=32, train_size=4096, val_size=512)
    whole["model"].update(width=32, loops=3)
    whole["train"].update(steps=3000, batch=64)
    whole["schedule"]["kind"] = "looped"
    whole["measure"]["at"] = []
    assert trial_config(whole) == TrialConfig()
    assert trial_id(trial_config({})) == trial_id(trial_config(whole))


def test_an_integer_given_for_a_number_is_that_number() -> None:
    assert trial_id(build(model={"mlp_ratio": 2})) == trial_id(build(model={"mlp_ratio": 2.0}))


def test_minus_zero_is_zero() -> None:
    """They are equal to a cache, so with two texts the id would depend on which was seen first."""
    text = identity_json(build(train={"weight_decay": -0.0}))
    assert "-0.0" not in text
    assert text == identity_json(build(train={"weight_decay": 0.0}))


def test_the_default_trial_is_pinned() -> None:
    """A golden value: a change of the canonical form orphans every recorded row, so it must be meant."""
    assert trial_id(TrialConfig()) == "6d0acd71e72e7c47"
    assert lineages(TrialConfig()) == ["5c7fc50d237cb758"]


# --- stages and lineage --------------------------------------------------------------------------------------------


@given(nested(), st.data())
def test_links_tile_the_trial_and_follow_its_stages(values: dict[str, Any], data: st.DataObject) -> None:
    config = trial_config(values)
    ended: tuple[int, ...] = ()
    while (waits := watch(config, ended)) is not None:
        chain = links(config, ended)
        assert chain[-1].end == waits.criterion.latest
        assert chain[-1].stage == waits.stage
        ended = (*ended, data.draw(st.integers(waits.start + 1, waits.criterion.latest)))
        for before, after in zip(chain, links(config, ended), strict=False):
            if before.start < ended[-1]:  # what has been trained stays as it is, wherever the criterion ends the stage
                assert (before.lineage, before.start) == (after.lineage, after.start)
    chain, resolved = links(config, ended), stages(config, ended)
    for pieces in (chain, resolved):
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert all(piece.start < piece.end for piece in pieces)
        assert pieces[-1].end == config.train.steps
    for link in chain:
        stage = resolved[link.stage]
        assert stage.start <= link.start < link.end <= stage.end
        acting = (stage.acting.loops, stage.acting.injection, stage.acting.loss_on, stage.acting.draw)
        assert (link.loops, link.injection, link.loss_on, link.draw) == acting
        assert (link.lr_factor, link.rewarm is not None) == (stage.acting.lr_factor, stage.acting.rewarm > 0)
    assert len({link.lineage for link in chain}) == len(chain)


def test_shift_shares_the_trunk_of_single_up_to_its_switch() -> None:
    single = build(schedule={"kind": "single"}, train={"steps": 100})
    shifts = [build(schedule={"kind": "shift", "switch": at}, train={"steps": 100}) for at in (10, 30, 0.5)]
    loops = [build(schedule={"kind": "shift", "switch": 10}, model={"loops": n}) for n in (2, 3)]
    trunks = {lineages(config)[0] for config in (single, *shifts, *loops)}
    assert trunks == set(lineages(single))
    assert len({lineages(config)[1] for config in (*shifts, *loops)}) == 4  # 10 with 3 loops is one trial's past twice
    assert [links(config)[0].end for config in shifts] == [10, 30, 50]


def test_looped_at_one_loop_is_single_and_shift_to_one_loop_too() -> None:
    single = build(schedule={"kind": "single"})
    for kind in ("looped", "shift"):
        assert trial_id(build(schedule={"kind": kind}, model={"loops": 1})) == trial_id(single)


def test_a_fraction_and_the_step_it_means_are_one_trial() -> None:
    by = [
        build(schedule={"kind": "shift", "switch": switch}, train={"steps": 101, "lr_schedule": "wsd", "decay": decay})
        for switch, decay in ((0.5, 0.2), (51, 20))  # 50.5 rounds half up
    ]
    assert stages(by[0])[1].start == 51
    assert trial_id(by[0]) == trial_id(by[1])


def test_the_length_of_a_constant_run_is_no_part_of_its_past() -> None:
    short, long = build(train={"steps": 100}), build(train={"steps": 200})
    assert lineages(short) == lineages(long)
    assert trial_id(short) != trial_id(long)


def test_wsd_shares_its_stable_phase_with_constant_and_other_decays() -> None:
    constant = build(train={"steps": 100})
    decays = [
        build(train={"steps": steps, "lr_schedule": "wsd", "decay": decay, "lr_final": final})
        for steps, decay, final in ((100, 20, 0.0), (100, 0.5, 0.0), (60, 20, 0.0), (100, 20, 0.1))
    ]
    assert {lineages(config)[0] for config in decays} == set(lineages(constant))
    assert [[(link.start, link.end) for link in links(config)] for config in decays] == [
        [(0, 80), (80, 100)],
        [(0, 50), (50, 100)],
        [(0, 40), (40, 60)],
        [(0, 80), (80, 100)],
    ]
    assert len({lineages(config)[1] for config in decays}) == 4
    assert links(decays[3])[1].decay == (80, 20, 0.1)


def test_a_wsd_decay_may_begin_in_either_stage_of_a_shift() -> None:
    def chain(switch: int, decay: int) -> list[tuple[int, int, int, bool]]:
        train = {"steps": 100, "lr_schedule": "wsd", "decay": decay}
        config = build(schedule={"kind": "shift", "switch": switch}, train=train)
        return [(link.start, link.end, link.loops, link.decay is not None) for link in links(config)]

    assert chain(50, 20) == [(0, 50, 1, False), (50, 80, 3, False), (80, 100, 3, True)]
    assert chain(50, 50) == [(0, 50, 1, False), (50, 100, 3, True)]
    assert chain(50, 70) == [(0, 30, 1, False), (30, 50, 1, True), (50, 100, 3, True)]


def test_cosine_depends_on_its_length_from_the_start() -> None:
    cosine = [build(train={"steps": steps, "lr_schedule": "cosine"}) for steps in (100, 200)]
    floor = build(train={"steps": 100, "lr_schedule": "cosine", "lr_final": 0.1})
    constant = build(train={"steps": 100})
    assert len({lineages(config)[0] for config in (*cosine, floor, constant)}) == 4


@pytest.mark.parametrize(("steps", "order"), [(123, (1, 1.0)), (124, (1.0, 1))])  # other steps: a cache of its own
def test_one_update_of_decay_is_not_the_share_one(steps: int, order: tuple[float, float]) -> None:
    """1 == 1.0 to a cache; to a schedule one is a single update, the other the whole run."""
    starts = {
        type(decay): links(build(train={"steps": steps, "lr_schedule": "wsd", "decay": decay}))[-1].start
        for decay in order
    }
    assert starts == {int: steps - 1, float: 0}


@settings(max_examples=100)
@given(nested(), nested())
def test_a_shared_lineage_is_a_shared_past(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Of two trials that differ only in what is to come, the links that began before the difference are the same."""
    one = trial_config(first)
    two = trial_config({**first, "schedule": second["schedule"], "model": {**first["model"], "loops": 2}})
    common = 0
    for a, b in zip(links(one), links(two), strict=False):
        if replace(a, lineage="", end=0) != replace(b, lineage="", end=0):
            break
        assert a.lineage == b.lineage
        common += 1
        if a.end != b.end:
            break
    assert not set(lineages(one)[common:]) & set(lineages(two)[common:])


def test_seed_and_data_seed() -> None:
    assert TrialConfig(seed=5).data_seed == 5
    assert build(task={"data_seed": 2}, seed=5).data_seed == 2
    assert lineages(TrialConfig(seed=5)) != lineages(TrialConfig(seed=6))


# --- packs and observation -----------------------------------------------------------------------------------------


def test_trials_pack_when_their_tensors_agree() -> None:
    base = build(schedule={"kind": "shift", "switch": 10})
    first, second = links(base)

    def shape(config: TrialConfig) -> tuple[Any, ...]:
        return pack_shape(config, links(config)[0])

    alike = [
        build(schedule={"kind": "single"}, train={"lr": 0.1, "beta1": 0.5, "clip": 1.0, "weight_decay": 0.1}, seed=9),
        build(schedule={"kind": "single"}, model={"init_scale": 0.5}, task={"train_size": 0, "alpha_low": 0.1}),
    ]
    assert {shape(config) for config in alike} == {pack_shape(base, first)}
    assert pack_shape(base, first) != pack_shape(base, second)
    drawn = [
        build(schedule={"kind": "looped", "draw": "poisson-lognormal", "sigma": sigma}, model={"loops": loops})
        for sigma, loops in ((0.5, 3), (0.1, 3), (0.5, 2))
    ]
    assert shape(drawn[0]) == shape(drawn[1]) != shape(build(schedule={"kind": "looped"}))
    assert shape(drawn[0]) != shape(drawn[2])  # evaluated with another mean
    for changed in (
        {"model": {"width": 16}},
        {"train": {"batch": 8}},
        {"train": {"optimizer": "sgd"}},
        {"train": {"precision": "bf16"}},
        {"task": {"length": 8}},
    ):
        assert shape(build(schedule={"kind": "single"}, **changed)) != pack_shape(base, first)


@given(nested())
def test_observation_steps(values: dict[str, Any]) -> None:
    config = trial_config(values)
    last = config.train.steps
    evaluated = evaluation_steps(config)
    assert evaluated == sorted(set(evaluated))
    assert {0, last} | {link.end for link in links(config)} <= set(evaluated)
    assert set(range(0, last, config.train.evaluate_every)) <= set(evaluated)
    measured = measurement_steps(config)
    assert measured == sorted(set(measured))
    assert all(0 <= step <= last for step in measured)
    assert bool(measured) == bool(config.measure.quantities)


def test_a_trial_that_waits_asks_for_the_checks_of_its_stage_and_nothing_beyond() -> None:
    config = build(
        schedule={"kind": "shift-scp", "check_every": 8, "latest": 30},
        train={"steps": 50, "evaluate_every": 20},
        measure={"quantities": ["lambda_max"], "every": 25},
    )
    waiting = asked(config, links(config), watch(config))
    assert waiting == Asked(evaluate=(0, 20, 30), measure=(0, 25), check=(8, 16, 24))
    ended = asked(config, links(config, (16,)), watch(config, (16,)))
    assert ended == Asked(evaluate=(0, 16, 20, 40, 50), measure=(0, 25, 50))
    assert list(ended.evaluate) == evaluation_steps(config, links(config, (16,)))
    assert waiting.within(9, 25) == Asked(evaluate=(20,), measure=(25,), check=(16, 24))


def test_measurements_are_taken_at_the_end_unless_told() -> None:
    def steps(**measure: Any) -> list[int]:
        return measurement_steps(build(measure={"quantities": ["lambda_max"], **measure}, train={"steps": 100}))

    assert steps() == [100]
    assert steps(every=40) == [0, 40, 80]
    assert steps(at=[7, 3], every=50) == [0, 3, 7, 50, 100]
    assert steps(at=[500]) == []  # asked for what the trial does not reach


# --- refusals ------------------------------------------------------------------------------------------------------


def problems(values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InputError) as error:
        trial_config(values)
    return {problem.where: problem.message for problem in error.value.problems}


def wrong_values(hint: Any) -> list[Any]:
    """Values that no term of this type takes."""
    wrong: list[Any] = [True, None, {}, [[]], b"x", math.nan, math.inf, -math.inf, 10**400, object()]
    if get_origin(hint) is tuple:
        return [True, None, {}, "x", 3, [None], [math.nan], [[]]]
    if type(None) in get_args(hint):
        wrong.remove(None)
    if hint is int or int in get_args(hint):
        wrong.remove(10**400)  # an integer; ranges and rules between terms judge it
    return wrong if hint is str else [*wrong, "x", ""]


@pytest.mark.parametrize(("section", "cls"), [("task", MarkovTask), *SECTIONS.items()])
def test_every_term_refuses_other_types_and_non_finite_numbers(section: str, cls: type) -> None:
    for name in set(terms(cls)) - {"kind"}:
        for value in wrong_values(hints(cls)[name]):
            found = problems({section: {name: value}})
            assert set(found) == {f"{section}.{name}"}, (name, value)
            assert "must be" in found[f"{section}.{name}"]
            assert "\n" not in found[f"{section}.{name}"]


@pytest.mark.parametrize(("section", "cls"), [("task", MarkovTask), *SECTIONS.items()])
def test_every_range_refuses_what_lies_beyond_it(section: str, cls: type) -> None:
    checked = 0
    for name, spec in terms(cls).items():
        bounds = spec.metadata["bounds"]
        whole = hints(cls)[name] is int or int in get_args(hints(cls)[name])
        for limit, beyond in ((bounds.ge, -1), (bounds.gt, 0), (bounds.le, 1), (bounds.lt, 0)):
            if limit is None:
                continue
            value: Any = limit + beyond if whole else limit + beyond * 0.5
            value = int(value) if whole else float(value)
            found = problems({section: {name: [value] if get_origin(hints(cls)[name]) is tuple else value}})
            assert f"{section}.{name}" in found
            checked += 1
    assert checked or section == "schedule"


def test_every_problem_is_told_at_once_with_the_nearest_name() -> None:
    found = problems(
        {
            "modle": {},
            "model": {"widht": 3, "heads": 0},
            "train": {"lr": "1e-3", "optimizer": "adam"},
            "task": {"kind": "markow"},
            "schedule": 3,
        }
    )
    assert "did you mean 'model'?" in found["modle"]
    assert "did you mean 'width'?" in found["model.widht"]
    assert found["model.heads"] == "must be at least 1, got 0"
    assert found["train.lr"] == "must be a number, got '1e-3'"
    assert "did you mean 'adamw'?" in found["train.optimizer"]
    assert "did you mean 'markov'?" in found["task.kind"]
    assert "must be a table" in found["schedule"]


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"model": {"width": 32, "heads": 3}}, "model.heads"),
        ({"model": {"width": 3, "position": "rotary"}}, "model.position"),
        ({"train": {"steps": 10, "warmup": 11}}, "train.warmup"),
        ({"train": {"steps": 10, "lr_schedule": "wsd", "decay": 11}}, "train.decay"),
        ({"train": {"steps": 10, "lr_schedule": "wsd", "decay": 1.5}}, "train.decay"),
        ({"train": {"steps": 10, "lr_schedule": "wsd", "decay": 0.01}}, "train.decay"),
        ({"train": {"steps": 10}, "schedule": {"kind": "shift", "switch": 10}}, "schedule.switch"),
        ({"train": {"steps": 10}, "schedule": {"kind": "shift", "switch": 1.0}}, "schedule.switch"),
        ({"train": {"steps": 10}, "schedule": {"kind": "shift", "switch": 0.01}}, "schedule.switch"),
        ({"task": {"low_share": 0.0}}, "task.strata"),
        ({"task": {"val_size": 16}, "measure": {"quantities": ["lambda_max"]}}, "measure.probe"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 1.0}, "seed"),
    ],
)
def test_rules_between_terms(values: dict[str, Any], where: str) -> None:
    assert set(problems(values)) == {where}


def test_rules_of_what_does_not_act_are_not_asked() -> None:
    build(train={"steps": 10, "decay": 11})
    build(train={"steps": 10}, schedule={"kind": "single", "switch": 50})
    build(task={"val_size": 16})


def test_one_value_is_told_with_the_places_inside_it() -> None:
    stages_ = [{"until": {"delta1": -1, "on": "val"}}, {"loop": 2}]
    value, wrong = check(ScheduleConfig, "stages", stages_)
    assert value is stages_
    assert wrong == "[1].until.delta1: must be more than 0, got -1.0; [2].loop: unknown key; did you mean 'loops'?"
    assert check(StageConfig, "until", {"patience": 0})[1] == "patience: must be at least 1, got 0"
    assert check(StageConfig, "until", {"patience": 2}) == (CriterionConfig(patience=2), None)
    assert check(StageConfig, "until", 1) == (1, None)
    assert type(check(StageConfig, "until", 1.0)[0]) is float


def test_a_trial_is_frozen() -> None:
    config = TrialConfig()
    for part, name in ((config, "seed"), (config.model, "width"), (config.task, "states"), (config.train, "lr")):
        with pytest.raises(FrozenInstanceError):
            setattr(part, name, 1)


# --- the canonical form --------------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_canonical_json_reads_back_and_ignores_order(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, {1}, b"x", object(), 1j, {1: 2}, {None: 1}, print, type]
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": [1, v]}}, lambda v: (v,)])
def test_canonical_json_refuses_what_it_cannot_write(value: Any, wrap: Any) -> None:
    with pytest.raises(InputError, match="canonical form"):
        canonical_json(wrap(value))


def test_equal_numbers_of_different_types_are_different_texts() -> None:
    assert len({canonical_json(value) for value in (1, 1.0, True, "1")}) == 4
