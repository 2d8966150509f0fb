"""The text task: batches are pure, the parts share nothing, changed files are refused, bits per byte are as by hand."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core import files
from core.alone import train_alone
from core.architecture import architecture, init_parameters
from core.config import TrialConfig, trial_config
from core.errors import InputError
from core.lineage import links, pack_shape, trial_id
from core.model import forward
from core.task_data import task_data
from core.task_terms import TextTask
from core.text import TextData, cut, load, validation_starts, window_starts, windows
from tests.core.tokenizers_made import byte_pairs, words

ALPHABET = b"abcdefgh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in (("a.txt", 400), ("b.txt", 900), ("c.txt", 3)):
        (tmp_path / name).write_bytes(bytes(rng.choice(list(ALPHABET), size).astype(np.uint8)))
    return tmp_path


def planned(folder: Path, *, tokenizer: Path | None = None, **terms: object) -> TextTask:
    """A text task on the files of a folder, as planning makes it."""
    patterns = (f"{folder}/*.txt",)
    content = None if tokenizer is None else tokenizer.read_bytes()
    there = files.digest(((file.name, file.read()) for file in files.listed(patterns)), content)
    task = TextTask(files=patterns, digest=there, length=8, val_share=0.25, val_size=10)
    return replace(task, tokenizer=None if tokenizer is None else str(tokenizer), **terms)


def config(task: TextTask, **sections: dict[str, object]) -> TrialConfig:
    return trial_config({"train": {"batch": 6}, **sections, "task": asdict(task)})


# --- the two parts ---------------------------------------------------------------------------------------------------


@given(content=st.binary(max_size=300), share=st.floats(0.01, 0.99))
def test_the_end_of_a_file_is_held_out(content: bytes, share: float) -> None:
    place = cut(content, share, characters=False)
    assert len(content) - place == math.floor(len(content) * share)


@given(text=st.text(alphabet="aé猫𝄞", max_size=40), share=st.floats(0.01, 0.99))
def test_both_sides_of_a_cut_between_characters_are_text(text: str, share: float) -> None:
    content = text.encode()
    place = cut(content, share, characters=True)
    assert content[:place].decode() + content[place:].decode() == text
    assert 0 <= place - cut(content, share, characters=False) < 4


def test_training_and_validation_text_are_the_files_apart(folder: Path) -> None:
    task = planned(folder)
    text = load(task.files, None, task.digest or "", 256, 0.25)
    a, b, c = (np.frombuffer((folder / f"{name}.txt").read_bytes(), dtype=np.uint8) for name in "abc")
    np.testing.assert_array_equal(text.train, np.concatenate([a[:300], b[:675], c]))  # a quarter of 3 bytes is none
    np.testing.assert_array_equal(text.held_out, np.concatenate([a[300:], b[675:]]))
    assert text.train.dtype == text.held_out.dtype == np.uint8
    assert text.bytes_per_token == 1.0


def test_all_trials_share_one_text(folder: Path) -> None:
    first, second = (TextData(planned(folder), data_seed=seed, batch=seed + 1) for seed in (0, 1))
    assert first._text is second._text


# --- batches ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(start=st.integers(0, 10**6), count=st.integers(1, 9), size=st.sampled_from([0, 1, 7, 50]))
def test_a_batch_does_not_depend_on_the_block_it_is_asked_in(
    start: int, count: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "pure"
    if not folder.exists():
        folder.mkdir()
        (folder / "a.txt").write_bytes(ALPHABET * 200)
    task = planned(folder, train_size=size)
    data = TextData(task, data_seed=3, batch=6)
    inputs, targets = data.batches(start, count)
    assert inputs.shape == targets.shape == (count, 6, 8)
    assert inputs.dtype == targets.dtype == np.int64
    np.testing.assert_array_equal(inputs[..., 1:], targets[..., :-1])
    fresh = TextData(task, data_seed=3, batch=6)
    for step in reversed(range(count)):
        one_inputs, one_targets = fresh.batches(start + step, 1)
        np.testing.assert_array_equal(one_inputs[0], inputs[step])
        np.testing.assert_array_equal(one_targets[0], targets[step])


@settings(max_examples=30)
@given(start=st.integers(0, 10**4), count=st.integers(1, 40), places=st.integers(1, 10**7))
def test_a_window_begins_where_its_number_says(start: int, count: int, places: int) -> None:
    found = window_starts(5, places, start, count)
    assert found.min() >= 0
    assert found.max() < places
    np.testing.assert_array_equal(found, [window_starts(5, places, start + i, 1)[0] for i in range(count)])


def test_windows_are_stretches_of_the_training_text(folder: Path) -> None:
    data = task_data(config(planned(folder)))
    inputs, targets = data.batches(0, 20)
    text = data._text.train.tobytes()  # type: ignore[attr-defined]
    whole = np.concatenate([inputs, targets[..., -1:]], axis=-1).reshape(-1, 9).astype(np.uint8)
    assert all(window.tobytes() in text for window in whole)


def test_every_place_is_as_likely_as_another_the_first_and_the_last_too() -> None:
    counts = np.bincount(window_starts(0, 7, 0, 70_000), minlength=7)
    assert len(counts) == 7
    np.testing.assert_allclose(counts, 10_000, atol=5 * math.sqrt(10_000))


def test_the_last_window_ends_with_the_text() -> None:
    text = np.arange(12, dtype=np.uint8)
    np.testing.assert_array_equal(windows(text, np.array([0, 12 - 8 - 1]), 8)[:, [0, -1]], [[0, 8], [3, 11]])


def test_seeds_have_windows_of_their_own_and_one_validation_set(folder: Path) -> None:
    first, second = (TextData(planned(folder), data_seed=seed, batch=6) for seed in (0, 1))
    assert not np.array_equal(first.batches(0, 4)[0], second.batches(0, 4)[0])
    np.testing.assert_array_equal(first.validation().inputs, second.validation().inputs)


def test_a_fixed_set_is_the_beginning_of_the_online_windows_and_is_walked_in_epochs(folder: Path) -> None:
    online = TextData(planned(folder), data_seed=0, batch=6).batches(0, 5)[0].reshape(30, 8)
    fixed = TextData(planned(folder, train_size=30), data_seed=0, batch=6).batches(0, 10)[0].reshape(2, 30, 8)
    for epoch in fixed:
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, online))
    assert not np.array_equal(fixed[0], fixed[1])


# --- the validation set ----------------------------------------------------------------------------------------------


@given(length=st.integers(1, 20), count=st.integers(1, 30), spare=st.integers(0, 400))
def test_validation_windows_do_not_overlap_and_reach_over_the_text(length: int, count: int, spare: int) -> None:
    places = count * length + 1 + spare
    starts = validation_starts(places, length, count)
    assert starts[0] == 0
    assert (np.diff(starts) >= length).all()
    assert starts[-1] + length + 1 <= places
    assert places - (starts[-1] + length + 1) <= length + -(-spare // count) + length


def test_the_validation_set_is_held_out_text(folder: Path) -> None:
    validation = task_data(config(planned(folder))).validation()
    held_out = (folder / "a.txt").read_bytes()[300:] + (folder / "b.txt").read_bytes()[675:]
    assert validation.inputs.shape == validation.targets.shape == (10, 8)
    np.testing.assert_array_equal(validation.inputs[:, 1:], validation.targets[:, :-1])
    for row, last in zip(validation.inputs, validation.targets[:, -1], strict=True):
        assert bytes([*row.tolist(), int(last)]) in held_out
    assert validation.strata == {}
    assert validation.floors == {}


# --- what a trial is -------------------------------------------------------------------------------------------------


def test_a_trial_is_the_text_it_reads_and_not_where_that_lies(folder: Path, tmp_path: Path) -> None:
    task = planned(folder)
    assert trial_id(config(replace(task, files=("elsewhere/*.txt",)))) == trial_id(config(task))
    (folder / "a.txt").write_bytes(b"other words" * 60)
    assert trial_id(config(planned(folder))) != trial_id(config(task))


def test_trials_of_different_texts_pack(folder: Path) -> None:
    one = config(planned(folder))
    other = config(replace(planned(folder), digest="0" * 16))
    assert pack_shape(one, links(one)[0]) == pack_shape(other, links(other)[0])


@pytest.mark.parametrize("change", ["content", "more", "gone"])
def test_files_that_changed_since_the_plan_are_refused(change: str, folder: Path) -> None:
    task = planned(folder)
    if change == "content":
        (folder / "a.txt").write_bytes((folder / "a.txt").read_bytes()[::-1])
    elif change == "more":
        (folder / "d.txt").write_bytes(b"d")
    else:
        (folder / "c.txt").unlink()
    with pytest.raises(InputError) as caught:
        task_data(config(task))
    (problem,) = caught.value.problems
    there = planned(folder).digest
    assert str(problem) == (
        "the files of task.files have changed since the study was planned: "
        f"digest {task.digest} was planned, {there} is there; run plan again"
    )


def test_a_task_that_was_not_planned_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"task\.digest: is not worked out"):
        task_data(config(replace(planned(folder), digest=None)))


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (
            {"val_share": 0.9, "val_size": 2, "length": 131},
            "task.files: one sequence of task.length = 131 predictions takes 132 tokens, got 131 to train on",
        ),
        (
            {"val_share": 0.25, "length": 8, "val_size": 41},
            "task.val_size: must be at most 40 sequences of task.length = 8 predictions, since task.val_share = 0.25 "
            "holds 325 tokens out, got 41",
        ),
    ],
)
def test_less_text_than_is_asked_for_is_refused(terms: dict[str, object], says: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        task_data(config(planned(folder, **terms)))
    assert str(caught.value).startswith(says)
    *_, (name, value) = terms.items()
    task_data(config(planned(folder, **{**terms, name: int(str(value)) - 1})))  # one less is enough


# --- tokenizers ------------------------------------------------------------------------------------------------------

TEXT = "the cat sat on the mat\nthe bat sat on the cat\n" * 20


def held_out(folder: Path) -> list[bytes]:
    contents = map(Path.read_bytes, sorted(folder.glob("*.txt")))
    return [content[cut(content, 0.25, characters=True) :] for content in contents]


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text("naïve 猫 sat on the mat\n" * 30)
    return tmp_path


def test_tokens_of_a_tokenizer_are_trained_on_and_give_the_held_out_text_back(spoken: Path) -> None:
    path = spoken / "t.json"
    path.write_bytes(byte_pairs(TEXT))
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(path))
    task = planned(spoken, tokenizer=path, tokens=made.get_vocab_size())
    text = load(task.files, task.tokenizer, task.digest or "", task.tokens, 0.25)
    ends = held_out(spoken)
    assert made.decode(text.held_out.tolist()) == b"".join(ends).decode()
    assert text.bytes_per_token == sum(map(len, ends)) / len(text.held_out)
    assert text.bytes_per_token > 1.5
    assert task_data(config(task)).validation().inputs.max() < task.vocabulary


def test_a_vocabulary_that_is_not_the_tokenizers_is_refused(spoken: Path) -> None:
    path = spoken / "t.json"
    path.write_bytes(byte_pairs(TEXT))
    with pytest.raises(InputError, match=r"task\.tokens: must be what the tokenizer has, \d+, got 999"):
        task_data(config(planned(spoken, tokenizer=path, tokens=999)))


def test_another_tokenizer_is_another_text(spoken: Path) -> None:
    path = spoken / "t.json"
    path.write_bytes(byte_pairs(TEXT))
    task = planned(spoken, tokenizer=path)
    path.write_bytes(byte_pairs(TEXT[:40]))
    with pytest.raises(InputError, match="have changed since the study was planned"):
        task_data(config(task))


# --- bits per byte ---------------------------------------------------------------------------------------------------


def last_row(task: TextTask) -> dict[str, float]:
    trial = config(task, model={"width": 8}, train={"steps": 2, "batch": 3, "evaluate_every": 2})
    done = train_alone(trial)
    assert done.status == "ok"
    return done.metrics[-1]


def test_bits_per_byte_of_bytes_are_the_loss_in_bits(folder: Path) -> None:
    row = last_row(planned(folder))
    assert row["val_bits_per_byte"] == pytest.approx(row["val_loss"] / math.log(2), rel=1e-15)
    assert not [name for name in row if name.startswith(("bayes", "val_loss_", "val_exact"))]
    assert row["excess_loss"] is None


def test_bits_per_byte_are_those_of_the_model_counted_by_hand(folder: Path) -> None:
    """Cross-entropy of the initial weights in float64, over the bytes that the windows predict."""
    trial = config(planned(folder), model={"width": 8}, train={"steps": 1, "batch": 3, "precision": "float64"})
    first = train_alone(trial).metrics[0]
    validation = task_data(trial).validation()
    params = {name: value.unsqueeze(0) for name, value in init_parameters(trial, torch.float64).items()}
    logits = forward(params, torch.from_numpy(validation.inputs)[None], architecture(trial), loops=3, injection="none")[
        0
    ]
    logs = logits.log_softmax(-1).gather(-1, torch.from_numpy(validation.targets)[..., None])
    assert first["val_bits_per_byte"] == pytest.approx(-logs.sum().item() / math.log(2) / (10 * 8), rel=1e-12)


def test_bits_per_byte_of_tokens_are_spread_over_the_bytes_they_stand_for(spoken: Path) -> None:
    path = spoken / "t.json"
    path.write_bytes(byte_pairs(TEXT))
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(path))
    row = last_row(planned(spoken, tokenizer=path, tokens=made.get_vocab_size()))
    ends = held_out(spoken)
    tokens = sum(len(made.encode(end.decode(), add_special_tokens=False).ids) for end in ends)
    bits = row["val_loss"] / math.log(2) * tokens / sum(map(len, ends))
    assert row["val_bits_per_byte"] == pytest.approx(bits, rel=1e-14)


def test_tokens_that_do_not_give_the_text_back_have_no_bits_per_byte(spoken: Path) -> None:
    path = spoken / "t.json"
    path.write_bytes(words(["[UNK]", "the", "cat", "sat", "on"]))
    row = last_row(planned(spoken, tokenizer=path, tokens=5))
    assert row.get("val_bits_per_byte") is None
    assert row["val_loss"] > 0
