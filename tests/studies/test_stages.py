"""Schedules in study files: lists of stages, short forms and criteria in base, arms and axes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import trial_config
from core.errors import InputError
from core.lineage import acting_keys, canonical_json, stages, watch
from core.schedule_terms import CriterionConfig, ScheduleConfig, StageConfig
from core.terms import hints, terms
from studies.expand import expand, slots
from studies.nested import checked, written
from studies.spec import parse_study

STEPS = 600
LOOPS = 3
TWO = [{"loops": 1, "until": 0.3}, {"loops": 2}]
THREE = [
    {"loops": 1, "until": 0.3},
    {
        "loops": 2,
        "until": {"criterion": "scp", "delta1": 0.02, "delta2": 0.1, "patience": 4, "latest": 0.8},
    },
    {"loops": 3, "lr_factor": 0.5, "rewarm": 50, "optimizer": "reset"},
]


def toml(value) -> str:
    """A value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def study(*, arms=None, **tables):
    """A study through the text of its file."""
    base = {"train": {"steps": STEPS}, "model": {"loops": LOOPS}} | tables.pop("base", {})
    document = {"name": "s", "question": "?", "seeds": 1, "base": base, "arms": arms or {"a": {}}} | tables
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    return parse_study(tomllib.loads(text), file="s.toml")


def trial(schedule, **tables):
    (found,) = expand(study(arms={"a": {"schedule": schedule}}, **tables))
    return found


def refused(**tables) -> list[str]:
    with pytest.raises(InputError) as caught:
        study(**tables)
    return str(caught.value).splitlines()


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "arm", "expected"),
    [
        ({"stages": TWO}, {}, {"stages": TWO}),
        ({"kind": "stages", "stages": TWO}, {}, {"stages": TWO}),
        ({"stages": TWO}, {"kind": "stages"}, {"stages": TWO}),
        ({"stages": TWO}, {"kind": "single"}, {"kind": "single"}),
        ({"stages": TWO}, {"kind": "shift", "switch": 7}, {"kind": "shift", "switch": 7}),
        ({"stages": TWO}, {"stages": THREE}, {"stages": THREE}),
        ({"stages": TWO}, {"check_every": 7}, {"stages": TWO}),
        ({"kind": "grow"}, {"stages": TWO}, {"stages": TWO}),
        ({"kind": "stages"}, {"stages": TWO}, {"stages": TWO}),
        ({"kind": "shift", "switch": 7}, {"kind": "reverse"}, {"kind": "reverse", "switch": 7}),
        ({"kind": "shift-scp", "patience": 2}, {"latest": 1.0}, {"kind": "shift-scp", "patience": 2, "latest": 1.0}),
    ],
)
def test_a_list_of_stages_and_a_short_form_displace_each_other(base, arm, expected):
    expected = trial(expected)
    assert trial(arm, base={"train": {"steps": STEPS}, "model": {"loops": LOOPS}, "schedule": base}).trial_id == (
        expected.trial_id
    )
    if arm:  # and an axis of one value lies over the base as an arm does
        axes = {f"schedule.{key}": [value] for key, value in arm.items()}
        over = {"base": {"train": {"steps": STEPS}, "model": {"loops": LOOPS}, "schedule": base}}
        if list(arm) == ["check_every"]:
            assert "acts on no arm" in refused(axes=axes, **over)[0]
        else:
            (found,) = expand(study(axes=axes, **over))
            assert found.trial_id == expected.trial_id


@pytest.mark.parametrize("kind", [None, "stages"])
def test_the_stages_of_an_issue_are_read_in_every_place(kind):
    named = {} if kind is None else {"kind": kind}
    schedule = named | {"stages": THREE}
    axes = {f"schedule.{key}": [value] for key, value in schedule.items()}
    found = [
        expand(study(base={"train": {"steps": STEPS}, "schedule": schedule}))[0],
        expand(study(base={"train": {"steps": STEPS}}, arms={"a": {"schedule": schedule}}))[0],
        expand(study(base={"train": {"steps": STEPS}}, arms={"a": {"axes": axes}}))[0],
        expand(study(base={"train": {"steps": STEPS}}, axes=axes))[0],
    ]
    assert len({trial.trial_id for trial in found}) == 1
    assert {trial.config.schedule for trial in found} == {found[0].config.schedule}
    assert found[0].config.schedule.kind == "stages"
    assert [stage.loops for stage in found[0].config.schedule.stages] == [1, 2, 3]
    assert found[0].config.schedule.stages[1].until.latest == 0.8


def test_an_arm_that_names_a_kind_over_the_stages_of_base_drops_them():
    found = expand(study(base={"schedule": {"stages": TWO}}, arms={"a": {"schedule": {"kind": "single"}}, "b": {}}))
    assert [(t.arm, t.config.schedule.kind, len(t.config.schedule.stages)) for t in found] == [
        ("a", "single", 0),
        ("b", "stages", 2),
    ]


