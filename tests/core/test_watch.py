"""Criteria: when they end a stage, against a slow reading of the definition; step by step as all at once."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from core.schedule import Criterion, Watch
from core.watch import Check, ending, ends_at

LOSS = Criterion(delta1=0.1, delta2=None, patience=2, change="absolute", on="val", latest=100, every=10)


def checks(values: dict[int, float | None]) -> dict[int, Check]:
    return {step: Check(val_loss=value, train_loss=None, grad_norm=None) for step, value in values.items()}


numbers = (
    st.none() | st.sampled_from([0.0, 1.0, 1.05, 1.1, 2.0, -1.0]) | st.integers(0, 300).map(lambda value: value / 100)
)
rows = st.builds(Check, val_loss=numbers, train_loss=numbers, grad_norm=numbers)


@st.composite
def criteria(draw: st.DrawFn) -> Criterion:
    kind = draw(st.sampled_from(["scp", "loss", "gradient"]))
    deltas = st.sampled_from([0.0625, 0.5, 2.0])  # a product with a power of two is exact
    return Criterion(
        delta1=None if kind == "gradient" else draw(deltas),
        delta2=None if kind == "loss" else draw(deltas),
        patience=draw(st.integers(1, 4)),
        change=draw(st.sampled_from(["relative", "absolute"])),
        on=draw(st.sampled_from(["val", "train"])),
        latest=draw(st.integers(2, 40)),
        every=draw(st.integers(1, 9)),
    )


@st.composite
def stories(draw: st.DrawFn) -> tuple[Criterion, int, dict[int, Check]]:
    """A criterion, the start of its stage, and rows at many steps, some of them on its grid."""
    criterion = draw(criteria())
    start = draw(st.integers(0, criterion.latest - 1))
    steps = set(range(0, 45, criterion.every)) | draw(st.sets(st.integers(0, 45), max_size=5))
    missing = draw(st.sets(st.sampled_from(sorted(steps)), max_size=1)) if draw(st.booleans()) else set()
    return criterion, start, {step: draw(rows) for step in sorted(steps - missing)}


def slow_ending(criterion: Criterion, start: int, found: dict[int, Check]) -> int | None:
    """Counts consecutive small changes, as the definition says, one step after the other."""
    previous: Check | None = None
    count = 0
    for step in range(start + 1, criterion.latest + 1):
        if step % criterion.every:
            continue
        if step not in found:
            return None
        now = found[step]
        count = count + 1 if previous is not None and slow_small(criterion, previous, now) else 0
        if count == criterion.patience:
            return step
        previous = now
    return criterion.latest


def slow_small(criterion: Criterion, before: Check, now: Check) -> bool:
    loss = "val_loss" if criterion.on == "val" else "train_loss"
    for name, limit in ((loss, criterion.delta1), ("grad_norm", criterion.delta2)):
        if limit is None:
            continue
        old, new = getattr(before, name), getattr(now, name)
        if old is None or new is None:
            return False
        change = abs(old - new)
        if criterion.change == "relative":
            change = Fraction(change) / Fraction(abs(old)) if old else math.inf
        if not change < limit:
            return False
    return True


@settings(max_examples=400)
@given(stories())
def test_a_criterion_ends_its_stage_where_the_definition_says(story: tuple[Criterion, int, dict[int, Check]]) -> None:
    criterion, start, found = story
    assert ending(criterion, start, found) == slow_ending(criterion, start, found)


@settings(max_examples=200)
@given(stories())
def test_step_by_step_it_ends_where_it_ends_at_once(story: tuple[Criterion, int, dict[int, Check]]) -> None:
    criterion, start, found = story
    watch = Watch(criterion=criterion, start=start, stage=0)
    step = ending(criterion, start, found)
    # While a stage is trained there are rows up to the step alone.
    first = next(
        (s for s in range(start + 1, 46) if ends_at(watch, s, {k: v for k, v in found.items() if k <= s})), None
    )
    assert first is not None
    assert first == step or step is None


@settings(max_examples=100)
@given(stories())
def test_rows_that_are_still_to_come_do_not_change_what_was_decided(
    story: tuple[Criterion, int, dict[int, Check]],
) -> None:
    criterion, start, found = story
    known: set[int] = set()
    for last in range(46):
        step = ending(criterion, start, {k: v for k, v in found.items() if k <= last})
        known |= set() if step is None else {step}
    assert len(known) <= 1


def test_the_earliest_end_is_at_the_check_after_w_changes() -> None:
    flat = checks(dict.fromkeys(range(0, 101, 10), 1.0))
    assert ending(LOSS, 0, flat) == 30
    assert ending(LOSS, 10, flat) == 40  # the check at the start belongs to the stage before
    assert ending(LOSS, 15, flat) == 40
    assert ending(replace(LOSS, patience=1), 0, flat) == 20


def test_a_change_as_large_as_the_threshold_is_not_below_it() -> None:
    steps = checks({10: 1.0, 20: 1.5, 30: 2.0, 40: 2.25, 50: 2.5})
    assert ending(replace(LOSS, delta1=0.5, latest=60), 0, checks({10: 1.0, 20: 1.5, 30: 2.0})) is None
    assert ending(replace(LOSS, delta1=0.5, latest=50), 0, steps) == 50


def test_a_relative_change_is_that_of_the_value_before_and_nothing_is_near_zero() -> None:
    relative = replace(LOSS, change="relative", patience=1, delta1=0.5, latest=20)
    assert ending(replace(relative, latest=30), 0, checks({10: 2.0, 20: 1.01})) == 20
    assert ending(replace(relative, latest=30), 0, checks({10: 1.01, 20: 2.0})) is None
    assert ending(replace(relative, latest=30), 0, checks({10: 0.0, 20: 0.0})) is None


def test_a_missing_value_begins_the_count_anew() -> None:
    flat: dict[int, float | None] = dict.fromkeys(range(10, 101, 10), 1.0)
    assert ending(LOSS, 0, checks({**flat, 20: None})) == 50


def test_a_criterion_that_is_never_asked_ends_at_its_latest_step() -> None:
    assert ending(replace(LOSS, every=7, latest=6), 0, {}) == 6
    assert ending(replace(LOSS, every=101), 0, {}) == 100
    assert ending(LOSS, 100 - 1, {}) is None  # step 100 is a check
    assert ending(replace(LOSS, latest=99), 95, {}) == 99
