"""Text tasks in studies: files are found and read when the study is, and what a trial keeps of them is their digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core import files
from core.errors import InputError
from core.task_terms import TextTask
from studies.expand import expand
from studies.json_schema import schema
from studies.spec import load_sizes, load_study
from studies.study import Study
from tests.core.tokenizers_made import byte_pairs

HEAD = 'name = "of-text"\nquestion = "What does it read?"\nseeds = 2\n'
TASK = '[base.task]\nkind = "text"\nlength = 8\nval_size = 4\nval_share = 0.25\n'
ARMS = '[arms.single]\nschedule.kind = "single"\n[arms.looped]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(b"to be or not to be " * 20)
    (tmp_path / "texts" / "b.txt").write_bytes(b"that is the question" * 10)
    return tmp_path


def read(folder: Path, task: str = 'files = ["texts/*.txt"]\n', arms: str = ARMS, *, rest: str = "") -> Study:
    path = folder / "study.toml"
    path.write_text(HEAD + TASK + task + arms + rest)
    return load_study(path)


def refused(folder: Path, *parts: str, **named: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder, *parts, **named)
    return str(caught.value).replace(f"{folder}/study.toml: ", "").splitlines()


def ids(study: Study) -> list[str]:
    return [trial.trial_id for trial in expand(study)]


def task_of(study: Study) -> TextTask:
    task = expand(study)[0].config.task
    assert isinstance(task, TextTask)
    return task


def test_what_is_read_is_worked_out(folder: Path) -> None:
    study = read(folder)
    (text,) = study.texts
    assert text.files == (("a.txt", 380), ("b.txt", 200))
    assert (text.size, text.tokens) == (580, 256)
    task = task_of(study)
    assert task.files == (f"{folder}/texts/*.txt",)
    assert task.digest == text.digest
    assert task.vocabulary == 256


def test_a_study_and_its_texts_may_move(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, elsewhere)
    assert ids(read(elsewhere)) == ids(read(folder))
    assert ids(read(folder, f'files = ["{elsewhere}/texts/*.txt"]\n')) == ids(read(folder))


def test_other_contents_are_other_trials_and_the_old_text_brings_the_old_ones_back(folder: Path) -> None:
    before = ids(read(folder))
    old = (folder / "texts" / "a.txt").read_bytes()
    (folder / "texts" / "a.txt").write_bytes(old.upper())
    assert not set(ids(read(folder))) & set(before)
    (folder / "texts" / "a.txt").write_bytes(old)
    assert ids(read(folder)) == before


def test_each_set_of_files_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    plain = files.TextFile.read

    def counted(file: files.TextFile) -> bytes:
        reads.append(file.name)
        return plain(file)

    monkeypatch.setattr(files.TextFile, "read", counted)
    other = '[arms.b]\ntask.files = ["texts/b.txt"]\n[arms.c]\ntask.files = ["texts/b.txt"]\ntask.length = 4\n'
    study = read(folder, arms=ARMS + other)
    assert reads == ["a.txt", "b.txt", "b.txt"]
    assert [len(text.files) for text in study.texts] == [2, 1]
    digests = {trial.arm: trial.config.task.digest for trial in expand(study)}  # type: ignore[union-attr]
    assert digests["single"] == digests["looped"] == study.texts[0].digest
    assert digests["b"] == digests["c"] == study.texts[1].digest


def test_a_digest_pins_the_files(folder: Path) -> None:
    digest = task_of(read(folder)).digest
    pinned = f'files = ["texts/*.txt"]\ndigest = "{digest}"\n'
    assert ids(read(folder, pinned)) == ids(read(folder))
    (folder / "texts" / "c.txt").write_bytes(b"more")
    there = task_of(read(folder)).digest
    assert refused(folder, pinned) == [
        f"base.task.digest: pins {digest}, but the files have {there}; restore the files, or pin that"
    ]


def test_axes_over_a_text_share_its_digest(folder: Path) -> None:
    study = read(folder, rest='[axes]\n"task.length" = [4, 8]\n"task.train_size" = [0, 16]\n')
    assert len(ids(study)) == len(set(ids(study))) == 16
    assert len({trial.config.task.digest for trial in expand(study)}) == 1  # type: ignore[union-attr]


def test_the_standard_library_is_read_wherever_python_is(folder: Path) -> None:
    (text,) = read(folder, 'files = ["python:json/*.py"]\n').texts
    assert {"python:json/__init__.py", "python:json/decoder.py"} <= dict(text.files).keys()


def test_a_tokenizer_is_part_of_what_is_read(folder: Path) -> None:
    (folder / "t.json").write_bytes(byte_pairs("to be or not to be"))
    study = read(folder, 'files = ["texts/*.txt"]\ntokenizer = "t.json"\n')
    task = task_of(study)
    assert task.tokenizer == f"{folder}/t.json"
    assert task.vocabulary == task.tokens == study.texts[0].tokens
    assert 256 <= task.vocabulary <= 300
    assert study.texts[0].digest != read(folder).texts[0].digest


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "key", "says"),
    [
        ('files = ["texts/*.md"]\n', "base.task.files", "texts/*.md' matches no file"),
        ('files = ["texts/*.txt", "texts/z.txt"]\n', "base.task.files", "texts/z.txt' matches no file"),
        ("", "base.task.files", "is required: globs of text files"),
        ("files = []\n", "base.task.files", "is required: globs of text files"),
        ('files = [""]\n', "base.task.files", "must be globs of text files"),
        ('files = "texts/*.txt"\n', "base.task.files", "must be a list, each a text, got 'texts/*.txt'"),
        ('files = ["texts/*.txt"]\ntokenizer = "t.json"\n', "base.task.tokenizer", "t.json cannot be read: No such"),
        ('files = ["texts/*.txt"]\ndigest = "abc"\n', "base.task.digest", "must be 16 hex digits, as plan shows them"),
        ('files = ["texts/*.txt"]\ntokens = 300\n', "base.task.tokens", "must be 256 where no tokenizer is named"),
        ('files = ["texts/*.txt"]\nfile = "x"\n', "base.task.file", "did you mean 'files'?"),
        ('files = ["texts/a.txt"]\nstates = 3\n', "base.task.states", "unknown key"),
    ],
)
def test_a_broken_text_is_one_line_at_its_key(task: str, key: str, says: str, folder: Path) -> None:
    (line,) = refused(folder, task)
    assert line.startswith(f"{key}: ")
    assert says in line


def test_what_only_one_arm_reads_is_said_there(folder: Path) -> None:
    (line,) = refused(folder, arms=ARMS + '[arms.other]\ntask.files = ["nothing"]\n')
    assert line.startswith(f"arms.other.task.files: '{folder}/nothing' matches no file")


def test_less_text_than_one_sequence_is_said_at_the_key_that_asks_for_it(folder: Path) -> None:
    (line,) = refused(folder, 'files = ["texts/b.txt"]\n', rest='[axes]\n"task.length" = [8, 200]\n')
    assert line.startswith("base.task.files: one sequence of task.length = 200 predictions takes 201 tokens, got 150")
    (line,) = refused(folder, rest='[axes]\n"task.val_size" = [2, 19]\n')
    assert line.startswith('axes."task.val_size": must be at most 18 sequences of task.length = 8 predictions')


def test_a_tokenizer_that_is_none_is_said_at_its_key(folder: Path) -> None:
    pytest.importorskip("tokenizers")
    (folder / "t.json").write_text("{}")
    (line,) = refused(folder, 'files = ["texts/*.txt"]\ntokenizer = "t.json"\n')
    assert line.startswith(f"base.task.tokenizer: {folder}/t.json must be a tokenizer.json")


@pytest.mark.parametrize("key", ["files", "tokenizer", "digest", "tokens"])
def test_what_names_a_text_cannot_be_an_axis(key: str, folder: Path) -> None:
    value = '[["texts/a.txt"]]' if key == "files" else "[300]" if key == "tokens" else '["x"]'
    (line,) = refused(folder, rest=f'[axes]\n"task.{key}" = {value}\n')
    assert line.startswith(f'axes."task.{key}": ')
    assert "set it in [base] or in the arms" in line
    assert f"task.{key}" not in schema()["$defs"]["axis"]["properties"]


def test_strata_of_other_tasks_are_no_metrics_of_a_text(folder: Path) -> None:
    claim = '[[claims]]\ntext = "it"\nmetric = "{}"\narm = "looped"\nagainst = "single"\nexpect = "lower"\n'
    (line,) = refused(folder, rest=claim.format("final_val_loss_low_ic"))
    assert line.startswith("claims[1].metric: unknown metric, got 'final_val_loss_low_ic'")
    assert read(folder, rest=claim.format("final_val_bits_per_byte")).claims


def test_metrics_that_only_other_tasks_have_are_refused_in_claims(folder: Path) -> None:
    claim = '[[claims]]\ntext = "it"\nmetric = "{}"\narm = "looped"\nagainst = "single"\nexpect = "lower"\n'
    (line,) = refused(folder, rest=claim.format("final_excess_loss"))
    expected = (
        "claims[1].metric: excess_loss is only had of tasks of kind markov, and arm looped has none; take another"
    )
    assert line == expected
    (folder / "markov.toml").write_text(HEAD + ARMS + claim.format("best_val_bits_per_byte"))
    with pytest.raises(InputError, match=r"val_bits_per_byte is only had of tasks of kind text, and arm looped has"):
        load_study(folder / "markov.toml")
    (folder / "markov.toml").write_text(HEAD + ARMS + claim.format("final_excess_loss_low_ic"))
    assert load_study(folder / "markov.toml").claims


# --- sizes -----------------------------------------------------------------------------------------------------------

PAPER = '[sizes.paper.base.task]\nfiles = ["corpus/*.txt"]\n'


def test_the_texts_of_another_size_may_lie_elsewhere(folder: Path) -> None:
    plain = ids(read(folder))
    assert ids(read(folder, rest=PAPER)) == plain
    with pytest.raises(InputError) as caught:
        load_study(f"{folder}/study.toml@paper")
    assert f"sizes.paper.base.task.files: '{folder}/corpus/*.txt' matches no file" in str(caught.value)
    assert len(load_sizes(folder / "study.toml")) == 2


def test_a_size_reads_its_own_texts(folder: Path) -> None:
    (folder / "corpus").mkdir()
    (folder / "corpus" / "all.txt").write_bytes(b"so much more of it " * 50)
    small = read(folder, rest=PAPER)
    paper = load_study(f"{folder}/study.toml@paper")
    assert [text.size for text in (*small.texts, *paper.texts)] == [580, 950]
    assert not set(ids(small)) & set(ids(paper))


def test_sizes_of_one_text_know_it_whichever_is_asked_for(folder: Path) -> None:
    rest = "[sizes.paper.base.train]\nsteps = 5000\n"
    read(folder, rest=rest)
    for source in ("study.toml", "study.toml@paper"):
        found = load_sizes(f"{folder}/{source}")
        assert [study.texts for study in found.values()] == [found["small"].texts] * 2
        assert len(found["small"].texts) == 1


def test_a_study_in_two_sizes_says_once_that_their_files_are_not_there(folder: Path) -> None:
    lines = refused(folder, 'files = ["nothing"]\n', rest="[sizes.paper.base.train]\nsteps = 5000\n")
    assert lines == [
        f"base.task.files: '{folder}/nothing' matches no file; mend the pattern (** stands for any folders)"
    ]
