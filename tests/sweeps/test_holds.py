"""Holds: what one driver runs is left by others, for as long as it lives; nothing rests on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from studies.coverage import Coverage
from studies.store import Store
from sweeps.hold import Hold, Stretches, by_lineage, hold_bytes, process_space, read_hold
from sweeps.holds import EXPIRE_S, LONGEST_S, RAN_S, RENEW_S, Holds, current
from sweeps.round import Limits
from sweeps.run import run
from sweeps.standing import counts
from sweeps.units import Lane
from tests.sweeps.direct import Direct
from tests.sweeps.test_run import FOUR, go
from tests.sweeps.work import lane, trial

A, B = "a" * 16, "b" * 16


class Clock:
    """A clock that stands until somebody lets time pass."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def a_hold(*lanes: Lane, driver: str = A, **facts: object) -> Hold:
    """Of a driver elsewhere, whose clock is years off."""
    made = Hold(
        driver=driver,
        host="elsewhere",
        space="another",
        pid=1,
        since="2001-01-01T00:00:00Z",
        at="2001-01-01T00:00:00Z",
        beat=1,
        runs=stretches(*lanes),
        ran={},
        needs=frozenset(),
    )
    return replace(made, **facts)


def stretches(*lanes: Lane) -> Stretches:
    return by_lineage((each.lineage, each.start, each.end) for each in lanes)


def say(store: Store, hold: Hold) -> None:
    store.write_hold(hold.driver, hold_bytes(hold))


def test_a_hold_is_read_as_it_was_written() -> None:
    made = a_hold(lane(0), lane(1), lane(2, start=10), ran=stretches(lane(0)), needs=frozenset({"c" * 16}))
    assert read_hold(A, hold_bytes(made)) == made


def test_what_another_driver_holds_is_left_whatever_part_of_it_and_the_rest_is_held_from_then_on(place: str) -> None:
    store = Store.open(place, create=True)
    one, other = (Holds(store, driver=name, clock=Clock()) for name in (A, B))
    assert one.agree([lane(0, start=0, end=10), lane(1)], list, ()) == []
    wanted = [lane(0, start=0, end=20), lane(0, start=10, end=20), lane(1), lane(2)]
    assert other.agree(wanted, list, ()) == [wanted[0], wanted[2]]
    one.look()
    assert one.other(lane(2)) is not None
    assert one.other(lane(0, start=0, end=10)) is None
    with other:
        pass
    one.look()
    assert one.other(lane(2)) is None
    assert not one.shared


def test_what_another_driver_has_recorded_since_this_one_planned_is_left_until_it_plans_again(store: Store) -> None:
    clock = Clock()
    one, other = (Holds(store, driver=name, clock=clock) for name in (A, B))
    other.planning()
    one.agree([lane(0)], list, ())
    one.recorded(lane(0), 10)
    one.renew(list, ())
    wanted = [lane(0, start=0, end=20), lane(0, start=10, end=20), lane(1)]
    assert other.agree(wanted, list, ()) == wanted[:1]
    clock.advance(RENEW_S)
    other.planning()
    assert other.agree(wanted, list, ()) == []
    clock.advance(RAN_S - RENEW_S)
    one.renew(list, ())
    assert read_hold(A, store.holds()[A]).ran == {}
    assert not other.behind
    with one:
        pass
    other.look()
    assert other.behind
    other.planning()
    say(store, a_hold())
    clock.advance(RAN_S)
    other.look()
    assert other.behind


def test_of_two_that_publish_one_stretch_in_the_same_moment_the_lesser_name_keeps_it(store: Store) -> None:
    class Meanwhile(Store):
        """Lets something happen before its next hold is written."""

        then: Callable[[], object] | None = None

        def write_hold(self, driver: str, data: bytes) -> None:
            then, self.then = self.then, None
            if then is not None:
                then()
            super().write_hold(driver, data)

    slow = Meanwhile(store.root)
    one, other = (Holds(of, driver=name, clock=Clock()) for of, name in ((store, A), (slow, B)))
    slow.then = lambda: one.agree([lane(0)], list, ())
    wanted = [lane(0), lane(1)]
    assert other.agree(wanted, list, ()) == [wanted[0]]
    other.renew(lambda: [wanted[1]], ())  # what was said too early is taken back
    one.look()
    assert one.other(lane(0)) is None
    assert one.other(lane(1)) is not None


