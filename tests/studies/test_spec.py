"""Reading a study: the contract's example, what is filled in, and documentation that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.config import MeasureConfig
from core.errors import InputError
from studies.expand import expand
from studies.spec import load_study, parse_study

ROOT = Path(__file__).parents[2]

CONTRACT = """
name = "shift-switch-point"
question = "How early may SHIFT leave Single-Attn without losing accuracy on complex sequences?"
seeds = 10
[base.task]
kind = "markov"
states = 16
chains = 8
length = 32
train_size = 4096
[base.model]
width = 32
heads = 1
depth = 1
loops = 3
mlp_ratio = 0
attention = "softmax"
norm = "none"
position = "learned"
[base.train]
steps = 3000
batch = 64
optimizer = "adamw"
lr = 1e-3
lr_schedule = "constant"
evaluate_every = 100
[arms.single]
schedule.kind = "single"
[arms.looped]
schedule.kind = "looped"
[arms.shift]
schedule.kind = "shift"
axes."schedule.switch" = [0.1, 0.3, 0.5, 0.7, 0.9]
[axes]
"model.loops" = [2, 3, 4]
[nuisance]
"train.lr" = [3e-4, 1e-3, 3e-3]
[measure]
quantities = ["lambda_max", "entropy"]
every = 500
[[claims]]
text = "SHIFT is not worse than Looped-Attn on complex sequences"
metric = "final_val_loss_high_ic"
arm = "shift"
against = "looped"
expect = "not worse"
margin = 0.01
"""
"""The example of the design, key by key."""


def load(text: str, tmp_path: Path):
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return load_study(path)


def test_the_example_of_the_contract_loads(tmp_path):
    study = load(CONTRACT, tmp_path)
    assert study.name == "shift-switch-point"
    assert study.seeds == tuple(range(10))
    assert [arm.name for arm in study.arms] == ["single", "looped", "shift"]
    assert study.axes.keys == ("model.loops",)
    assert study.arms[2].axes.keys == ("schedule.switch",)
    assert study.measure == MeasureConfig(quantities=("lambda_max", "entropy"), every=500)
    assert study.measure.probe == 32
    assert study.nuisance is not None
    assert study.nuisance.metric == "final_val_loss"
    assert study.search is None


def test_a_claim_names_a_column_and_the_study_measures_its_quantity(tmp_path):
    claim = '[[claims]]\ntext = "t"\nmetric = "top_cosine"\narm = "a"\nagainst = "b"\nexpect = "lower"\n'
    text = 'name = "s"\nquestion = "?"\n[arms.a]\n[arms.b]\n[measure]\nquantities = [{}]\n' + claim
    study = load(text.format('"gradient_curvature"'), tmp_path)
    assert study.measure.quantities == ("gradient_curvature",)
    with pytest.raises(InputError, match=r"top_cosine is not measured; add gradient_curvature to measure\.quantities"):
        load(text.format('"lambda_max"'), tmp_path)
    with pytest.raises(InputError, match="'top_cosine' comes with the quantity 'gradient_curvature'"):
        load(text.format('"top_cosine"'), tmp_path)


@pytest.mark.parametrize(
    ("metric", "measure"),
    [
        ("lambda_max", "every = 15\nat = [40]"),
        ("lambda_max", "every = 10"),
        ("lambda_max", ""),
        ("best_lambda_max", "at = [0]"),
        ("force_at(0.01)", "at = [0]"),  # at the last measured step, whichever
        ("hopping_at(10)", "at = [0]"),
        ("entropy_dip", "at = [0, 40]"),
        ("phases_in_order", "every = 10"),
    ],
)
def test_what_may_be_decided_is_no_problem(tmp_path, metric, measure):
    quantities = '["lambda_max", "cumulative_force", "valley_hopping", "entropy"]'
    load(
        f"""name = "s"
