"""The grammar of claims as values; what it refuses is in `malformed_cases`."""

from __future__ import annotations

import inspect

import pytest

from core.quantities import COLUMNS
from reports.functionals import FUNCTIONALS as COMPUTED
from studies.claim_axes import filters
from studies.claims import FUNCTIONALS, Along, Claim, MetricRef, Part, metric_names, parse_claims
from studies.grid import Grid
from studies.metrics import metric
from studies.where import parse as parse_filter

LOOPS = (tuple((("model.loops", loops),) for loops in (2, 3, 4)),)
SWITCHES = tuple((("schedule.switch", switch),) for switch in (0.1, 0.5, 0.9))
AXES = {"looped": Grid(factors=LOOPS), "single": Grid(), "shift": Grid(factors=(*LOOPS, SWITCHES))}
STRATA = ("low_ic", "high_ic")


def parse(*tables):
    problems = []
    claims = parse_claims(tables, axes=AXES, strata=STRATA, problems=problems)
    assert not problems, problems
    return claims


def claim(**changes):
    return {"text": "t", "metric": "val_loss", "arm": "looped", "against": "single", "expect": "lower"} | changes


def metric_of(text, **changes) -> MetricRef:
    return parse(claim(metric=text, **changes))[0].parts[0].metric


def test_a_claim_is_its_text_and_one_part():
    found = parse(claim(metric="final_val_loss_high_ic", expect="not worse", margin=0.01))
    reference = MetricRef(text="final_val_loss_high_ic", source="metrics", name="val_loss_high_ic", at="final")
    part = Part(metric=reference, arm="looped", against="single", expect="not worse", margin=0.01)
    assert found == (Claim(text="t", parts=(part,), place="claims[1]"),)


def test_each_makes_a_claim_of_every_value_and_along_a_part():
    table = claim(arm="shift", against="looped", each="model.loops", along="schedule.switch", where="model.loops > 2")
    found = parse(claim(text="first"), table)
    assert [one.text for one in found] == ["first", "t (loops = 3)", "t (loops = 4)"]
    assert [one.place for one in found] == ["claims[1]", "claims[2]", "claims[2]"]
    assert found[0].along is None
    assert all(one.along == Along(key="schedule.switch", values=(0.1, 0.5, 0.9)) for one in found[1:])
    filters = [[part.where_text for part in one.parts] for one in found[1:]]
    assert filters == [
        [f"model.loops > 2 and model.loops == {loops} and schedule.switch == {switch}" for switch in (0.1, 0.5, 0.9)]
        for loops in (3, 4)
    ]


def test_each_splits_a_joint_claim_whole():
    table = claim(each="model.loops", all=[{"metric": "val_loss"}, {"metric": "val_accuracy", "expect": "higher"}])
    found = parse(table)
    assert [[part.where_text for part in one.parts] for one in found] == [
        [f"model.loops == {loops}"] * 2 for loops in (2, 3, 4)
    ]


def test_values_are_those_that_all_arms_have_that_vary_the_axis_in_the_order_of_the_first():
    def axis(*values):
        return Grid(factors=(tuple((("model.loops", value),) for value in values),))

    zipped = Grid(
        factors=(tuple((("model.norm", norm), ("model.loops", n)) for n in (8, 4) for norm in ("rms", "none")),)
    )
    union = Grid(unions=((axis(2, 4), axis(8, 16)),))
    assert list(filters("model.loops", {"a": axis(4, 2, 8), "b": zipped, "c": union, "d": Grid()}, ())) == [4, 8]
    (one,) = filters("model.norm", {"b": zipped}, [parse_filter("model.norm != 'none'")]).values()
    assert (one.keeps({"model.norm": "rms"}), one.keeps({"model.norm": "none"})) == (True, False)