def test_a_hold_expires_when_its_content_has_not_changed_for_long_by_the_observers_own_clock(store: Store) -> None:
    clock = Clock()
    holds = Holds(store, driver=B, clock=clock)
    for beat in range(20):  # it lives for as long as it is renewed, whatever the clock of its driver says
        say(store, a_hold(lane(0), beat=beat))
        holds.look()
        assert holds.other(lane(0)) is not None
        clock.advance(RENEW_S)
    clock.advance(EXPIRE_S - 2 * RENEW_S)
    holds.look()
    assert holds.other(lane(0)) is not None
    clock.advance(RENEW_S)
    holds.look()
    assert holds.other(lane(0)) is None
    assert store.holds() == {}
    say(store, a_hold(lane(0), beat=21))  # it was stopped, and goes on
    holds.look()
    assert holds.other(lane(0)) is not None


def test_one_stretch_counts_for_so_long_at_most_however_often_it_is_renewed(store: Store) -> None:
    clock = Clock()
    holds = Holds(store, driver=B, clock=clock)
    say(store, a_hold(lane(0)))
    holds.look()
    clock.advance(LONGEST_S)
    say(store, a_hold(lane(0), lane(1), beat=2))
    holds.look()
    assert holds.other(lane(0)) is None
    assert holds.other(lane(1)) is not None


def test_a_holder_on_this_machine_whose_process_is_gone_has_expired_at_once(store: Store) -> None:
    assert process_space()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holds = Holds(store, driver=B, clock=Clock())
    for pid, space, gone in [
        (ended.pid, process_space(), True),
        (ended.pid, "another", False),
        (os.getpid(), process_space(), False),
    ]:
        say(store, a_hold(lane(0), pid=pid, space=space))
        holds.look()
        assert (holds.other(lane(0)) is None) is gone


WHOLE = hold_bytes(a_hold(lane(0), needs=frozenset({"c" * 16})))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[: len(WHOLE) // 2],
        b"\xff\x00",
        b"[" * 100_000,
        b"[]",
        b"null",
        *(json.dumps({k: v for k, v in json.loads(WHOLE).items() if k != name}).encode() for name in json.loads(WHOLE)),
        *(
            json.dumps(json.loads(WHOLE) | changed).encode()
            for changed in (
                {"driver": B},
                {"host": "a\x1b[2Jb"},
                {"pid": 0},
                {"pid": True},
                {"since": "soon"},
                {"at": 5},
                {"beat": -1},
                {"runs": [[5, 5, [lane(0).lineage]]]},
                {"runs": [[0, 1e400, [lane(0).lineage]]]},
                {"runs": [[0, 5, ["../x"]]]},
                {"runs": {"0": 1}},
                {"needs": [7]},
                {"needs": None},
            )
        ),
    ],
    ids=lambda data: data[:40].decode("latin-1"),
)
def test_a_file_that_is_no_hold_holds_nothing_and_goes_in_time(store: Store, data: bytes) -> None:
    clock = Clock()
    holds = Holds(store, driver=B, clock=clock)
    store.write_hold(A, data)
    foreign = store.root / "holds" / "notes.txt"
    foreign.write_text("mine", encoding="utf-8")
    assert holds.agree([lane(0)], list, ()) == []
    clock.advance(EXPIRE_S)
    holds.look()
    assert list(store.holds()) == [B]
    assert foreign.exists()


