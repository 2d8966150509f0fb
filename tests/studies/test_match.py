"""Controls: each setting of an arm has one that is nearest in parameters or FLOPs, found as brute force finds it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.config import ModelConfig, TrainConfig, TrialConfig
from core.errors import InputError
from core.flops import expected_flops, flops_alone, parameters
from core.lineage import acting_keys, stages
from core.schedule_terms import ScheduleConfig
from studies.expand import count, expand, slots
from studies.match import TOLERANCE, WAYS, allowed, cost, cost_by, nearest_whole
from studies.spec import parse_study

FLOPS = {"match": "flops"}
PARAMETERS = {"match": "parameters"}
SHIFT = {"schedule": {"kind": "shift"}}


def study(*, seeds=1, arms, **tables):
    document = {"name": "s", "question": "?", "seeds": seeds, "arms": arms, **tables}
    return parse_study(document, file="s.toml")


def refused(**document) -> list[str]:
    with pytest.raises(InputError) as caught:
        expand(study(**document))
    return str(caught.value).splitlines()


def of(trials, arm):
    return [trial for trial in trials if trial.arm == arm]


# --- what a control is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mlp_ratio", [0, 4])
@pytest.mark.parametrize(("depth", "loops"), [(1, 2), (1, 12), (2, 3), (4, 3), (3, 1)])
def test_against_k_blocks_looped_l_times_stand_k_and_kl_blocks_applied_once(depth, loops, mlp_ratio):
    base = {"model": {"depth": depth, "loops": loops, "mlp_ratio": mlp_ratio, "norm": "layer", "coda": 1}}
    arms = {"looped": {}, "flops": FLOPS | {"match_to": "looped"}, "parameters": PARAMETERS | {"match_to": "looped"}}
    looped, flops, same = expand(study(base=base, arms=arms))
    assert (flops.config.model.depth, same.config.model.depth) == (depth * loops, depth)
    assert flops.config.schedule.kind == same.config.schedule.kind == "single"
    assert flops_alone(flops.config) == flops_alone(looped.config)
    assert parameters(same.config) == parameters(looped.config)
    assert flops.varied == {"model.depth": depth * loops}
    assert same.varied == {"model.depth": depth}


def test_a_control_takes_the_values_of_the_other_arm_and_its_own_lie_over_them():
    looped = {"model": {"norm": "rms"}, "train": {"lr": 0.1}, "axes": {"model.loops": [2, 4]}}
    own = {"model": {"norm": "layer", "loops": 2}, "schedule": {"kind": "looped"}, "match": "flops"}
    trials = expand(study(arms={"control": own, "looped": looped}, base={"model": {"heads": 2}}))
    found = of(trials, "control")
    assert [trial.arm for trial in trials] == ["control"] * 2 + ["looped"] * 2  # arms stay in file order
    assert {(t.config.model.norm, t.config.model.heads, t.config.train.lr) for t in found} == {("layer", 2, 0.1)}
    assert [t.config.model.loops for t in found] == [2, 2]  # over the axis of the other arm
    assert [t.config.model.depth for t in found] == [1, 2]
    assert [t.varied["model.loops"] for t in found] == [2, 4]  # of the setting that it is matched to


def test_depths_between_which_the_other_arm_lies_are_refused():
    lines = refused(
        arms={
            "looped": {"axes": {"model.loops": [3]}},
            "control": FLOPS | {"schedule": {"kind": "looped"}, "model": {"loops": 2}},
        },
        base={"model": {"width": 256}},
    )
    assert len(lines) == 1
    assert lines[0].startswith(
        "s.toml: arms.control.match_by: no model.depth comes within 5 % of the FLOPs of arm looped"
    )
    assert 'write match_by = "train.steps" (with model.loops = 3: ' in lines[0]


def test_equal_controls_are_one_trial_that_says_for_which_settings_it_stands():
    arms = {"looped": {"axes": {"model.depth": [1, 2]}}, "control": FLOPS}
    trials = expand(study(seeds=2, arms=arms, axes={"model.loops": [1, 2, 3]}))
    found = of(trials, "control")
    assert [(t.config.seed, t.config.model.depth) for t in found] == [(s, d) for d in (1, 2, 4, 3, 6) for s in (0, 1)]
    both = next(t for t in found if t.config.model.depth == 2)
    assert both.matched == (
        (("model.loops", 1), ("model.depth", 2)),
        (("model.loops", 2), ("model.depth", 1)),
    )
    assert both.varied == {"model.depth": 2}  # which loops is not one number
    assert {t.config.model.depth: t.varied for t in found}[6] == {"model.loops": 3, "model.depth": 6}
    assert sorted(setting for t in found[::2] for setting in t.matched) == sorted(
        tuple(t.varied.items()) for t in of(trials, "looped")[::2]
    )


def test_each_setting_that_trains_has_its_control_whatever_makes_it():
    union = [{"model.loops": [2, 3]}, {"model.width": [16, 48], "train.lr": [1e-3, 2e-3]}]
    zipped = [{"train.steps": [100, 200], "train.batch": [8, 4]}]
    arms = {
        "shift": SHIFT | {"axes": {"schedule.switch": [0.25, 0.5, 50]}},
        "control": FLOPS | {"match_by": "train.steps"},
    }
    trials = expand(study(arms=arms, axes={"union": union, "zip": zipped}, where=["train.steps + model.loops < 203"]))
    targets = {tuple(t.varied.items()): t for t in of(trials, "shift")}
    stood = [(setting, t) for t in of(trials, "control") for setting in t.matched]
    assert {setting for setting, _ in stood} == set(targets)
    assert len(stood) == len(targets) > 10
    for setting, control in stood:
        assert abs(flops_alone(control.config) / flops_alone(targets[setting].config) - 1) <= TOLERANCE
        assert {key for key, _ in setting} - set(control.varied) <= {"schedule.switch", "train.steps", "model.loops"}
        assert control.varied["train.steps"] == control.config.train.steps


def test_what_a_control_varies_by_itself_acts_on_it():
    arms = {"looped": {"axes": {"model.loops": [2, 3]}}, "control": FLOPS}
    for trial in of(expand(study(arms=arms, axes={"train.lr": [1e-3, 2e-3]})), "control"):
        assert set(trial.varied) - {"model.loops"} <= acting_keys(trial.config)


def test_filters_see_the_other_arms_values_under_the_controls_name():
    arms = {"looped": {}, "control": FLOPS}
    axes = {"model.loops": [2, 3, 4], "model.depth": [1, 2]}
    where = ["model.loops * model.depth <= 4", "arm != 'control' or model.loops < 4", "arm != 'looped' or seed < 2"]
    trials = expand(study(seeds=3, arms=arms, axes=axes, where=where))
    assert {(t.varied["model.loops"], t.varied["model.depth"]) for t in of(trials, "looped")} == {
        (2, 1),
        (2, 2),
        (3, 1),
        (4, 1),
    }
    assert {(t.config.model.depth, t.config.seed) for t in of(trials, "control")} == {
        (depth, seed) for depth in (2, 4, 3) for seed in (0, 1)
    }


def test_count_bounds_the_trials():
    arms = {"looped": {"axes": {"model.depth": [1, 2]}}, "control": FLOPS}
    found = study(seeds=3, arms=arms, axes={"model.loops": [1, 2, 3]})
    assert len(expand(found)) <= count(found) == 36


# --- nuisance axes -----------------------------------------------------------------------------------------------


def test_a_control_is_tuned_as_its_arm_is():
    arms = {"looped": {}, "control": FLOPS}
    nuisance = {"train.lr": [1e-3, 2e-3], "tune_seeds": 2}
    found = study(arms=arms, axes={"model.loops": [2, 3]}, nuisance=nuisance)
    keys = [slot.key for slot in slots(found) if slot.arm == "control"]
    assert keys == [("control", (("model.depth", 2),)), ("control", (("model.depth", 3),))]
    tuned = of(expand(found), "control")
    assert len(tuned) == 8
    winners = {keys[1]: (("train.lr", 2e-3),)}
    (compared,) = [t for t in of(expand(found, winners), "control") if t.role == "compare"]
    assert compared.varied == {"model.loops": 3, "model.depth": 3, "train.lr": 2e-3}
    assert compared.matched == ((("model.loops", 3),),)


def test_nuisance_axes_that_would_decide_the_match_are_refused():
    by_steps = FLOPS | {"match_by": "train.steps"}
    (line,) = refused(arms={"shift": SHIFT, "control": by_steps}, nuisance={"schedule.switch": [0.2, 0.8]})
    assert line.startswith("s.toml: arms.control.match: nuisance axes change the FLOPs of arm shift")
    both = {"nuisance": {"train.batch": [8, 16]}}  # of both alike
    assert {
        t.config.model.depth for t in of(expand(study(arms={"looped": {}, "control": FLOPS}, **both)), "control")
    } == {3}


# --- the nearest -------------------------------------------------------------------------------------------------

KINDS = ["single", "looped", "shift", "reverse", "grow", "linear-grow"]
MODELS = st.builds(
    lambda heads, per_head, **terms: ModelConfig(width=heads * 2 * per_head, heads=heads, **terms),
    heads=st.integers(1, 3),
    per_head=st.integers(1, 8),
    depth=st.integers(1, 5),
    loops=st.integers(1, 6),
    prelude=st.integers(0, 2),
    coda=st.integers(0, 2),
    mlp_ratio=st.sampled_from([0.0, 0.3, 1.5, 4.0]),
    norm=st.sampled_from(["none", "rms", "layer"]),
    position=st.sampled_from(["learned", "none", "rotary"]),
    output=st.sampled_from(["tied", "untied"]),
    loss_on=st.sampled_from(["last", "all"]),
)
CONFIGS = st.builds(
    TrialConfig,
    model=MODELS,
    train=st.builds(TrainConfig, steps=st.integers(2, 60), batch=st.integers(1, 3)),
    schedule=st.builds(
        ScheduleConfig,
        kind=st.sampled_from(KINDS),
        switch=st.sampled_from([0.3, 0.5, 1]),
        ramp=st.sampled_from([0.4, 1]),
    ),
)


def brute(kind, by, config, value):
    """The number of a configuration that is built anew."""
    section, _, name = by.partition(".")
    one = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return parameters(one) if kind == "parameters" else flops_alone(one)


@settings(max_examples=300)
@given(target=CONFIGS, own=CONFIGS, by=st.sampled_from(WAYS), kind=st.sampled_from(["parameters", "flops"]))
def test_a_match_is_the_argmin_over_a_range(target, own, by, kind):
    assume((kind, by) != ("parameters", "train.steps"))
    wanted = parameters(target) if kind == "parameters" else flops_alone(target)
    assert cost(kind, target) == wanted
    step = own.model.heads * 2
    values = (
        range(2, 100) if by == "train.steps" else range(step, 30 * step, step) if by == "model.width" else range(1, 60)
    )
    numbers = {value: brute(kind, by, own, value) for value in values}
    assert list(numbers.values()) == sorted(numbers.values())
    of_value = cost_by(kind, by, own)
    assert {value: of_value(value) for value in values} == numbers
    assert nearest_whole(wanted, of_value, values) == min(
        values, key=lambda value: (abs(numbers[value] - wanted), value)
    )


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["parameters", "flops"]),
    by=st.sampled_from(WAYS),
    model=st.fixed_dictionaries(
        {
            "heads": st.sampled_from([1, 2, 3]),
            "width": st.sampled_from([24, 48]),
            "loops": st.integers(1, 5),
            "depth": st.integers(1, 4),
            "mlp_ratio": st.sampled_from([0.0, 2.0]),
            "position": st.sampled_from(["learned", "rotary"]),
        }
    ),
    schedule=st.fixed_dictionaries({"kind": st.sampled_from(KINDS)}),
    own=st.fixed_dictionaries(
        {}, optional={"heads": st.sampled_from([1, 4]), "mlp_ratio": st.sampled_from([0.0, 1.0])}
    ),
)
def test_a_control_is_as_near_as_any_trial_of_its_range_or_refused(kind, by, model, schedule, own):
    assume((kind, by) != ("parameters", "train.steps"))
    arms = {
        "target": {"model": model, "schedule": schedule},
        "control": {"match": kind, "match_by": by, "model": own} if by != "model.width" or "width" not in own else {},
    }
    number = parameters if kind == "parameters" else flops_alone
    try:
        target, control = expand(study(arms=arms, base={"train": {"steps": 50}}))
    except InputError as error:
        (line,) = str(error).splitlines()
        assert line.startswith("s.toml: arms.control.match_by: no ")
        return
    wanted = number(target.config)
    section, _, name = by.partition(".")
    chosen = getattr(getattr(control.config, section), name)
    step = (
        control.config.model.heads * (2 if control.config.model.position == "rotary" else 1)
        if by == "model.width"
        else 1
    )
    near = [value for value in range(step, 2000, step) if abs(value - chosen) < 40 * step]
    gaps = {value: abs(brute(kind, by, control.config, value) - wanted) for value in near}
    assert gaps[chosen] == min(gaps.values())
    assert gaps[chosen] <= TOLERANCE * wanted
    assert control.config.model.width % control.config.model.heads == 0


def test_ranges_are_those_of_the_terms():
    assert allowed("model.depth") == range(1, 1025)
    assert allowed("model.width", step=6) == range(6, 65537, 6)
    assert allowed("train.steps")[-1] == 10**9


def test_drawn_loops_count_as_their_mean():
    drawn = {"schedule": {"kind": "looped", "draw": "poisson-lognormal"}, "model": {"loops": 5}}
    trials = expand(study(seeds=20, arms={"drawn": drawn, "control": FLOPS}, base={"train": {"steps": 2000}}))
    control = of(trials, "control")
    assert {t.config.model.depth for t in control} == {5}  # whatever the seed
    mean = sum(flops_alone(t.config) for t in of(trials, "drawn")) / 20
    assert mean == pytest.approx(flops_alone(control[0].config), rel=0.02)
    assert expected_flops(control[0].config, stages(control[0].config)) == flops_alone(control[0].config)


# --- what cannot be ----------------------------------------------------------------------------------------------

SCP = {"schedule": {"kind": "shift-scp"}}


@pytest.mark.parametrize(
    ("arms", "key", "says"),
    [
        ({"a": {}, "c": {"match": "flop"}}, "arms.c.match", 'must be one of "parameters", "flops"'),
        ({"a": {}, "c": FLOPS | {"match_by": "model.dpth"}}, "arms.c.match_by", 'must be one of "model.depth"'),
        ({"a": {}, "c": FLOPS | {"match_to": "b"}}, "arms.c.match_to", "no such arm, got 'b'; known are a"),
        (
            {"a": {}, "c": FLOPS | {"match_to": "c"}},
            "arms.c.match_to",
            "must be another arm, without a match of its own",
        ),
        ({"a": {}, "b": {}, "c": FLOPS}, "arms.c.match_to", "is required; arms without `match` are a, b"),
        ({"c": FLOPS}, "arms.c.match_to", "is required; arms without `match` are none"),
        (
            {"a": {}, "c": FLOPS, "d": FLOPS | {"match_to": "c"}},
            "arms.d.match_to",
            "without a match of its own, got 'c'",
        ),
        ({"a": {}, "c": {"match_to": "a"}}, "arms.c.match_to", "acts only beside `match`"),
        ({"a": {}, "c": {"match_by": "model.depth"}}, "arms.c.match_by", "acts only beside `match`"),
        ({"a": {}, "c": PARAMETERS | {"match_by": "train.steps"}}, "arms.c.match_by", "parameters do not depend on it"),
        ({"a": {}, "c": FLOPS | {"model": {"depth": 2}}}, "arms.c.model.depth", "is chosen by the match"),
        ({"a": {}, "c": FLOPS | {"axes": {"train.lr": [0.1]}}}, "arms.c.axes", "add them to arms.a"),
        ({"a": {}, "c": FLOPS | {"task": {"states": 4}}}, "arms.c.task", "has the task of the arm it is matched to, a"),
        ({"a": {}, "c": FLOPS | {"model": {"heads": 3}}}, "arms.c.model.heads", "must divide width = 32, got 3"),
        ({"a": SCP, "c": FLOPS}, "arms.c.match", "the FLOPs of arm a are not known before its criteria decide"),
        ({"a": {}, "c": FLOPS | SCP}, "arms.c.match", "the FLOPs of arm c are not known before its criteria decide"),
        ({"a": {}, "c": FLOPS | {"train": {"stpes": 3}}}, "arms.c.train.stpes", "did you mean 'steps'?"),
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(arms, key, says):
    (line,) = refused(arms=arms)
    assert line.startswith(f"s.toml: {key}: ")
    assert says in line


def test_parameters_are_known_where_criteria_decide():
    trials = expand(study(arms={"scp": SCP, "control": PARAMETERS}))
    assert parameters(of(trials, "control")[0].config) == parameters(of(trials, "scp")[0].config)


def test_a_control_that_comes_nowhere_near_says_how_near():
    arms = {"looped": {}, "control": FLOPS | {"match_by": "model.width", "model": {"heads": 64}}}
    (line,) = refused(arms=arms)
    assert line.startswith(
        "s.toml: arms.control.match_by: no model.width comes within 5 % of the FLOPs of arm looped; "
    )
    wanted = flops_alone(TrialConfig())
    got = flops_alone(TrialConfig(model=ModelConfig(width=64, heads=64), schedule=ScheduleConfig(kind="single")))
    assert line.endswith(f"(with {wanted:,} wanted, model.width = 64 has {got:,})")


def test_what_is_wrong_with_the_other_arm_is_said_once():
    lines = refused(arms={"control": FLOPS, "looped": {"axes": {"model.heads": [3]}}})
    assert len(lines) == 1
    assert lines[0].startswith("s.toml: arms.looped.")


def test_a_search_has_no_controls():
    search = {"kind": "random", "trials": 4, "space": {"train.lr": {"low": 1e-4, "high": 1e-2}}}
    (line,) = refused(arms={"a": {}, "c": FLOPS}, search=search)
    assert line.startswith("s.toml: arms.c.match: cannot stand beside [search]")


def test_a_size_may_change_the_match():
    document = {
        "name": "s",
        "question": "?",
        "seeds": 1,
        "arms": {"looped": {}, "control": dict(FLOPS)},
        "sizes": {"paper": {"base": {"model": {"loops": 6}}, "arms": {"control": {"match": "parameters"}}}},
    }
    depths = [
        of(expand(parse_study(document, file="s.toml", size=size)), "control")[0].config.model.depth
        for size in ("small", "paper")
    ]
    assert depths == [3, 1]


def test_tens_of_thousands_of_trials_with_controls_expand_quickly():
    axes = {
        "train.lr": [1e-3 + 1e-6 * i for i in range(50)],
        "model.loops": list(range(2, 12)),
        "model.width": list(range(64, 104, 4)),
    }
    found = study(seeds=2, arms={"looped": {}, "control": FLOPS}, axes=axes)
    start = time.process_time()
    trials = expand(found)
    spent = time.process_time() - start
    assert len(trials) == 20_000
    assert len({id(t.config.model) for t in trials}) == 200
    assert spent < 5  # 0.8 s on a quiet core