# --- axes ------------------------------------------------------------------------------------------------------------


def test_stages_that_vary_are_shown_by_their_text():
    found = expand(study(arms={"listed": {}}, axes={"schedule.stages": [TWO, THREE]}))
    assert [t.varied["schedule.stages"] for t in found] == [
        '[{"loops":1,"until":0.3},{"loops":2}]',
        '[{"loops":1,"until":0.3},{"loops":2,"until":{"criterion":"scp","delta1":0.02,"latest":0.8,"patience":4}},'
        '{"loops":3,"lr_factor":0.5,"optimizer":"reset","rewarm":50}]',
    ]
    for t in found:
        assert trial({"stages": json.loads(t.varied["schedule.stages"])}).trial_id == t.trial_id


def test_a_step_and_a_share_are_two_values_although_python_calls_them_equal():
    lists = [[{"loops": 1, "until": {"latest": latest}}, {"loops": 2}] for latest in (1, 1.0)]
    found = expand(study(axes={"schedule.stages": lists}))
    assert len({t.trial_id for t in found}) == len({t.varied["schedule.stages"] for t in found}) == 2
    found = expand(study(base={"schedule": {"kind": "shift-scp"}}, axes={"schedule.latest": [1, 1.0]}))
    assert len({t.trial_id for t in found}) == 2


CRITERION = {
    "schedule.criterion": ["scp", "loss"],
    "schedule.delta1": [0.01, 0.02],
    "schedule.delta2": [0.1, 0.2],
    "schedule.patience": [2, 4],
    "schedule.change": ["relative", "absolute"],
    "schedule.on": ["val", "train"],
    "schedule.latest": [0.5, 1.0],
    "schedule.check_every": [10, 20],
}
LATER = {
    "schedule.lr_factor": [0.5, 2.0],
    "schedule.rewarm": [10, 20],
    "schedule.optimizer": ["keep", "reset"],
}
DRAWN = {"schedule.draw": ["fixed", "poisson-lognormal"]}
ACTS = (
    [(key, values, {"shift-scp"}) for key, values in CRITERION.items()]
    + [(key, values, {"shift", "shift-scp", "grow", "linear-grow", "reverse"}) for key, values in LATER.items()]
    + [
        (key, values, {"looped", "shift", "shift-scp", "grow", "linear-grow", "reverse"})
        for key, values in DRAWN.items()
    ]
    + [("schedule.ramp", [0.2, 300], {"linear-grow"}), ("schedule.switch", [0.2, 300], {"shift", "reverse"})]
)


@pytest.mark.parametrize(("key", "values", "kinds"), ACTS, ids=[key for key, *_ in ACTS])
def test_an_axis_over_a_term_of_schedules_acts_on_the_kinds_that_have_it(key, values, kinds):
    known = ["single", "looped", "shift", "shift-scp", "grow", "linear-grow", "reverse"]
    arms = {kind: {"schedule": {"kind": kind}} for kind in known} | {"listed": {"schedule": {"stages": THREE}}}
    acting = kinds | ({"listed"} if key == "schedule.check_every" else set())
    found = expand(study(arms=arms, axes={key: values}))
    for arm in arms:
        trials = [t for t in found if t.arm == arm]
        assert [t.varied.get(key) for t in trials] == (values if arm in acting else [None]), arm
        assert all(t.varied.keys() <= acting_keys(t.config) for t in trials)
    (line,) = refused(arms={arm: values for arm, values in arms.items() if arm not in acting}, axes={key: values})
    assert f'axes."{key}": acts on no arm' in line


def test_sigma_acts_where_loops_are_drawn_and_a_threshold_where_its_criterion_reads_it():
    drawn = expand(study(axes=DRAWN | {"schedule.sigma": [0.2, 0.4]}))
    assert [t.varied.get("schedule.sigma") for t in drawn] == [None, 0.2, 0.4]
    scp = {"schedule": {"kind": "shift-scp"}}
    halves = {"schedule.criterion": ["loss", "gradient"], "schedule.delta1": [0.1, 0.2], "schedule.delta2": [0.1, 0.2]}
    found = expand(study(base=scp | {"train": {"steps": STEPS}}, axes=halves))
    assert [tuple(t.varied.values()) for t in found] == [
        ("loss", 0.1),
        ("loss", 0.2),
        ("gradient", 0.1),
        ("gradient", 0.2),
    ]