def test_looking_and_publishing_take_a_tenth_of_the_drivers_time_at_most(store: Store) -> None:
    clock, looks = Clock(), list[float]()

    class Far(Store):
        """A look takes a second."""

        def holds(self) -> dict[str, bytes]:
            clock.advance(1.0)
            looks.append(clock())
            return super().holds()

    holds = Holds(Far(store.root), driver=B, clock=clock)
    say(store, a_hold(lane(0)))
    assert holds.agree([lane(1)], list, ()) == []
    assert holds.agree([lane(0)], list, ()) == [lane(0)]  # as last seen
    say(store, a_hold(lane(2)))
    assert holds.agree([lane(2)], list, ()) == []  # announced late
    assert len(looks) == 2
    clock.advance(20.0)
    assert holds.agree([lane(2)], list, ()) == [lane(2)]
    looks.clear()
    for _ in range(9_000):
        holds.look()
        clock.advance(0.01)
    assert len(looks) in (9, 10)


# --- the driver ------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_is_held_to_the_last_says_so_and_takes_over_what_has_expired(store: Store) -> None:
    clock = Clock()
    say(store, a_hold(*(lane(seed) for seed in (0, 2))))
    result, executor, heard = go(FOUR, store, pack=1, holds=Holds(store, driver=B, clock=clock, pause=clock.advance))
    assert result.counts == {"ok": 4}
    seeds = [each.config.seed for bundle in executor.bundles for one in bundle.units for each in one.lanes]
    assert (sorted(seeds[:2]), sorted(seeds[2:])) == ([1, 3], [0, 2])
    assert heard.messages == [
        "waiting for another driver: 2 stretches held by elsewhere pid 1, since 2001-01-01T00:00:00Z"
    ]
    assert clock() - 1e6 == pytest.approx(EXPIRE_S, abs=1)
    assert store.holds() == {}


def test_what_another_driver_has_recorded_meanwhile_is_not_run_again(store: Store) -> None:
    clock, passed = Clock(), list[float]()
    say(store, a_hold(lane(0)))

    def pause(seconds: float) -> None:
        clock.advance(seconds)
        passed.append(seconds)
        if len(passed) == 5:
            go(FOUR[:1], store, holds=Holds(store, driver=A, clock=Clock()))

    result, executor, _ = go(FOUR, store, holds=Holds(store, driver=B, clock=clock, pause=pause))
    assert result.counts == {"ok": 4}
    assert executor.lanes == 3
    assert len(passed) == 5


def test_what_is_run_again_on_request_is_run_whoever_holds_it(store: Store) -> None:
    go([trial(13)], store, "raises")
    say(store, a_hold(lane(13)))
    result, executor, _ = go([trial(13)], store, retry=["failed"])
    assert (result.counts, executor.lanes) == ({"ok": 1}, 1)


def test_passing_states_from_which_another_driver_is_to_begin_are_left_to_it(store: Store) -> None:
    def passing() -> list[str]:
        return sorted(path.name[:16] for path in (store.root / "checkpoints").rglob("*.passing.safetensors"))

    def complete() -> None:
        executor, limits = Direct(store.root), Limits()
        with Holds(store, clock=Clock()) as holds:
            result = run(lambda: trials, store, executor, limits=limits, pack=1, holds=holds)
        assert result.counts == {"ok": 4}

    trials = [trial(seed, kind="shift", switch=switch) for seed in (0, 1) for switch in (5, 10)]
    trunks = sorted({each.links[0].lineage for each in trials})
    say(store, a_hold(needs=frozenset(trunks[:1])))
    complete()
    assert passing() == [trunks[0], trunks[0]]
    store.remove_hold(A)
    complete()
    assert passing() == []


# --- status ----------------------------------------------------------------------------------------------------------


def test_running_are_the_trials_of_which_a_part_is_held_now(store: Store) -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    coverage = Coverage(store.read("segments"))

    def running(at: datetime, **facts: object) -> int:
        say(store, a_hold(lane(0), lane(2), at=at.strftime("%Y-%m-%dT%H:%M:%SZ"), **facts))
        return int(counts(FOUR, coverage, current(store, now=now))["running"])

    assert running(now) == running(now - timedelta(minutes=4)) == running(now + timedelta(minutes=4)) == 2
    assert running(now - timedelta(minutes=6)) == 0
    assert counts(FOUR, coverage)["remaining"] == 4
