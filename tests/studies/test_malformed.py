"""Every malformed study is refused with one clear line per error that names the file and the key."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from studies.spec import catalogue, load_study, parse_study
from tests.studies.malformed_cases import CASES


def refused(path) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_study(path)
    return str(caught.value).splitlines()


def test_there_are_at_least_sixty_cases_with_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_malformed_study_is_refused(case, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(case.text, encoding="utf-8")
    start = time.process_time()
    lines = refused(path)
    assert time.process_time() - start < 1
    assert all(line.startswith(f"{path}: ") and line.isprintable() and len(line) < 700 for line in lines), lines
    assert any(case.key in line and case.says in line for line in lines), lines
    assert len(lines) <= (1 if case.name.startswith(("stages", "criterion")) else 3), lines


def test_all_errors_of_a_file_are_said_at_once(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "x"\nqestion = "?"\nseeds = 0\nwhere = ["1 +"]\n'
        '[base.model]\nwidht = 3\n[base.train]\nlr = "fast"\n'
        '[arms.single]\nschedule.kind = "singel"\n[axes]\n"model.loops" = []\n'
        '[measure]\nquantities = ["x"]\n[[claims]]\ntext = "t"\nmetric = "m"\narm = "a"\nvalue = 1\nexpect = "lower"\n'
    )
    lines = refused(path)
    for key in (
        "qestion",
        "question",
        "seeds",
        "where[1]",
        "base.model.widht",
        "base.train.lr",
        "arms.single.schedule.kind",
        "model.loops",
        "measure.quantities",
        "claims[1].metric",
        "claims[1].arm",
    ):
        assert sum(f": {key}: " in line or f'"{key}": ' in line for line in lines) == 1, (key, lines)
    assert len(lines) == 11


def test_all_errors_of_a_list_of_stages_are_said_at_once_each_at_its_place(tmp_path):
    path = tmp_path / "study.toml"
    stages = (
        '[{loops = 0, until = {delta1 = -1, dleta2 = 1, latest = "x"}}, {lops = 1}, {until = {criterion = "los"}}, '
        "{lr_factor = 0.0, until = 0.5}]"
    )
    path.write_text(
        f'name = "x"\nquestion = "?"\n[base]\nschedule.stages = {stages}\n'
        f'[arms.a]\n[arms.b]\nschedule.stages = {stages}\n[axes]\n"schedule.stages" = [[{{}}], {stages}]\n'
    )
    expected = {
        "[1].loops": "at least 1",
        "[1].until.delta1": "more than 0",
        "[1].until.dleta2": "'delta2'",
        "[1].until.latest": "got 'x'",
        "[2].lops": "'loops'",
        "[2].until": "is required",
        "[3].until.criterion": "'loss'",
        "[4].lr_factor": "more than 0",
        "[4].until": "last stage",
    }
    lines = refused(path)
    for place in ("base.schedule.stages", "arms.b.schedule.stages", 'axes."schedule.stages"[2]'):
        for key, says in expected.items():
            assert [says in line for line in lines if f": {place}{key}: " in line] == [True], (place, key, lines)
    assert len(lines) == 3 * len(expected)


def test_what_all_arms_take_from_one_place_is_said_once_at_that_place(tmp_path):
    path = tmp_path / "study.toml"
    head = 'name = "x"\nquestion = "?"\n'
    path.write_text(f"{head}[base.model]\nheads = 3\n[arms.a]\n[arms.b]\ntrain.lr = 0.1\n")
    assert refused(path) == [f"{path}: base.model.heads: must divide width = 32, got 3"]
    path.write_text(f"{head}[base.model]\nheads = 3\n[arms.a]\nmodel.width = 9\n[arms.b]\n")
    assert refused(path) == [f"{path}: arms.b.model.heads: must divide width = 32, got 3"]
    path.write_text(f"{head}[arms.a]\nmodel.heads = 3\n[arms.b]\nmodel.heads = 3\n")
    assert len(refused(path)) == 2  # two places, two mistakes
    path.write_text(f'{head}[arms.a]\n[arms.b]\n[axes]\n"model.heads" = [1, 3]\n')
    assert refused(path) == [f'{path}: axes."model.heads": must divide width = 32, got 3 (with model.heads = 3)']


def test_a_list_of_very_many_stages_is_read_in_time(tmp_path):
    path = tmp_path / "study.toml"
    stages = ", ".join(f"{{loops = {2 - n % 2}, until = {n}}}" for n in range(1, 20000))
    path.write_text(f'name = "x"\nquestion = "?"\n[base.schedule]\nstages = [{stages}]\n[arms.a]\n')
    start = time.process_time()
    (line,) = refused(path)
    assert "base.schedule.stages[19999].until: is not for the last stage" in line
    assert time.process_time() - start < 5


def test_a_slip_that_breaks_every_setting_is_said_a_bounded_number_of_times(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "x"\nquestion = "?"\n[arms.a]\n[axes]\n"model.heads" = [7, 11, 13]\n'
        f'"model.width" = {list(range(20, 60, 2))}\n'
    )
    assert len(refused(path)) <= 51


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("latin.toml", b'name = "caf\xe9"\n', "must be UTF-8, got byte 0xe9"),
        ("binary.toml", bytes(range(256)), "must be UTF-8"),
        ("nul.toml", b'name = "a\x00b"\n', "is not TOML"),
    ],
)
def test_what_is_no_text_is_refused(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    (line,) = refused(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: ")
    assert says in line


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "quick.toml").write_text("")
    (tmp_path / "folder.toml").mkdir()
    assert "did you mean" in refused(tmp_path / "quik.toml")[0]
    assert "got a directory" in refused(tmp_path / "folder.toml")[0]
    assert "no such file" in refused(tmp_path / "none" / "x.toml")[0]
    assert "cannot be read" in refused(str(tmp_path / ("x" * 300)) + ".toml")[0]
    assert refused("a\0b.toml") == ["a\\x00b.toml: no such file"]
    assert "device" in refused("/dev/zero")[0]


def test_an_unreadable_file_is_refused(tmp_path):
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    assert "is a link" in refused(tmp_path / "loop.toml")[0]


def test_an_unknown_name_gets_the_nearest_of_the_catalogue():
    assert "did you mean 'quickstart'?" in refused("quikstart")[0]
    assert ", ".join(path.stem for path in catalogue()) in refused("zzz")[0]
    assert len(refused("")) == 1


WORDS = st.sampled_from(
    [
        "kind",
        "stages",
        "until",
        "loops",
        "delta1",
        "latest",
        "criterion",
        "switch",
        "scp",
        "shift",
        "optimizer",
        "\x1b[0m",
    ]
)
LEAVES = st.one_of(
    WORDS,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 4000),
    st.floats(),
    st.dates(),
    st.text(max_size=3),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(below=ANYTHING, schedule=st.dictionaries(WORDS, ANYTHING, max_size=4), varied=ANYTHING, listed=ANYTHING)
def test_whatever_stands_in_a_schedule_is_read_or_refused_in_clear_lines(below, schedule, varied, listed):
    document = {
        "name": "x",
        "question": "?",
        "seeds": 1,
        "base": {"schedule": below},
        "arms": {"a": {"schedule": schedule}, "b": {"schedule": {"stages": listed}}, "c": {}},
        "axes": {"schedule.stages": varied},
    }
    try:
        parse_study(document, file="x.toml")
    except InputError as error:
        lines = str(error).splitlines()
        assert all(line.startswith("x.toml: ") and line.isprintable() for line in lines)
        assert len(set(lines)) == len(lines)
