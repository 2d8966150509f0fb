"""The algorithmic tasks: answers are those of a plain solver, and data are a pure function of (data seed, step)."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.algorithmic import KINDS, AlgorithmicData, sequences
from core.config import TrialConfig, trial_config
from core.errors import InputError
from core.lengths import batch_lengths, validation_lengths
from core.lineage import acting_keys, links, pack_shape, trial_id
from core.p_hop import p_hop
from core.task_data import task_data
from core.task_terms import TASKS, AlgorithmicTask, MarkovTask
from core.tasks import IGNORE
from tests.core.solvers import base, hopped, problem_length, read, solve

NAMES = sorted(KINDS)
FORMATS = ["full-output", "next-token"]


def task(kind: str, **terms: Any) -> AlgorithmicTask:
    """A small task of a kind, with lengths that it can have."""
    low = 4 if kind == "p_hop" else 1
    return AlgorithmicTask(
        **{"kind": kind, "train_length": (low, 9), "test_length": (low, 14), "val_size": 60, "digits": 2} | terms
    )


def data(asked: AlgorithmicTask, *, batch: int = 16, seed: int = 0) -> AlgorithmicData:
    return AlgorithmicData(asked, data_seed=seed, batch=batch)


def flat(arrays: tuple[Any, Any]) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of each sequence as lists."""
    inputs, targets = (array.reshape(-1, array.shape[-1]).tolist() for array in arrays)
    return list(zip(inputs, targets, strict=True))


# --- problems and answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("train_size", [0, 50])
@pytest.mark.parametrize("kind", NAMES)
def test_answers_are_those_of_a_plain_solver(kind: str, train_size: int, form: str) -> None:
    """`read` accounts for every position: layout, marks, blanks, padding, what is masked."""
    asked = task(kind, format=form, train_size=train_size)
    found = data(asked).batches(3, 8)
    lengths = np.concatenate([batch_lengths(asked, 16, step) for step in range(3, 11)])
    for (inputs, targets), length in zip(flat(found), lengths.tolist(), strict=True):
        question, answer = read(inputs, targets, asked)
        assert problem_length(question, asked) == length
        assert answer == solve(question, asked)


@pytest.mark.parametrize("kind", NAMES)
def test_the_validation_set_is_solved_and_covers_the_test_lengths(kind: str) -> None:
    asked = task(kind)
    validation = data(asked).validation()
    assert validation.inputs.shape == validation.targets.shape == (60, asked.longest)
    assert validation.lengths is not None
    np.testing.assert_array_equal(validation.lengths, validation_lengths(asked))
    for (inputs, targets), length in zip(
        flat((validation.inputs, validation.targets)), validation.lengths.tolist(), strict=True
    ):
        question, answer = read(inputs, targets, asked)
        assert problem_length(question, asked) == length
        assert answer == solve(question, asked)
    shares = Counter(validation.lengths.tolist())
    assert set(shares) == set(asked.test_lengths)
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("kind", NAMES)
def test_nothing_of_the_answer_is_read_in_full_output(kind: str) -> None:
    """Two problems with equal inputs would have to have one answer: beyond the mark everything is blank."""
    asked = task(kind)
    inputs, _ = data(asked, batch=64).batches(0, 4)
    for row in inputs.reshape(-1, asked.context).tolist():
        behind = row[row.index(base(asked)) + 1 :]
        assert set(behind) <= {base(asked) + 2}


@pytest.mark.parametrize("kind", NAMES)
def test_the_formats_differ_only_in_what_is_read_of_the_answer(kind: str) -> None:
    blank, shown = (data(task(kind, format=form)).batches(2, 3) for form in FORMATS)
    np.testing.assert_array_equal(blank[1], shown[1])
    differs = blank[0] != shown[0]
    following = np.roll(blank[1], 1, axis=-1)  # the token that an input position shows is the target before it
    np.testing.assert_array_equal(shown[0][differs], following[differs])
    assert (following[differs] < base(task(kind))).all()