@pytest.mark.parametrize(
    ("text", "at", "name", "expected"),
    [
        ("val_loss", None, "val_loss", "final"),
        ("val_loss", "final", "val_loss", "final"),
        ("val_loss", "best", "val_loss", "best"),
        ("val_accuracy_low_ic", 500, "val_accuracy_low_ic", 500),
        ("val_loss", 0, "val_loss", 0),
        ("final_val_loss", None, "val_loss", "final"),
        ("best_excess_loss_high_ic", None, "excess_loss_high_ic", "best"),
        ("grad_norm", None, "grad_norm", "final"),
    ],
)
def test_a_column_is_taken_at_a_step_at_the_end_or_at_its_best(text, at, name, expected):
    found = metric_of(text, **({} if at is None else {"at": at}))
    assert (found.source, found.name, found.at, found.text) == ("metrics", name, expected, text)


def test_curvature_and_costs_know_their_source():
    assert (metric_of("lambda_max").source, metric_of("lambda_max").at) == ("curvature", "final")
    assert (metric_of("alone_s").source, metric_of("alone_s").at) == ("trials", None)
    assert metric_of("flops_alone").source == "metrics"


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("plateau_step", "plateau_step", ()),
        ("plateau_step()", "plateau_step", ()),
        ("plateau_step( 0.05 )", "plateau_step", (0.05,)),
        ("force_at(1e-2)", "force_at", (0.01,)),
        ("phase_order", "phase_order", ()),
    ],
)
def test_functionals_take_numbers(text, name, arguments):
    found = metric_of(text)
    assert (found.source, found.name, found.arguments, found.at) == ("functional", name, arguments, None)


@pytest.mark.parametrize(
    "text",
    [
        "plateau_step(x)",
        "plateau_step(1, 2)",
        "plateau_step(nan)",
        "plateau_step(,)",
        "plateau_step(1",
        "phase_order(1)",
    ],
)
def test_functionals_refuse_other_arguments(text):
    problems = []
    assert parse_claims([claim(metric=text)], axes=AXES, strata=STRATA, problems=problems) == ()
    assert [problem.where for problem in problems] == ["claims[1].metric"]


def test_every_functional_that_is_computed_may_be_claimed_with_as_many_arguments():
    for name, functional in COMPUTED.items():
        _, *parameters = inspect.signature(functional.compute).parameters.values()
        assert len(parameters) == len(FUNCTIONALS[name].arguments)
        assert sum(parameter.default is parameter.empty for parameter in parameters) == FUNCTIONALS[name].required


def test_every_column_that_may_be_claimed_is_registered_with_a_direction():
    names = metric_names(STRATA)
    assert {metric(name).better for name in names} == {"lower", "higher"}
    assert {name for name, source in names.items() if source == "curvature"} == set(COLUMNS)
    assert not {"spent_s", "flops_spent"} & set(names)


def test_parts_take_from_the_claim_what_they_do_not_say():
    (found,) = parse(
        {
            "text": "t",
            "arm": "looped",
            "against": "single",
            "expect": "higher",
            "all": [{"metric": "val_loss", "expect": "lower"}, {"metric": "val_accuracy", "arm": "shift"}],
        }
    )
    assert [(p.metric.name, p.arm, p.against, p.expect) for p in found.parts] == [
        ("val_loss", "looped", "single", "lower"),
        ("val_accuracy", "shift", "single", "higher"),
    ]


def test_a_number_may_stand_for_the_other_arm():
    (found,) = parse({"text": "t", "metric": "phase_order", "arm": "looped", "value": 0, "expect": "higher"})
    assert (found.parts[0].against, found.parts[0].value) == (None, 0.0)


def test_on_a_log_scale_the_margin_is_a_ratio():
    (found,) = parse(claim(metric="flops_alone", expect="not worse", margin=1.05))
    assert found.parts[0].margin == 1.05
    problems = []
    parse_claims(
        [claim(metric="flops_alone", expect="not worse", margin=0.05)], axes=AXES, strata=STRATA, problems=problems
    )
    assert "a ratio above 1" in str(problems[0])


def test_values_are_frozen_and_hashable():
    (found,) = parse(claim())
    assert hash(found) == hash(parse(claim())[0])
    with pytest.raises(AttributeError):
        found.text = "other"
