"""Sizes: an overlay merges key by key, errors stand where they are written, and a size is a study like all others."""

from __future__ import annotations

import copy
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import studies
from core.errors import InputError
from studies.expand import expand
from studies.sizes import SMALL, size_names, sized
from studies.spec import load_sizes, load_study, parse_study
from studies.store import Store
from sweeps.known import known_trials

STUDY = """
name = "s"
question = "?"
seeds = 2
[base.train]
steps = 30
warmup = 20
[arms.single]
schedule.kind = "single"
[arms.looped]
model.loops = 2
axes."train.lr" = [1e-3, 2e-3]
[axes]
"model.width" = [8, 16]
"train.batch" = [4, 8]
[nuisance]
"train.clip" = [1.0, 3.0]
tune_seeds = 2
[measure]
quantities = ["lambda_max"]
every = 10
"""

PAPER = """
[sizes.paper]
seeds = [7, 8, 9]
base.train.steps = 300
arms.looped.model.loops = 4
arms.looped.axes."train.lr" = [5e-3]
axes."model.width" = [32, 64, 128]
axes."train.beta2" = [0.99]
nuisance.tune_seeds = 4
measure.every = 100
"""


def write(tmp_path, text, name="s.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(source) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_study(source)
    return str(caught.value).splitlines()


# --- what a size is ----------------------------------------------------------------------------------------------


def test_an_overlay_merges_key_by_key_over_every_place(tmp_path):
    by_hand = """
name = "s"
question = "?"
seeds = [7, 8, 9]
[base.train]
steps = 300
warmup = 20
[arms.single]
schedule.kind = "single"
[arms.looped]
model.loops = 4
axes."train.lr" = [5e-3]
[axes]
"model.width" = [32, 64, 128]
"train.batch" = [4, 8]
"train.beta2" = [0.99]
[nuisance]
"train.clip" = [1.0, 3.0]
tune_seeds = 4
[measure]
quantities = ["lambda_max"]
every = 100
"""
    paper = load_study(f"{write(tmp_path, STUDY + PAPER)}@paper")
    same = load_study(write(tmp_path, by_hand, "hand.toml"))
    assert paper.name == "s@paper"
    assert sized(tomllib.loads(STUDY + PAPER), "paper") == tomllib.loads(by_hand)
    assert [t.trial_id for t in expand(paper)] == [t.trial_id for t in expand(same)]
    assert paper.measure == same.measure
    assert {t.study for t in expand(paper)} == {"s@paper"}


def test_the_document_as_it_stands_is_the_size_small(tmp_path):
    path = write(tmp_path, STUDY + PAPER)
    alone = load_study(write(tmp_path, STUDY, "alone.toml"))
    assert tuple(load_sizes(path)) == (SMALL, "paper") == size_names(tomllib.loads(STUDY + PAPER))
    for source in (path, str(path), f"{path}@small", f"{path}@{SMALL}"):
        found = load_study(source)
        assert (found.name, found.file) == ("s", str(path))
        assert [t.trial_id for t in expand(found)] == [t.trial_id for t in expand(alone)]


def test_a_list_of_stages_and_a_short_form_displace_each_other(tmp_path):
    text = 'name = "s"\nquestion = "?"\nseeds = 1\n[base.train]\nsteps = 30\n[base.schedule]\n{}\n[arms.a]\n'
    stages = "stages = [{ loops = 2, until = 0.5 }, { loops = 3 }]"
    listed = write(tmp_path, text.format('kind = "grow"') + f"[sizes.paper.base.schedule]\n{stages}\n", "l.toml")
    short = write(tmp_path, text.format(stages) + '[sizes.paper.base.schedule]\nkind = "grow"\n', "g.toml")
    for path, other in ((listed, short), (short, listed)):
        ids = [expand(load_study(source))[0].trial_id for source in (f"{path}@paper", other)]
        assert ids[0] == ids[1]


KEYS = st.sampled_from(["seeds", "base", "arms", "axes", "nuisance", "measure", "model", "train", "loops", "lr"])
TABLES = st.recursive(
    st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2), st.just("looped")),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(document=st.dictionaries(KEYS, TABLES, max_size=4), overlay=st.dictionaries(KEYS, TABLES, max_size=4))
def test_an_overlay_of_nothing_or_of_what_stands_there_changes_nothing(document, overlay):
    before = copy.deepcopy(document)
    assert sized(document | {"sizes": {"paper": {}}}, "paper") == document
    whole = {key: document[key] for key in ("seeds", "base", "arms", "axes", "nuisance", "measure") if key in document}
    assert sized(document | {"sizes": {"paper": whole}}, "paper") == document
    once = sized(document | {"sizes": {"paper": overlay}}, "paper")
    twice = sized(once | {"sizes": {"paper": overlay}}, "paper")
    assert once == twice
    assert document == before


# --- how a size is named -----------------------------------------------------------------------------------------


def test_an_unknown_size_is_one_error_with_the_nearest_name(tmp_path):
    path = write(tmp_path, STUDY.replace("steps", "stpes") + PAPER)
    assert refused(f"{path}@papr") == [f"{path}: has no size 'papr'; did you mean 'paper'?"]
    assert refused(f"{path}@zz") == [f"{path}: has no size 'zz'; known are paper, small"]
    assert refused("quickstart@paprika") == ["quickstart: has no size 'paprika'; known are small"]
    assert "did you mean 'quickstart'?" in refused("quikstart@small")[0]
    assert load_study("quickstart@small").name == "quickstart"