@pytest.mark.parametrize("kind", NAMES)
def test_the_longest_sequence_fills_the_context(kind: str) -> None:
    asked = task(kind)
    inputs, targets = data(asked).batches(0, 400)
    assert np.flatnonzero((targets != IGNORE).any(axis=(0, 1))).max() + 1 == asked.context
    assert asked.longest == replace(asked, train_length=asked.test_length).context
    assert inputs.min() >= 0
    assert inputs.max() < asked.vocabulary
    assert targets[targets != IGNORE].max() < asked.vocabulary


@given(st.sampled_from(NAMES), st.integers(1, 40), st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**40))
@settings(max_examples=60)
def test_any_length_alphabet_and_place_is_solved(kind: str, length: int, symbols: int, small: int, start: int) -> None:
    length = max(length, small + 2) if kind == "p_hop" else length
    asked = AlgorithmicTask(
        kind=kind,  # type: ignore[arg-type]
        train_length=(length, length),
        symbols=symbols,
        digits=small,
        hops=small,
        format="next-token",
    )
    lengths = np.full(5, length)
    found = sequences(asked, 7, "train", start=start, lengths=lengths, longest=length, positions=asked.context)
    for inputs, targets in flat(found):
        question, answer = read(inputs, targets, asked)
        assert problem_length(question, asked) == length
        assert answer == solve(question, asked)


def test_many_digits_do_not_overflow() -> None:
    asked = AlgorithmicTask(
        kind="nary_addition", digits=9, train_length=(1024, 1024), test_length=(1024, 1024), val_size=2
    )
    for inputs, targets in flat(data(asked, batch=4).batches(0, 1)):
        question, answer = read(inputs, targets, asked)
        assert answer == solve(question, asked)


# --- distributions ---------------------------------------------------------------------------------------------------