question = "?"
[base]
train = {{ steps = 40, evaluate_every = 20 }}
[arms.a]
[arms.b]
[measure]
quantities = {quantities}
exact = 10000
{measure}
[[claims]]
text = "t"
metric = "{metric}"
arm = "a"
against = "b"
expect = "lower"
""",
        tmp_path,
    )


def test_of_a_grid_too_large_to_be_walked_no_claim_is_refused(tmp_path, monkeypatch):
    text = """name = "s"
question = "?"
[base]
train.steps = 40
[arms.a]
[measure]
quantities = ["lambda_max"]
at = [0]
[[claims]]
text = "t"
metric = "lambda_max"
arm = "a"
value = 1
expect = "lower"
"""
    with pytest.raises(InputError, match=r"add 40 to measure\.at"):
        load(text, tmp_path)
    monkeypatch.setattr("studies.feasible.MAX_CHECKED", 0)
    assert load(text, tmp_path).claims[0].parts[0].metric.at == "final"


@pytest.mark.parametrize("limit", [1535, 1536])
def test_what_only_an_exact_spectrum_settles_is_refused_above_its_limit(tmp_path, limit):
    text = f"""name = "s"
question = "?"
[base]
task = {{ states = 8, length = 16 }}
model = {{ width = 16 }}
[arms.a]
[arms.b]
model.norm = "none"
[measure]
quantities = ["entropy", "cumulative_force"]
exact = {limit}
"""
    if limit == 1536:
        assert load(text, tmp_path).measure.exact == limit
        return
    with pytest.raises(InputError, match=r"measure\.exact: cumulative_force need.*arm a has 1536 parameters") as error:
        load(text, tmp_path)
    assert len(error.value.problems) == 1


def test_tuning_seeds_are_derived_distinct_and_disjoint_from_the_seeds():
    document = {"name": "a", "question": "?", "arms": {"a": {}}, "nuisance": {"train.lr": [1e-3, 2e-3]}}
    first = parse_study(document, file="f").nuisance
    assert first is not None
    assert len(set(first.seeds)) == 3
    taken = parse_study(document | {"seeds": list(first.seeds[:2])}, file="f").nuisance
    more = parse_study(document | {"nuisance": {"train.lr": [1e-3, 2e-3], "tune_seeds": 5}}, file="f").nuisance
    assert taken is not None
    assert more is not None
    assert not set(taken.seeds) & set(first.seeds[:2])
    assert more.seeds[:3] == first.seeds  # so that more tuning seeds run only what is new


def test_the_smallest_study_is_a_name_a_question_and_an_arm(tmp_path):
    study = load('name = "a"\nquestion = "?"\n[arms.only]\n', tmp_path)
    assert study.seeds == (0, 1, 2, 3, 4)
    assert len(expand(study)) == 5


def test_seeds_may_be_listed_and_keep_their_order(tmp_path):
    study = load('name = "a"\nquestion = "?"\nseeds = [7, 3, 9223372036854775807]\n[arms.only]\n', tmp_path)
    assert [trial.config.seed for trial in expand(study)] == [7, 3, 2**63 - 1]


def test_what_an_arm_sets_goes_before_what_base_sets(tmp_path):
    study = load(
        'name = "a"\nquestion = "?"\nseeds = 1\n[base.model]\nwidth = 16\nheads = 2\n'
        "[arms.narrow]\n[arms.wide]\nmodel.width = 64\n",
        tmp_path,
    )
    assert [(t.config.model.width, t.config.model.heads) for t in expand(study)] == [(16, 2), (64, 2)]


def test_a_rule_that_base_breaks_and_every_arm_mends_is_no_error(tmp_path):
    study = load(
        'name = "a"\nquestion = "?"\n[base.model]\nheads = 3\n[arms.a]\nmodel.width = 9\n[arms.b]\nmodel.width = 6\n',
        tmp_path,
    )
    assert {trial.config.model.width for trial in expand(study)} == {9, 6}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "a"\r\nquestion = "?"\r\n[arms.only]\r\n')
    assert load_study(path).name == "a"


def test_a_bare_name_means_the_catalogue_whatever_lies_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert load_study("quickstart").name == "quickstart"
    (tmp_path / "mine.toml").write_text('name = "mine"\nquestion = "?"\n[arms.only]\n')
    assert load_study("mine.toml").name == "mine"
    assert load_study("./mine.toml").file == "./mine.toml"
    with pytest.raises(InputError, match=r"the file is mine\.toml"):
        load_study("mine")


@pytest.mark.parametrize("number", range(len(re.findall(r"^```toml$", (ROOT / "docs/studies.md").read_text(), re.M))))
def test_the_examples_of_the_documentation_load_and_expand(number, tmp_path):
    examples = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/studies.md").read_text(encoding="utf-8"), re.M | re.S)
    study = load(examples[number], tmp_path)
    assert study.search is not None or expand(study)


def test_the_documentation_shows_every_part_of_the_grammar():
    text = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    for part in ("[[axes.zip]]", "[[axes.union]]", "where = [", "[nuisance]", "[search]", "[measure]", "all = ["):
        assert part in text


def search(space, **base):
    document = {"name": "a", "question": "?", "base": base, "arms": {"a": {}}}
    return parse_study(document | {"search": {"kind": "random", "trials": 4, "space": space}}, file="f")


def test_a_search_is_tried_only_on_settings_that_it_can_propose():
    # heads = 2 would not divide the width of [base], which the search replaces
    found = search({"model.width": [8, 16], "model.heads": [2, 4]}, model={"width": 9})
    assert found.search is not None
    assert list(found.search.space) == ["model.width", "model.heads"]
    with pytest.raises(InputError, match=r"must divide width = 9, got 2"):
        search({"model.width": [8, 9, 16], "model.heads": [1, 2]})


def test_a_large_search_is_tried_along_its_edges():
    large = {
        "model.width": {"low": 64, "high": 1024},
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.depth": {"low": 1, "high": 64},
        "model.loops": {"low": 1, "high": 64},
    }
    assert search(large).search is not None
    with pytest.raises(InputError, match="must divide width"):
        search(large | {"model.heads": {"low": 1, "high": 40}})


def test_a_range_is_whole_where_its_ends_are():
    found = search({"model.loops": {"low": 1, "high": 8}, "train.lr": {"low": 1e-4, "high": 1}}).search
    assert found is not None
    assert [found.space[key].integer for key in found.space] == [True, False]
    assert found.space["train.lr"].high == 1.0


def improved(metric, *, arms, space, table=None):
    document = {"name": "a", "question": "?", "arms": arms}
    search = {"kind": "random", "trials": 4, "metric": metric, "space": space} | (table or {})
    return parse_study(document | {"search": search}, file="f").search


def test_a_search_improves_a_stratum_of_the_tasks_of_its_arms_and_of_what_it_varies():
    parity = {"task": {"kind": "parity", "test_length": [4, 6]}}
    rates = {"train.lr": [1e-3, 2e-3]}
    assert improved("final_val_exact_len_6", arms={"a": parity, "b": parity}, space=rates) is not None
    kinds = {"task.kind": ["markov", "parity"]}
    assert improved("final_val_exact", arms={"a": {}}, space=kinds) is not None
    assert improved("final_val_loss_low_ic", arms={"a": {}}, space=kinds) is not None
    with pytest.raises(InputError, match="the tasks of arm b have no val_exact_len_6"):
        improved("final_val_exact_len_6", arms={"a": parity, "b": {}}, space=rates)
    with pytest.raises(InputError, match="only had of tasks of kind"):
        improved("final_val_exact", arms={"a": {}}, space=rates)


def test_a_size_searches_arms_otherwise():
    document = {
        "name": "a",
        "question": "?",
        "arms": {"shift": {"schedule": {"kind": "shift"}, "space": {"schedule.switch": {"low": 0.1, "high": 0.9}}}},
        "search": {"kind": "random", "trials": 4},
        "sizes": {"late": {"arms": {"shift": {"space": {"schedule.switch": {"low": 0.8, "high": 0.9}}}}}},
    }
    (arm,) = parse_study(document, file="f", size="late").arms
    assert arm.space["schedule.switch"].low == 0.8
