"""Claims about what counts as recorded."""

from __future__ import annotations

import time
from dataclasses import replace

import pyarrow as pa
import pytest

from core.config import MeasureConfig, TrialConfig
from core.lineage import Link, links
from core.observation import Asked, evaluation_steps
from studies.coverage import Coverage
from studies.keys import observed
from studies.parts import typed
from studies.schemas import SEGMENTS
from tests.studies.rows import A, of_config, recorded, segment, trial

STEPS = [0, 25, 50, 75, 100]
GRID = Asked(tuple(STEPS))


def coverage(*rows: dict) -> Coverage:
    empty = SEGMENTS.schema().empty_table()
    if not rows:
        return Coverage(empty)
    return Coverage(pa.concat_tables([empty, typed(SEGMENTS, list(rows))], promote_options="default"))


def stretch(start: int = 0, end: int = 100) -> Link:
    return replace(links(TrialConfig())[0], lineage=A, start=start, end=end)


def ok(start: int, end: int, evaluated: list[int] | None = None, **values) -> dict:
    there = [s for s in STEPS if start < s <= end or s == start == 0] if evaluated is None else evaluated
    return segment(A, start, end, evaluated=there, **values)


def measured(start: int, end: int, steps: list[int], **measure) -> dict:
    asked = MeasureConfig(**measure)
    return ok(start, end, measured=steps, observed=observed(Asked(measure=tuple(steps)), asked))


# Each case: a name, the recorded segments, and the expected status, covered and reached.
CASES = [
    ("nothing", [], (None, 0, 0)),
    ("exact", [ok(0, 100)], ("ok", 100, 100)),
    ("in two pieces", [ok(0, 50), ok(50, 100)], ("ok", 100, 100)),
    ("the pieces overlap", [ok(0, 60), ok(40, 100)], ("ok", 100, 100)),
    ("longer than asked", [ok(0, 300)], ("ok", 100, 100)),
    ("the first half", [ok(0, 50)], (None, 50, 50)),
    ("the second half alone", [ok(50, 100)], (None, 0, 0)),
    ("a gap", [ok(0, 50), ok(75, 100)], (None, 50, 50)),
    ("drained off the grid", [ok(0, 60)], (None, 60, 60)),
    ("a coarser grid", [ok(0, 100, [0, 50, 100])], (None, 24, 100)),
    ("a coarser grid after the middle", [ok(0, 50), ok(50, 100, [100])], (None, 74, 100)),
    ("a coarser grid, then a denser replay", [ok(0, 100, [0, 100]), ok(0, 100, observed="dense")], ("ok", 100, 100)),
    ("without step 0", [ok(0, 100, [25, 50, 75, 100])], (None, 0, 100)),
    ("diverged", [ok(0, 100, [0, 25], status="diverged", reached=40)], ("diverged", 40, 40)),
    ("diverged in its second piece", [ok(0, 50), ok(50, 100, [], status="diverged", reached=60)], ("diverged", 60, 60)),
    ("diverged later than asked", [ok(0, 300, status="diverged", reached=130)], ("ok", 100, 100)),
    ("diverged, not all evaluated", [ok(0, 100, [0], status="diverged", reached=40)], (None, 24, 40)),
    ("failed", [ok(0, 100, [], status="oom", reached=0)], ("oom", 0, 0)),
    ("failed after the middle", [ok(0, 50), ok(50, 100, [], status="timeout", reached=50)], ("timeout", 50, 50)),
    ("failed beyond what is asked", [ok(0, 100), ok(100, 200, [], status="failed", reached=100)], ("ok", 100, 100)),
    ("failed where nothing is missing", [ok(0, 100), ok(0, 100, [], status="failed", observed="x")], ("ok", 100, 100)),
    (
        "retried in pieces: the old failure does not count",
        [ok(0, 100, [], status="failed", reached=0), ok(0, 50, generation=1)],
        (None, 50, 50),
    ),
    (
        "retried and failed again",
        [
            ok(0, 100, [], status="failed", reached=0),
            ok(0, 100, [], status="oom", reached=0, generation=1, observed="x"),
        ],
        ("oom", 0, 0),
    ),
    (
        "a retried divergence that went well in pieces",
        [ok(0, 100, [0], status="diverged", reached=20), ok(0, 50, generation=1), ok(50, 100, generation=1)],
        ("ok", 100, 100),
    ),
    (
        "drained where another diverged",
        [ok(0, 40), ok(0, 100, [0, 25], status="diverged", reached=40)],
        ("diverged", 40, 40),
    ),
]