def questions(asked: AlgorithmicTask, count: int = 400) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Problems and answers of many updates."""
    found = data(asked, batch=50).batches(0, count)
    return [(tuple(q), tuple(a)) for q, a in (read(i, t, asked) for i, t in flat(found))]


def chi_square(counts: Counter[Any], outcomes: int) -> float:
    """Deviation from the uniform distribution over so many outcomes, in standard deviations of its χ²."""
    expected = counts.total() / outcomes
    assert len(counts) <= outcomes
    square = sum((n - expected) ** 2 / expected for n in counts.values()) + (outcomes - len(counts)) * expected
    return float((square - (outcomes - 1)) / np.sqrt(2 * (outcomes - 1)))


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("parity", 2**5),
        ("binary_sum", 2**5),
        ("copy", 3**5),
        ("unique_set", 3**5),
        ("addition", 4**5),
        ("binary_multiplication", 2**7),
        ("nary_addition", 10**3),
    ],
)
def test_problems_are_uniform(kind: str, outcomes: int) -> None:
    """Every problem there is occurs, each as often as any other."""
    length = 3 if kind == "nary_addition" else 5
    asked = task(kind, train_length=(length, length), symbols=3, digits=1)
    assert abs(chi_square(Counter(q for q, _ in questions(asked)), outcomes)) < 4


@pytest.mark.parametrize(
    ("length", "symbols", "hops"), [(6, 3, 1), (6, 3, 3), (6, 4, 2), (7, 3, 2), (5, 2, 2), (8, 2, 1)]
)
def test_p_hop_strings_are_uniform_over_those_with_an_answer(length: int, symbols: int, hops: int) -> None:
    def answered(string: tuple[int, ...]) -> bool:
        try:
            hopped(list(string), hops)
        except ValueError:
            return False
        return all(a != b for a, b in itertools.pairwise(string))

    possible = {s for s in itertools.product(range(symbols), repeat=length) if answered(s)}
    asked = task("p_hop", train_length=(length, length), test_length=(length, length), symbols=symbols, hops=hops)
    drawn = Counter(q for q, _ in questions(asked))
    assert set(drawn) == possible
    assert abs(chi_square(drawn, len(possible))) < 4


def test_p_hop_answers_are_balanced_also_where_hops_barely_fit() -> None:
    """The tables of how far hops lead hold where almost no string has an answer (1 in 10^150 here)."""
    asked = task("p_hop", symbols=60, hops=120, train_length=(122, 300), test_length=(122, 200), val_size=100)
    found = data(asked, batch=50).batches(0, 20)
    answers = Counter()
    for inputs, targets in flat(found):
        question, answer = read(inputs, targets, asked)
        assert answer == solve(question, asked)
        answers[answer[0]] += 1
    assert abs(chi_square(answers, 60)) < 5


def test_extreme_random_numbers_give_sound_strings() -> None:
    asked = task("p_hop", hops=3, symbols=3)
    for value in (0.0, np.nextafter(1.0, 0.0)):
        lengths = np.arange(5, 15)
        found = p_hop(asked, lengths, np.full((10, 1 + 2 * 14), value))
        for row, length in enumerate(lengths):
            string = found.question[row, :length].tolist()
            assert set(string) <= {0, 1, 2}
            assert found.answer[row, 0] == hopped(string, 3)


def test_parity_is_balanced_at_every_length() -> None:
    asked = task("parity")
    by_length: dict[int, list[int]] = {}
    for question, answer in questions(asked):
        by_length.setdefault(len(question), []).append(answer[0])
    assert set(by_length) == set(asked.train_lengths)
    for answers in by_length.values():
        assert abs(np.mean(answers) - 0.5) < 4 * 0.5 / np.sqrt(len(answers))


def test_copied_strings_repeat_symbols() -> None:
    repeats = [len(set(q)) < len(q) for q, _ in questions(task("copy", symbols=4)) if len(q) > 4]
    assert all(repeats)


# --- purity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_size", [0, 37])
@pytest.mark.parametrize("kind", NAMES)
def test_a_batch_is_had_without_those_before_and_in_blocks_of_any_size(kind: str, train_size: int) -> None:
    asked = task(kind, train_size=train_size, curriculum=12)
    inputs, targets = data(asked).batches(0, 24)
    for start, count in ((0, 1), (17, 1), (5, 7), (23, 1), (0, 24)):
        for whole, part in zip((inputs, targets), data(asked).batches(start, count), strict=True):
            np.testing.assert_array_equal(whole[start : start + count], part)
    walked = data(asked)
    pieces = [walked.batches(start, 3)[0] for start in (9, 0, 3, 21, 12)]  # forth and back with one object
    for piece, start in zip(pieces, (9, 0, 3, 21, 12), strict=True):
        np.testing.assert_array_equal(inputs[start : start + 3], piece)


def test_batches_far_into_training_are_had_at_once() -> None:
    for train_size in (0, 50):
        inputs, targets = data(task("copy", train_size=train_size)).batches(10**6, 1)
        for pair in flat((inputs, targets)):
            read(*pair, task("copy"))


@pytest.mark.parametrize("kind", NAMES)
def test_seeds_and_streams_differ(kind: str) -> None:
    asked = task(kind)
    one, other = (data(asked, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.batches(0, 2)[0], other.batches(0, 2)[0])
    assert not np.array_equal(one.validation().inputs, other.validation().inputs)
    assert not np.array_equal(one.batches(0, 1)[0], one.batches(1, 1)[0])


def test_a_trial_says_its_data_seed() -> None:
    config = TrialConfig(task=task("copy"), seed=3)
    fixed = replace(config, task=task("copy", data_seed=3), seed=8)
    np.testing.assert_array_equal(task_data(config).batches(0, 2)[0], task_data(fixed).batches(0, 2)[0])


PINNED = {
    "addition": "5fbc507e8b4c81f7",
    "binary_multiplication": "a0b16bc404d4eadf",
    "binary_sum": "be5cf2e56963e159",
    "copy": "c7bd3defca2937cd",
    "nary_addition": "d5c4e7a86963cec3",
    "p_hop": "1f1f1d7ed5bd7a21",
    "parity": "3542e787aca5c3d6",
    "unique_set": "e4e5c59d52341f87",
}


@pytest.mark.parametrize("kind", NAMES)
def test_the_data_are_pinned(kind: str) -> None:
    """A golden value: whoever changes it changes every recorded number, and raises NUMERICS_VERSION."""
    asked = task(kind)
    validation = data(asked).validation()
    fixed = data(replace(asked, train_size=40))
    found = [*data(asked).batches(5, 2), validation.inputs, validation.targets, fixed.batches(9, 1)[0]]
    digest = hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in found)).hexdigest()
    assert digest[:16] == PINNED[kind]


# --- a fixed training set --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [5, 16, 64])
def test_a_fixed_set_is_walked_in_epochs_length_by_length(batch: int) -> None:
    """Of each length, any m requests in a row from a multiple of m on are its m problems, each once."""
    asked = task("copy", symbols=4096, train_size=40)  # so many symbols that problems of length 2 and more all differ
    steps = 60
    walk: dict[int, list[tuple[int, ...]]] = {}
    for inputs, targets in flat(data(asked, batch=batch).batches(0, steps)):
        question, _ = read(inputs, targets, asked)
        walk.setdefault(len(question), []).append(tuple(question))
    sizes = {length: len(set(problems)) for length, problems in walk.items()}
    assert sum(sizes.values()) == 40
    assert max(sizes.values()) - min(sizes.values()) <= 1
    orders = set()
    for length, problems in walk.items():
        size = sizes[length]
        epochs = [tuple(problems[at : at + size]) for at in range(0, len(problems) - size + 1, size)]
        assert all(len(set(epoch)) == size for epoch in epochs)
        orders |= {tuple(map(problems.index, epoch)) for epoch in epochs}
    assert len(orders) > 3  # epochs are shuffled


def test_the_fixed_set_does_not_depend_on_the_batch() -> None:
    asked = task("copy", symbols=64, train_size=40)

    def members(batch: int) -> set[tuple[int, ...]]:
        found = data(asked, batch=batch).batches(0, 2000 // batch)
        return {tuple(read(inputs, targets, asked)[0]) for inputs, targets in flat(found)}

    assert members(8) == members(40)


# --- strata and floors -----------------------------------------------------------------------------------------------


def test_strata_are_trained_and_longer_lengths_and_each_length() -> None:
    asked = task("copy", train_length=(3, 6), test_length=(2, 8), val_size=70)
    validation = data(asked).validation()
    lengths = validation.lengths
    assert lengths is not None
    assert tuple(validation.strata) == asked.stratum_names == ("trained", "longer", *(f"len_{n}" for n in range(2, 9)))
    np.testing.assert_array_equal(validation.strata["trained"], (lengths >= 3) & (lengths <= 6))
    np.testing.assert_array_equal(validation.strata["longer"], lengths > 6)
    for length in range(2, 9):
        np.testing.assert_array_equal(validation.strata[f"len_{length}"], lengths == length)
    assert all(members.any() for members in validation.strata.values())
    assert validation.floors["bayes_loss_len_2"] == 0.0
    assert validation.floors["bayes_accuracy"] == 1.0


@pytest.mark.parametrize(("test", "names"), [((10, 11), ("longer",)), ((2, 4), ("trained",)), ((1, 1), ())])
def test_strata_that_have_no_length_are_not_there(test: tuple[int, int], names: tuple[str, ...]) -> None:
    asked = task("copy", train_length=(2, 9), test_length=test)
    assert [name for name in asked.stratum_names if not name.startswith("len_")] == list(names)
    assert tuple(data(asked).validation().strata) == asked.stratum_names


# --- configuration ---------------------------------------------------------------------------------------------------


def test_each_kind_has_a_class_and_a_generator() -> None:
    assert {kind for kind, cls in TASKS.items() if cls is AlgorithmicTask} == set(KINDS)
    assert TASKS["markov"] is MarkovTask


ACTING = {
    "symbols": {"copy", "unique_set", "p_hop"},
    "digits": {"nary_addition"},
    "hops": {"p_hop"},
    "train_length": set(NAMES),
    "test_length": set(NAMES),
    "format": set(NAMES),
    "curriculum": set(NAMES),
}
OTHER: dict[str, Any] = {
    "symbols": 5,
    "digits": 1,
    "hops": 1,
    "train_length": (4, 8),
    "test_length": (4, 13),
    "format": "next-token",
    "curriculum": 7,
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", sorted(ACTING))
def test_terms_that_do_not_act_are_no_identity(kind: str, name: str) -> None:
    asked = TrialConfig(task=task(kind))
    changed = TrialConfig(task=task(kind, **{name: OTHER[name]}))
    acts = kind in ACTING[name]
    assert (trial_id(asked) != trial_id(changed)) == acts
    assert (f"task.{name}" in acting_keys(asked)) == acts
    same = all(
        np.array_equal(a, b)
        for a, b in zip(task_data(asked).batches(0, 2), task_data(changed).batches(0, 2), strict=True)
    )
    assert same == (not acts or name == "test_length")


def test_a_curriculum_over_one_length_does_not_act() -> None:
    one = [TrialConfig(task=task("copy", train_length=(5, 5), curriculum=n)) for n in (0, 9)]
    assert trial_id(one[0]) == trial_id(one[1])


def test_packs_agree_in_lengths_and_may_differ_in_seeds_and_hops() -> None:
    def shape(**terms: Any) -> Any:
        config = TrialConfig(task=task("p_hop", **terms))
        return pack_shape(config, links(config)[0])

    assert shape() == shape(data_seed=4) == shape(hops=1) == shape(format="next-token") == shape(train_size=40)
    for other in (
        {"train_length": (4, 8)},
        {"test_length": (4, 13)},
        {"symbols": 5},
        {"curriculum": 3},
        {"val_size": 50},
    ):
        assert shape() != shape(**other)


def test_plain_values_round_trip() -> None:
    config = TrialConfig(task=task("p_hop", curriculum=3))
    values = config.to_dict()
    values["task"]["train_length"] = list(values["task"]["train_length"])  # as TOML and JSON give it
    assert trial_config(values) == config
    assert trial_config(values).task.shape == config.task.shape


@pytest.mark.parametrize(
    ("terms", "line"),
    [
        ({"kind": "parity", "train_length": [5, 2]}, "task.train_length: must be [shortest, longest], got [5, 2]"),
        (
            {"kind": "p_hop", "hops": 3, "train_length": [4, 9], "test_length": [5, 9]},
            "task.train_length: must begin at hops + 2 = 5 or later, where hops = 3 fit, got 4",
        ),
        (
            {"kind": "copy", "test_length": [1, 300], "val_size": 512},
            "task.test_length: must cover at most 256 lengths, got 300; narrow the range",
        ),
        (
            {"kind": "copy", "val_size": 39},
            "task.val_size: must be at least one problem for each of the 40 test lengths, got 39",
        ),
        (
            {"kind": "copy", "train_size": 19},
            "task.train_size: must be 0 or at least one problem for each of the 20 training lengths, got 19",
        ),
        ({"kind": "copy", "train_length": [1]}, "task.train_length: must be a list of 2, each an integer, got [1]"),
        ({"kind": "copy", "train_length": 20}, "task.train_length: must be a list of 2, each an integer, got 20"),
        ({"kind": "copy", "train_length": [0, 20]}, "task.train_length: must be at least 1, got 0"),
        ({"kind": "pariti"}, "task.kind: unknown task 'pariti'; did you mean 'parity'?"),
        ({"kind": "copy", "length": 4}, "task.length: unknown key; did you mean 'test_length'?"),
    ],
)
def test_what_cannot_be_is_one_line(terms: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as error:
        trial_config({"task": terms})
    assert [str(problem) for problem in error.value.problems] == [line]
