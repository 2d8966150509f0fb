"""The desk between the driver and Ray Tune: each bundle ends once, in order, whatever is heard."""

from __future__ import annotations

import threading

from sweeps.executor import Finished, Lost, Started
from sweeps.ray_desk import Desk, death
from sweeps.units import Bundle

DIED = """Failure # 1 (occurred at 2026-11-23_19-09-37)
The actor died unexpectedly before finishing this task.
\tclass_name: BundleTrainable
\tpid: 15895
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Some common causes include: (1)
"""
STARVED = """Failure # 1 (occurred at 2026-11-23_19-09-39)
1 worker(s) were killed due to the node running low on memory. Memory on the node was 22.55GB used / 23.54GB limit
"""
RAISED = """Failure # 1 (occurred at 2026-11-29_23-25-22)
\x1b[36mray::BundleTrainable.reset()\x1b[39m (pid=26046, ip=127.0.0.2)
           ^^^^^^^^^^^^^^^^^^^
  File "trainable.py", line 674, in _setup_logdir
    os.getcwd()
FileNotFoundError: [Errno 2] No such file or directory
"""


def bundle(name: str, **terms: str) -> Bundle:
    return Bundle(id=name, units=(), **terms)


def test_no_more_are_handed_out_than_may_run_unless_the_cluster_bounds_them() -> None:
    for limit, handed in ((2, 2), (None, 3)):
        desk = Desk()
        desk.limit = limit
        for name in ("a", "b", "c"):
            desk.put(bundle(name))
        assert sum(desk.hand_out(f"t{n}") is not None for n in range(3)) == handed


def test_who_asks_waits_while_nothing_runs() -> None:
    desk = Desk()
    threading.Timer(0.1, desk.put, [bundle("a")]).start()
    assert desk.hand_out("t") == bundle("a")
    assert desk.hand_out("u") is None  # one runs: no waiting


def test_an_actor_that_is_gone_ends_its_bundle_once() -> None:
    desk = Desk()
    for name in ("fine", "dead"):
        desk.put(bundle(name))
        desk.hand_out(name)
    desk.hear("fine", [Started(bundle="fine", unit="u"), Finished(bundle="fine")])
    desk.gone("fine", "")
    desk.gone("dead", DIED)
    assert [(type(event), event.bundle) for event in desk.take(0.0)] == [
        (Started, "fine"),
        (Finished, "fine"),
        (Lost, "dead"),
    ]


def test_deaths_before_anything_began_are_counted_until_something_begins() -> None:
    desk = Desk()
    for number in range(3):
        desk.put(bundle(f"b{number}"))
        desk.hand_out(f"t{number}")
        desk.gone(f"t{number}", DIED)
    assert desk.failed_starts == 3
    desk.put(bundle("b3"))
    desk.hand_out("t3")
    desk.hear("b3", [Started(bundle="b3", unit="u")])
    assert desk.failed_starts == 0


def test_closing_ends_what_waits_and_what_comes_later() -> None:
    desk = Desk()
    desk.put(bundle("a"))
    desk.close()
    desk.put(bundle("b"))
    assert desk.take(0.0) == [Finished(bundle="a"), Finished(bundle="b")]
    assert desk.hand_out("t") is None


def test_a_bundle_that_is_refused_goes_first_and_its_trial_counts_no_more() -> None:
    desk = Desk()
    desk.limit = 1
    for name in ("a", "b"):
        desk.put(bundle(name))
    for place in ("t0", "t1"):  # two places on a node that sees no store
        assert desk.hand_out(place) == bundle("a")
        desk.refuse(place, "node n does not see the store")
    assert desk.hand_out("t2") == bundle("a")
    desk.gone("t0", DIED)  # that node goes
    desk.hear("a", [Finished(bundle="a")])
    desk.gone("t2", "")
    assert desk.take(0.0) == [Finished(bundle="a")]
    assert desk.refusals == ["node n does not see the store"]
    desk.close()
    assert desk.take(0.0) == [Finished(bundle="b")]


def test_the_reason_is_one_line_that_says_what_befell_the_actor() -> None:
    kind, reason = death(DIED)
    assert kind == "failed"
    assert reason == (
        "the actor died: The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    )
    assert death(STARVED)[0] == "oom"
    assert death(RAISED) == ("failed", "the actor died: FileNotFoundError: [Errno 2] No such file or directory")
    assert death("") == ("failed", "the actor died: Ray Tune does not say why")