def test_a_file_that_is_called_so_wins(tmp_path):
    write(tmp_path, STUDY + PAPER)
    literal = write(tmp_path, STUDY.replace('"s"', '"literal"'), "s.toml@paper")
    assert load_study(str(literal)).name == load_study(literal).name == "literal"
    folder = tmp_path / "at@home"
    folder.mkdir()
    write(folder, STUDY + PAPER, "my@study.toml")
    assert load_study(f"{folder}/my@study.toml").name == "s"
    assert load_study(f"{folder}/my@study.toml@paper").name == "s@paper"
    assert "no such file" in refused(f"{folder}/your@study.toml")[0]


def test_results_are_those_of_the_size_and_ids_are_found_in_the_store(tmp_path):
    path = write(tmp_path, STUDY + PAPER)
    store = Store.open(tmp_path / "store", create=True)
    results = studies.load(f"{path}@paper", store=store)
    assert set(results.trials()["study"]) == {"s@paper"}
    assert set(results.trials()["steps"]) == {300}
    store.keep_study(path.read_bytes(), "paper")
    kept = {t.study for t in known_trials((), store)[0]}
    assert "s@paper" in kept
    assert "s" not in kept  # it was not run here
    store.keep_study(path.read_bytes())
    assert {"s", "s@paper"} <= {t.study for t in known_trials((), store)[0]}


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlay", "key", "says"),
    [
        ("base.train.steps = 0", "sizes.paper.base.train.steps", "must be at least 1, got 0"),
        ("base.train.stpes = 9", "sizes.paper.base.train.stpes", "did you mean 'steps'?"),
        ("base.modle.width = 9", "sizes.paper.base.modle", "did you mean 'model'?"),
        ("base = 3", "sizes.paper.base", "must be a table"),
        ("seeds = 0", "sizes.paper.seeds", "must be 1 … 1000000 seeds"),
        ('seeds = "many"', "sizes.paper.seeds", "must be a number of seeds"),
        ('axes."model.width" = [0]', 'sizes.paper.axes."model.width"', "must be at least 1"),
        ('axes."model.widht" = [8]', 'sizes.paper.axes."model.widht"', "did you mean 'model.width'?"),
        ('axes."model.width" = 8', 'sizes.paper.axes."model.width"', "write [8]"),
        ('axes."train.clip" = [1.0]', 'nuisance."train.clip"', "stands in [axes] too"),
        ("arms.lopped.model.loops = 2", "sizes.paper.arms.lopped", "did you mean 'looped'?"),
        ("arms.looped.model.loops = 0", "sizes.paper.arms.looped.model.loops", "must be at least 1"),
        ('arms.looped.axes."train.lr" = [-1.0]', 'sizes.paper.arms.looped.axes."train.lr"', "must be more than 0"),
        ("arms.looped.train.lr = 1e-3", "sizes.paper.arms.looped.train.lr", "varied by an axis"),
        ('nuisance."train.clip" = []', 'sizes.paper.nuisance."train.clip"', "must list 1"),
        ("nuisance.tune_seeds = 0", "sizes.paper.nuisance.tune_seeds", "must be at least 1"),
        ('measure.quantities = ["x"]', "sizes.paper.measure.quantities", "unknown quantity"),
        ("measure.evry = 3", "sizes.paper.measure.evry", "did you mean 'every'?"),
        ("claims = []", "sizes.paper.claims", "is the same in every size; write it outside [sizes]"),
        ("baes.train.lr = 1", "sizes.paper.baes", "did you mean 'base'?"),
        ("base.model.heads = 16", "sizes.paper.base.model.heads", "must divide width = 8, got 16"),
        ("base.train.steps = 10", "base.train.warmup", "(in size paper)"),
    ],
)
def test_an_error_in_an_overlay_names_the_place_in_the_overlay(overlay, key, says, tmp_path):
    path = write(tmp_path, f"{STUDY}[sizes.paper]\n{overlay}\n")
    for source in (path, f"{path}@paper"):  # all of a file is checked, whichever size is asked for
        (line,) = refused(source)
        assert line.startswith(f"{path}: {key}: ")
        assert says in line


@pytest.mark.parametrize(
    ("sizes", "key", "says"),
    [
        ("[sizes.small]\nseeds = 3", "sizes.small", "is the document itself"),
        ('[sizes."a b"]\nseeds = 3', "sizes.a b", "must be 1 … 64 letters"),
        ("[sizes]\npaper = 3", "sizes.paper", "must be a table"),
    ],
)
def test_a_size_has_a_name_and_is_a_table(sizes, key, says, tmp_path):
    path = write(tmp_path, f"{STUDY}{sizes}\n")
    (line,) = refused(path)
    assert line.startswith(f"{path}: {key}: ")
    assert says in line


def test_what_is_wrong_in_the_document_is_said_once_whatever_its_sizes(tmp_path):
    path = write(tmp_path, STUDY.replace("steps = 30", "steps = 10") + PAPER + "[sizes.large]\nbase.train.lr = -1\n")
    own, of_large = refused(path)
    assert own.startswith(f"{path}: base.train.warmup: must be at most steps = 10, got 20 (with ")
    assert "size" not in own
    assert of_large == f"{path}: sizes.large.base.train.lr: must be more than 0, got -1.0"


def test_errors_of_expansion_name_the_size():
    large = {"model.width": list(range(100, 300)), "model.heads": [1, 2, 100], "model.depth": list(range(1, 41))}
    document = {"name": "s", "question": "?", "seeds": 1, "arms": {"a": {}}, "sizes": {"paper": {"axes": large}}}
    with pytest.raises(InputError) as caught:  # too many settings to be checked on reading
        expand(parse_study(document, file="s.toml", size="paper"))
    assert str(caught.value).startswith("s.toml@paper: arms.a.model.heads: must divide width = 101, got 2")
