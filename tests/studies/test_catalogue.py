"""Every catalogued study loads, expands and says what it is for; the schema for editors accepts it and is current."""

from __future__ import annotations

import re
import tomllib

import jsonschema
import pytest

from core.flops import flops_alone
from core.schedule_terms import CriterionConfig, StageConfig
from core.terms import terms
from studies.expand import count, expand
from studies.json_schema import schema, text
from studies.spec import CATALOGUE, catalogue, load_study
from tests.studies.malformed_cases import CASES

NAMES = [path.stem for path in catalogue()]
EXAMPLES = re.findall(
    r"^```toml\n(.*?)^```", (CATALOGUE.parents[1] / "docs/studies.md").read_text(encoding="utf-8"), re.M | re.S
)
VALIDATOR = jsonschema.Draft202012Validator(schema())


CURVED = ("hessian-dynamics", "river-valley", "gradient-alignment", "curvature-depth")
"""Claims 2 to 5 of the paper, and the same quantities on deep models."""


def test_the_catalogue_has_the_first_studies():
    assert {"quickstart", "looped-vs-single", *CURVED} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_catalogued_study_loads_expands_and_is_named_for_its_file(name):
    study = load_study(name)
    assert study.name == name
    assert study.claims
    trials = expand(study)
    assert 0 < len(trials) <= count(study)
    assert {trial.arm for trial in trials} == {arm.name for arm in study.arms}


@pytest.mark.parametrize("name", NAMES)
def test_a_catalogued_study_begins_with_what_it_asks(name):
    content = (CATALOGUE / f"{name}.toml").read_text(encoding="utf-8")
    assert content.startswith("# ")
    assert load_study(name).question.endswith("?")


def test_the_quickstart_compares_what_it_says():
    study = load_study("quickstart")
    assert [arm.name for arm in study.arms] == ["single", "looped", "shift", "depth3"]
    assert len(study.seeds) == 5
    by_arm = {trial.arm: trial for trial in expand(study)}
    assert [link.loops for link in by_arm["shift"].links] == [1, 3]
    assert by_arm["looped"].links[0].loops == 3
    assert by_arm["depth3"].config.model.depth == 3
    # SHIFT leaves Single-Attn's own past: its first half is that arm's first half.
    assert by_arm["shift"].links[0].lineage == by_arm["single"].links[0].lineage


@pytest.mark.parametrize("name", ["looped-vs-single", *CURVED])
def test_claims_are_made_on_ten_seeds(name):
    assert len(load_study(name).seeds) >= 10


@pytest.mark.parametrize("functional", ["kappa_at", "below_at", "force_at"])
def test_claims_about_river_and_valley_hold_at_thresholds_that_are_decades_apart(functional):
    """The paper gives no ε and no τ, so that a claim at one value would be a choice of the verdict."""
    metrics = [part.metric for claim in load_study("river-valley").claims for part in claim.parts]
    found = {metric.arguments for metric in metrics if metric.name == functional}
    assert found >= {(1e-4,), (1e-3,), (1e-2,)}


def test_the_depth_study_measures_deep_blocks_with_norm_and_mlp_and_what_the_toys_are_measured_by():
    deep, toy = (load_study(name) for name in ("curvature-depth", "hessian-dynamics"))
    model = expand(deep)[0].config.model
    assert model.depth > 1
    assert model.norm != "none"
    assert model.hidden > 0
    assert {"lambda_max", "entropy", "spectrum", "edge"} <= set(quantities(deep)) & set(quantities(toy))


def quantities(study):
    return expand(study)[0].config.measure.quantities