def test_stages_move_with_other_axes_and_stand_in_unions():
    zipped = {"zip": [{"schedule.stages": [TWO, THREE], "train.lr": [0.1, 0.2]}]}
    assert [t.varied["train.lr"] for t in expand(study(axes=zipped))] == [0.1, 0.2]
    union = {"union": [{"schedule.stages": [TWO, THREE]}, {"schedule.kind": ["single", "looped"]}]}
    found = expand(study(axes=union))
    assert [list(t.varied) for t in found] == [["schedule.stages"]] * 2 + [["schedule.kind"]] * 2
    both = {"schedule.stages": [TWO], "schedule.kind": ["stages", "single"]}
    (line,) = refused(axes=both)
    assert 'arms.a.schedule.stages: are listed, so kind must be "stages" or silent, got "single" (with ' in line


def test_the_configuration_of_a_trial_is_read_back_from_its_json():
    for t in expand(study(axes={"schedule.stages": [TWO, THREE]})):
        assert trial_config(json.loads(canonical_json(t.config.to_dict()))) == t.config


def test_stages_can_be_tuned():
    found = study(nuisance={"schedule.stages": [TWO, THREE], "tune_seeds": 2}, axes={"train.lr": [0.1, 0.2]})
    assert [t.role for t in expand(found)] == ["tune"] * 8
    slot = next(iter(slots(found)))
    winner = slot.nuisance(slot.candidates[1])
    compared = [t for t in expand(found, {slot.key: winner}) if t.role == "compare"]
    assert [dict(t.varied) for t in compared] == [{"train.lr": 0.1} | dict(winner)]
    assert compared[0].trial_id == trial({"stages": THREE}, base={"train": {"steps": STEPS, "lr": 0.1}}).trial_id


# --- short forms -----------------------------------------------------------------------------------------------------

BEGUN = st.fixed_dictionaries(
    {},
    optional={
        "lr_factor": st.sampled_from([0.25, 1.0, 2]),
        "rewarm": st.integers(0, 40),
        "optimizer": st.sampled_from(["keep", "reset"]),
    },
)
RANDOM = st.fixed_dictionaries(
    {},
    optional={"draw": st.sampled_from(["fixed", "poisson-lognormal"]), "sigma": st.sampled_from([0.0, 0.25, 0.5])},
)
JUDGED = st.fixed_dictionaries(
    {},
    optional={
        "criterion": st.sampled_from(["scp", "loss", "gradient"]),
        "delta1": st.sampled_from([0.01, 0.5]),
        "delta2": st.sampled_from([0.1, 2]),
        "patience": st.integers(1, 5),
        "change": st.sampled_from(["relative", "absolute"]),
        "on": st.sampled_from(["val", "train"]),
        "latest": st.sampled_from([0.5, 0.9, 1.0, 400, STEPS]),
    },
)
ENDS = st.one_of(st.integers(1, STEPS - 1), st.sampled_from([0.25, 0.5, 0.9]))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["single", "looped", "shift", "reverse", "shift-scp", "grow", "linear-grow"]),
    given_terms=st.tuples(BEGUN, RANDOM, JUDGED, st.sampled_from([{}, {"check_every": 30}])),
    end=ENDS,
)
def test_a_short_form_and_its_stages_written_out_are_one_trial(kind, given_terms, end):
    begun, random, judged, checks = given_terms
    looped = [{"loops": loops} | (random if loops > 1 else {}) for loops in (2, LOOPS)]
    two, three = looped
    listed = {
        "single": [{"loops": 1}],
        "looped": [three],
        "shift": [{"loops": 1, "until": end}, {**three, **begun}],
        "reverse": [{**three, "until": end}, {"loops": 1, **begun}],
        "shift-scp": [{"loops": 1, "until": judged}, {**three, **begun}],
        "grow": [{"loops": 1, "until": 200}, {**two, **begun, "until": 400}, {**three, **begun}],
        # 1 + 2 s / 400 loops after step s, rounded half up
        "linear-grow": [{"loops": 1, "until": 100}, {**two, **begun, "until": 300}, {**three, **begun}],
    }[kind]
    short = {"kind": kind, "switch": end, "ramp": 400} | begun | random | judged | checks
    assert trial({"stages": listed} | checks).trial_id == trial(short).trial_id


STAGE = st.builds(lambda *parts: {key: value for part in parts for key, value in part.items()}, BEGUN, RANDOM)


@st.composite
def lists_of_stages(draw):
    found = [dict(draw(STAGE)) for _ in range(draw(st.integers(1, 4)))]
    for number, stage in enumerate(found[:-1], start=1):
        stage["until"] = draw(st.one_of(st.just(number * 150), st.just(number / 4), JUDGED))
    return [stage | draw(st.sampled_from([{}, {"loops": 2}])) for stage in found]


