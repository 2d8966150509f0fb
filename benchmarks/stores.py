"""What does a store in a bucket cost, against one in a directory?

Both hold the same rows. Measured in turns: commits of one trial's rows each; opening the store and looking at its
records; reading a table, first with no copy on this machine, then again; saving and loading a state. The bucket is the
tests' server on loopback, each answer as many milliseconds late as asked, or a real one.

    python benchmarks/stores.py [--records 2000] [--delay-ms 0] [--bucket s3://BUCKET/PREFIX]
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from core.checkpoint import TrialState
from core.numerics import pin_threads
from studies.store import Store
from tests.object_store import object_store
from tests.studies.rows import metrics, segment

ROUNDS = 5
STATE_FLOATS = 2_500_000


def main() -> None:
    """Measures and prints."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--records", type=int, default=2000)
    asked.add_argument("--delay-ms", type=float, default=0.0)
    asked.add_argument("--bucket", help="a place of a real object store; silent: the tests' server")
    options = asked.parse_args()
    pin_threads()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        if options.bucket is None:
            os.environ.update(stack.enter_context(object_store(delay_s=options.delay_ms / 1e3)))
        bucket = f"{options.bucket or 's3://results'}/benchmark-{secrets.token_hex(4)}"
        measure((str(folder / "store"), bucket), folder / "cache", options.records)


def measure(names: tuple[str, str], cache: Path, records: int) -> None:
    """Times what is done with a store at each of two names; the second is in a bucket."""
    print(f"{'':36} directory    bucket     ratio")
    opened, seconds = [], []
    for name in names:
        begun = time.perf_counter()
        opened.append(Store.open(name, create=True))
        seconds.append(time.perf_counter() - begun)
    told("open to write, the first time", seconds)
    first, second = opened
    tell("commit of two tables", lambda store, turn: commit(store, 1000 * turn, 20), (first, second), each=20)
    state = TrialState(lineage="a" * 16, step=1, parameters={"w": torch.randn(STATE_FLOATS)}, optimizer={})
    tell("save a state of 10 MB", lambda store, _: store.save_state(state), (first, second))
    tell("load it", lambda store, _: store.load_state("a" * 16, 1), (first, second))
    for store in (first, second):
        commit(store, 10**6, records - 20 * ROUNDS)
    tell(f"open and look at {records:,} records", lambda store, _: Store.open(store.name).snapshot(), (first, second))

    def cold(store: Store, _: int) -> None:
        shutil.rmtree(cache, ignore_errors=True)
        Store.open(store.name).read("metrics")

    tell("read a table, nothing copied", cold, (first, second), rounds=2)
    tell("read it again", lambda store, _: Store.open(store.name).read("metrics"), (first, second), rounds=2)
    tell("compact", lambda store, _: store.compact(grace_s=0), (first, second), rounds=1)
    tell("read it compacted", lambda store, _: Store.open(store.name).read("metrics"), (first, second))
    assert first.read("metrics").equals(second.read("metrics"))
    second.place.remove(*second.place.names())


def commit(store: Store, start: int, count: int) -> None:
    """Commits of one trial each."""
    for number in range(start, start + count):
        lineage = f"{number:016x}"
        store.commit({"segments": [segment(lineage)], "metrics": metrics(lineage, [0, 50, 100])})


def tell(
    what: str,
    do: Callable[[Store, int], object],
    stores: tuple[Store, Store],
    *,
    each: int = 1,
    rounds: int = ROUNDS,
) -> None:
    """The best of some rounds, in turns, of `each` operations a round."""
    best = [float("inf"), float("inf")]
    for turn in range(rounds):
        for index, store in enumerate(stores):
            begun = time.perf_counter()
            do(store, turn)
            best[index] = min(best[index], (time.perf_counter() - begun) / each)
    told(what, best)


def told(what: str, seconds: list[float]) -> None:
    here, there = (f"{1e3 * s:.1f} ms" for s in seconds)
    print(f"{what:36} {here:>10} {there:>10} {seconds[1] / seconds[0]:8.1f} ×")


if __name__ == "__main__":
    main()
