"""The result of a trial is bit for bit what it would be alone: whatever is shared, packed, cut, replayed or watched."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from studies.expand import Trial
from studies.store import Store
from studies.watchers import ended_at, resolved
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.bits import differences, trained_twice, view_differences
from tests.sweeps.direct import Direct
from tests.sweeps.drawn import Drawn, families
from tests.sweeps.work import of_config

# A failure is told as it was drawn: making it smaller would train for minutes.
DRAWING = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assumed_once(trials: list[Trial]) -> list[Trial]:
    """The trials as if what they wait for had ended: who waits still has a further criterion."""
    return [trial if trial.watch is None else ended_at(trial, trial.watch.criterion.latest) for trial in trials]


def as_alone(drawn: Drawn) -> None:
    trials = [of_config(config) for config in drawn.configs]
    limits = Limits(checkpoint_seconds=drawn.checkpoint_seconds)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store", create=True)
        for asked in [trials[: drawn.first], trials] if drawn.first else [trials]:
            ask, executor = partial(resolved, asked, store), Direct(store.root, drawn.slots)
            result = run(ask, store, executor, limits=limits, pack=drawn.pack)
            assert result.exit_code == 0
            found = differences(asked, store) + view_differences(asked, store)
            assert not found, "\n".join(found[:10])
        if not drawn.first:  # what is asked later may have to go over a past for what it observes
            assert trained_twice(store) == []
        assert not list((store.root / "checkpoints").rglob("*.passing.*"))


def test_dozens_of_random_schedules_give_what_they_give_alone() -> None:
    seen: set[object] = set()

    @settings(DRAWING, max_examples=4, derandomize=True)  # CI draws the same each time, `make soak` others
    @given(families(schedules=8))
    def check(drawn: Drawn) -> None:
        seen.update(drawn.schedules)
        as_alone(drawn)

    check()
    assert len(seen) >= 20


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_hundreds_of_random_schedules_give_what_they_give_alone() -> None:
    @settings(DRAWING, max_examples=100)
    @given(families(schedules=10, seeds=3))
    def check(drawn: Drawn) -> None:
        as_alone(drawn)

    check()