@settings(max_examples=60)
@given(lists_of_stages(), lists_of_stages())
def test_the_text_of_stages_is_the_stages(one, other):
    """It gives the same value when read, and two values have one text only where they are one value in every type."""
    value, problems = checked(ScheduleConfig, "stages", one)
    assert not problems
    assert checked(ScheduleConfig, "stages", json.loads(written(value))) == (value, [])
    second = checked(ScheduleConfig, "stages", other)[0]
    assert (written(value) == written(second)) == (repr(value) == repr(second))


# --- claims about steps ----------------------------------------------------------------------------------------------


def claimed(at, schedule, **train):
    claim = {"text": "t", "metric": "val_loss", "at": at, "arm": "a", "value": 1, "expect": "lower"}
    base = {"train": {"steps": STEPS, "evaluate_every": 200} | train}
    return study(base=base, arms={"a": {"schedule": schedule}}, claims=[claim])


def test_a_claim_may_name_a_step_at_which_a_criterion_can_end_its_stage():
    scp = {"kind": "shift-scp", "check_every": 50, "patience": 2, "latest": 0.75}
    for step in (0, 150, 200, 400, 450, 600):
        assert claimed(step, scp).claims
    for step, closest in ((100, "150"), (460, "450"), (500, "450")):  # too few checks; no check; after the latest
        with pytest.raises(
            InputError, match=f"claims\\[1\\].at: arm a is never evaluated at step {step}; .* {closest}"
        ):
            claimed(step, scp)


def test_a_claim_may_name_the_fixed_end_of_any_stage():
    listed = [{"until": 30}, {"loops": 1, "until": {"latest": 330}}, {"until": 555}, {"loops": 4}]
    for step in (30, 330, 555):
        assert claimed(step, {"stages": listed}).claims
    with pytest.raises(InputError, match="never evaluated at step 554; the closest is 555"):
        claimed(554, {"stages": listed})
    assert claimed(480, {"kind": "shift-scp"}, lr_schedule="wsd").claims  # where the decay begins
    assert claimed(100, {"kind": "grow"}, steps=300).claims


# --- the documentation -----------------------------------------------------------------------------------------------

TEXT = (Path(__file__).parents[2] / "docs/studies.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Schedules") : TEXT.index("## Controls")]


def test_the_documentation_says_every_kind_and_every_term_with_its_default():
    cells = [line.split("|") for line in SECTION.splitlines() if line.startswith("| `")]
    rows = {cell[1]: cell[-2] for cell in cells}
    kinds = {name.split("`")[1] for name in rows}
    assert set(get_args(hints(ScheduleConfig)["kind"])) <= kinds
    said = {name: default for names, default in rows.items() for name in re.findall(r"`(\w+)`", names)}
    for table in (StageConfig, CriterionConfig):
        for name, spec in terms(table).items():
            if spec.default is not None:
                assert json.dumps(spec.default) in said[name], name
    assert all(f"`{name}`" in SECTION or f"schedule.{name}" in SECTION for name in terms(ScheduleConfig))


def test_the_example_of_the_documentation_has_the_stages_it_says():
    (example,) = re.findall(r"^```toml\n(.*?)^```", SECTION, re.M | re.S)
    trials = {}
    for t in expand(parse_study(tomllib.loads(example) | {"seeds": 1}, file="docs")):
        trials.setdefault(t.arm, []).append(t)
    watching = {arm: watch(found[0].config) for arm, found in trials.items()}
    assert [(s.start, s.end, s.acting.loops) for s in stages(trials["three"][0].config)] == [
        (0, 900, 1),
        (900, 2400, 2),
    ]
    assert watching["three"].criterion.every == watching["scp"].criterion.every == 50
    assert [s.acting.loops for s in stages(trials["three"][0].config, (1500,))] == [1, 2, 3]
    assert [[s.acting.loops for s in stages(t.config)] for t in trials["thirds"]] == [[1, 2, 3], [3, 2, 1]]
    assert [link.draw for t in trials["random"] for link in t.links] == [0.25, 0.5]


def test_a_silent_check_every_ties_a_trial_to_the_evaluation_grid_and_one_that_is_written_out_does_not():
    def ids(**schedule):
        return {
            trial({"kind": "shift-scp"} | schedule, base={"train": {"steps": STEPS, "evaluate_every": every}}).trial_id
            for every in (50, 100)
        }

    assert len(ids()) == 2
    assert len(ids(check_every=50)) == 1
    assert ids(check_every=50) < ids()


def test_the_errors_that_the_documentation_shows_are_those_that_are_said():
    shown = re.findall(r"^my-study\.toml: (.*)$", SECTION, re.M)
    broken = [{"until": 0.1}, {"until": {"delta1": -0.1}}, {}]
    lines = refused(
        base={"schedule": {"stages": broken}}, axes={"schedule.stages": [TWO, [{"lops": 1, "until": 5}, {}]]}
    )
    assert [line.removeprefix("s.toml: ") for line in lines] == shown