def test_the_schema_is_current_and_sound():
    assert (CATALOGUE.parent / "study.schema.json").read_text(encoding="utf-8") == text()
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_catalogue(name):
    VALIDATOR.validate(tomllib.loads((CATALOGUE / f"{name}.toml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_schema_accepts_what_the_documentation_shows(number):
    VALIDATOR.validate(tomllib.loads(EXAMPLES[number]))


def test_the_schema_describes_stages_and_criteria_once():
    definitions = schema()["$defs"]
    assert set(definitions["stage"]["properties"]) == set(terms(StageConfig))
    assert set(definitions["criterion"]["properties"]) == set(terms(CriterionConfig))
    for table in ("stage", "criterion"):
        assert not definitions[table]["additionalProperties"]
        assert all(term["description"] for term in definitions[table]["properties"].values())
    axis = definitions["axis"]["properties"]["schedule.stages"]
    assert (
        axis["items"]["items"] == definitions["schedule"]["properties"]["stages"]["items"] == {"$ref": "#/$defs/stage"}
    )


@pytest.mark.parametrize(
    "name",
    [
        "no-name",
        "name-is-a-path",
        "unknown-key",
        "unknown-section",
        "unknown-term",
        "text-for-integer",
        "zero-rate",
        "no-such-choice",
        "unknown-axis",
        "empty-axis",
        "repeated-value",
        "axis-out-of-range",
        "axis-of-observation",
        "search-kind",
        "search-one-choice",
        "stages-no-list",
        "stages-one-table",
        "stages-empty",
        "stages-unknown-key",
        "stages-text",
        "stages-no-loops",
        "stages-choice",
        "stages-kind",
        "criterion-unknown-key",
        "criterion-out-of-range",
        "criterion-text",
        "criterion-choice",
        "criterion-no-patience",
        "stages-axis-of-tables",
        "stages-axis-key",
        "stages-axis-criterion",
        "stages-axis-twice",
        "stages-searched",
        "unknown-quantity",
        "claim-unknown-key",
        "claim-expects-nonsense",
        "claim-at-nonsense",
    ],
)
def test_the_schema_refuses_what_an_editor_can_see(name):
    text_of = {case.name: case.text for case in CASES}
    assert not VALIDATOR.is_valid(tomllib.loads(text_of[name]))


def test_schedules_of_equal_cost_cost_the_same_within_a_thousandth():
    trials = [trial for trial in expand(load_study("stage-schedules")) if trial.config.seed == 0]
    cost = {trial.arm: flops_alone(trial.config, chain=trial.links) for trial in trials}
    equal = {arm: flops for arm, flops in cost.items() if arm.endswith("-flops")}
    assert len(equal) == 6
    assert all(abs(flops / cost["looped"] - 1) < 1e-3 for flops in equal.values()), equal


def test_the_settings_of_scp_are_at_least_64_and_wait_on_one_trunk_a_seed():
    trials = [trial for trial in expand(load_study("scp-ablation")) if trial.arm == "scp"]
    assert len({tuple(trial.varied.items()) for trial in trials}) >= 64
    assert len({trial.links[0].lineage for trial in trials}) == len(load_study("scp-ablation").seeds) == 10


PRACTICAL = ("loops-by-depth", "length-generalisation", "shift-algorithmic", "p-hop", "n-ary-addition", "text-lm")
"""Claims 6 and 7 of the paper, and its close relatives: each small enough for two cores, and large for a cluster."""


@pytest.mark.parametrize("name", PRACTICAL)
def test_a_practical_study_has_a_size_for_a_cluster_that_asks_the_same(name):
    small, paper = load_study(name), load_study(f"{name}@paper")
    assert [claim.text for claim in paper.claims] == [claim.text for claim in small.claims]
    assert {trial.arm for trial in expand(paper)} == {trial.arm for trial in expand(small)}
    costs = [
        sum(flops_alone(trial.config) for trial in expand(study) if trial.watch is None) for study in (small, paper)
    ]
    assert costs[0] < 5e13, "some minutes of two cores"
    assert costs[1] > 100 * costs[0]
    assert len(paper.seeds) >= 10


def test_shift_on_algorithms_shares_its_trials_with_length_generalisation():
    def by_arm(name):
        return {
            arm: {t.trial_id for t in expand(load_study(name)) if t.arm == arm} for arm in ("single", "looped", "shift")
        }

    assert by_arm("shift-algorithmic") == by_arm("length-generalisation")
    grids = {
        t.config.train.evaluate_every
        for n in ("shift-algorithmic", "length-generalisation")
        for t in expand(load_study(n))
    }
    assert len(grids) == 1, "a denser grid would have them trained again"


def test_controls_in_the_catalogue_are_as_deep_as_loops_are_many():
    depths = {t.config.model.depth for t in expand(load_study("length-generalisation")) if t.arm == "deep"}
    assert depths == {5}, "trained on the lengths 1 to 9"
    for name in ("p-hop", "n-ary-addition"):
        assert {t.config.model.depth for t in expand(load_study(name)) if t.arm == "deep"} == {4}
        assert {t.config.model.depth for t in expand(load_study(name)) if t.arm == "once"} == {1}