@pytest.mark.parametrize(("rows", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
@pytest.mark.parametrize("turned", [False, True], ids=["", "other order"])
def test_a_stretch(rows, expected, turned):
    state = coverage(*(reversed(rows) if turned else rows)).link(stretch(), GRID)
    assert (state.status, state.covered, state.reached) == expected
    assert state.generation == max((row["generation"] for row in rows if row["start"] < 100), default=0)


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([], 100),
        ([ok(0, 100)], 0),
        ([ok(0, 50)], 100),  # never trained to its end
        ([ok(0, 100, [0, 50, 100])], 75),
        ([ok(0, 100, [25, 50, 75, 100])], 0),
        ([ok(0, 100, [0], status="diverged", reached=60)], 50),  # nothing is asked of what comes after
        ([ok(0, 100, [], status="failed", reached=0)], 100),
    ],
)
def test_the_last_step_that_must_be_passed_again(rows, last):
    assert coverage(*rows).link(stretch(), GRID).last == last


def test_a_stretch_cut_from_a_link_asks_for_its_own_steps_only():
    known = coverage(ok(0, 50, [0]), ok(50, 100))
    assert known.link(stretch(50, 100), GRID).status == "ok"
    assert known.link(stretch(0, 50), GRID).status is None


MEASURES = [
    ([measured(0, 100, [100], quantities=("lambda_max",))], "ok"),
    ([measured(0, 100, [100], quantities=("lambda_max", "lambda_min"))], "ok"),
    ([measured(0, 100, [100], quantities=("lambda_min",))], None),
    ([measured(0, 100, [100], quantities=("lambda_max",), probe=64)], None),
    ([measured(0, 100, [50], quantities=("lambda_max",))], None),
    ([ok(0, 100)], None),
    ([ok(0, 100), measured(100, 100, [100], quantities=("lambda_max",)) | {"evaluated": []}], "ok"),
]


@pytest.mark.parametrize(("rows", "status"), MEASURES)
def test_a_measurement_counts_for_the_quantities_and_the_probe_asked_for(rows, status):
    asked = MeasureConfig(quantities=("lambda_max",))
    assert coverage(*rows).link(stretch(), Asked(tuple(STEPS), (100,)), asked).status == status


def test_quantities_may_come_from_two_observations():
    known = coverage(
        measured(0, 100, [100], quantities=("lambda_max",)), measured(0, 100, [100], quantities=("lambda_min",))
    )
    asked = MeasureConfig(quantities=("lambda_max", "lambda_min"))
    assert known.link(stretch(), Asked(tuple(STEPS), (100,)), asked).status == "ok"


def test_a_chain_ends_as_the_first_link_that_is_not_ok():
    shift = trial("shift", switch=50)
    first, second = recorded([shift])["segments"]
    assert coverage(first, second).chain(shift).status == "ok"
    assert coverage(first).chain(shift).status is None
    assert coverage(second).chain(shift).status is None
    bad = first | {"status": "diverged", "reached": 30, "evaluated": [0, 25]}
    chain = coverage(bad).chain(shift)
    assert (chain.status, chain.covered) == ("diverged", 30)


def test_a_chain_knows_how_it_was_run():
    shift = trial("shift", switch=50)
    first, second = recorded([shift])["segments"]
    first |= {"started_at": 1_000_000, "finished_at": 2_000_000}
    second |= {
        "status": "oom",
        "reached": 50,
        "evaluated": [],
        "error": "no memory",
        "attempts": 3,
        "started_at": 5_000_000,
        "finished_at": 9_000_000,
        "numerics_class": "gpu",
    }
    chain = coverage(first, second).chain(shift)
    assert (chain.status, chain.error, chain.attempts) == ("oom", "no memory", 3)
    assert chain.numerics_classes == ("cpu", "gpu")
    assert (chain.started_at.timestamp(), chain.finished_at.timestamp()) == (1, 9)
    assert coverage().chain(shift).started_at is None


def test_tens_of_thousands_of_chains_take_a_fraction_of_a_second():
    base = trial("shift", switch=50)
    trials = [
        of_config(TrialConfig(train=base.config.train, schedule=base.config.schedule, seed=s), "", {})
        for s in range(20_000)
    ]
    grid = evaluation_steps(base.config)
    rows = [
        segment(e.lineage, e.start, e.end, evaluated=[s for s in grid if e.start < s <= e.end or s == e.start == 0])
        for t in trials
        for e in t.links
    ]
    table = typed(SEGMENTS, rows)
    for name in set(SEGMENTS.schema().names) - set(table.column_names):
        table = table.append_column(SEGMENTS.column(name).field, pa.nulls(table.num_rows, SEGMENTS.column(name).type))
    best = float("inf")
    for _ in range(2):
        began = time.process_time()
        known = Coverage(table)
        statuses = {known.chain(t).status for t in trials}
        best = min(best, time.process_time() - began)
    assert statuses == {"ok"}
    assert best < 1, "0.3 s on a quiet machine"
