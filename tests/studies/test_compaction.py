"""Claims about compaction: no row changes, whoever reads, writes or compacts meanwhile."""

from __future__ import annotations

import shutil

import pytest

from core.errors import StoreError
from studies import snapshot, verification
from studies.compaction import compact
from studies.records import result_files
from studies.schemas import METRICS_TABLE
from studies.snapshot import Snapshots
from studies.store import Store
from tests.studies.rows import A, B, metrics, segment

HOUR = 3600 * 10**9


@pytest.fixture
def store(place):
    """On disk, and in a bucket."""
    return Store.open(place, create=True)


def fill(store: Store, lineages: range, loss: float = 1.0) -> None:
    for i in lineages:
        name = f"{i:016x}"
        store.commit({"segments": [segment(name)], "metrics": metrics(name, [0, 100], loss)})


def files(store: Store) -> list[str]:
    return sorted(name for name in store.place.names() if not name.endswith("/"))


def test_a_thousand_trials_are_a_hundred_files_at_most_and_the_same_rows(store):
    for start in range(0, 1000, 10):
        names = [f"{i:016x}" for i in range(start, start + 10)]
        rows = [row for name in names for row in metrics(name, [0, 100])]
        store.commit({"segments": [segment(name) for name in names], "metrics": rows})
    before = {name: store.read(name) for name in ("segments", "metrics")}
    report = store.compact(grace_s=0)
    assert (report.published, report.folded, report.rows) == (1, 100, 3000)
    assert len(files(store)) <= 100
    assert all(store.read(name).equals(table) for name, table in before.items())
    assert store.verify().ok


def test_losers_are_gone_and_the_manifest_goes_before_records_of_equal_rank(store):
    store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100], 1.0)})
    store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100], 2.0)})
    store.compact(grace_s=0)
    assert store.verify().invisible == 0
    early = Store(store.name, now=lambda: 1)
    early.commit({"segments": [segment(end=101)], "metrics": metrics(A, [0, 101], 3.0)})
    assert store.read("metrics", ["val_loss"]).column(0).to_pylist() == [1.0, 1.0, 3.0]


def test_a_generation_survives_folding(store):
    store.commit({"segments": [segment(generation=2)], "metrics": metrics(A, [100], 2.0)})
    store.commit({"segments": [segment(generation=0)], "metrics": metrics(A, [0, 100], 0.0)})
    store.compact(grace_s=0)
    store.commit({"segments": [segment(generation=1)], "metrics": metrics(A, [0, 100], 1.0)})
    assert store.read("metrics", ["val_loss"]).column(0).to_pylist() == [1.0, 2.0]


def test_folded_files_stay_for_the_grace_period_and_are_not_read_twice(store):
    now = [10 * HOUR]
    snapshots = Snapshots(store.place)
    fill(store, range(3))
    reader = store.snapshot()
    compact(store.place, snapshots, grace_s=3600, now=lambda: now[0])
    assert store.read("metrics").num_rows == 6
    assert reader.read(METRICS_TABLE).num_rows == 6
    assert store.verify().orphans == ()
    now[0] += HOUR // 2
    assert compact(store.place, snapshots, grace_s=3600, now=lambda: now[0]).removed == 0
    now[0] += HOUR
    assert compact(store.place, snapshots, grace_s=3600, now=lambda: now[0]).removed == 9
    assert store.read("metrics").num_rows == 6
    assert len(files(store)) == 4


def test_folding_again_before_the_grace_period_ended_keeps_track_of_what_is_to_go(store):
    fill(store, range(2))
    store.compact()
    fill(store, range(2, 4))
    assert store.compact().published == 2
    assert store.read("metrics").num_rows == 8
    store.compact(grace_s=0)
    assert len(files(store)) == 4
    assert store.read("metrics").num_rows == 8


def test_of_two_compactors_one_wins_and_the_other_leaves_nothing(store):
    fill(store, range(3))
    slow = Snapshots(store.place)

    class Overtaken(Snapshots):
        def stable(self, look):
            result = slow.stable(look)
            store.compact(grace_s=0)
            return result

    report = compact(store.place, Overtaken(store.place), grace_s=0)
    assert report.published is None
    assert store.read("metrics").num_rows == 6
    assert store.verify().orphans == ()
    assert len(files(store)) == 4


def test_a_reader_whose_parts_are_folded_away_meanwhile_looks_again(store, tmp_path, monkeypatch):
    """Also the second time: Arrow does not say which file it misses, and it was taken for the same one."""
    fill(store, range(3))
    looks, read, rivals = [], snapshot.read_part, [range(3, 4), range(4, 5)]

    def overtaken(path, schema):
        monkeypatch.setattr(snapshot, "read_part", read)
        if rivals:
            fill(store, rivals.pop(0))
            store.compact(grace_s=0)
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # a copy of a part would be as good as the part
            monkeypatch.setattr(snapshot, "read_part", overtaken)
        return read(path, schema)

    def look(found):
        looks.append(found.manifest.number)
        return found.read(METRICS_TABLE).num_rows

    monkeypatch.setattr(snapshot, "read_part", overtaken)
    assert Snapshots(store.place).stable(look) == 10
    assert looks == [0, 1, 2]


def test_what_others_do_while_it_is_verified_is_neither_damage_nor_garbage(store, tmp_path, monkeypatch):
    fill(store, range(3))
    stray = "parts/metrics/00.parquet"
    store.place.write(stray, b"PAR1")
    kind, digest, began = type(store.place), verification.digest_of, []
    publish = kind.publish_new

    def publishes(self, name, data):
        began.append(result_files(self) | {f"records/.{name}.tmp"})
        return publish(self, name, data)

    def folds(path):
        monkeypatch.setattr(verification, "digest_of", digest)
        store.compact(grace_s=0)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        return digest(path)

    with monkeypatch.context() as patched:
        patched.setattr(kind, "publish_new", publishes)
        fill(store, range(3, 4))
    monkeypatch.setattr(verification, "result_files", lambda _place: began[-1])  # it began within that commit
    monkeypatch.setattr(verification, "digest_of", folds)
    report = store.verify()
    assert (report.damaged, report.orphans, report.foreign) == ((), (stray,), ())
    assert report.parts == 2
    assert report.rows == 12


def test_a_commit_that_lands_during_compaction_stays(store):
    fill(store, range(3))

    def now() -> int:
        store.commit({"segments": [segment(B)], "metrics": metrics(B, [0, 100])})
        return 0

    compact(store.place, Snapshots(store.place), grace_s=0, now=now)
    assert store.read("metrics").num_rows == 8


def test_nothing_to_fold_publishes_nothing(store):
    assert store.compact().published is None
    fill(store, range(1))
    store.compact(grace_s=0)
    assert store.compact(grace_s=0).published is None


def test_a_damaged_part_is_not_folded_away(store):
    fill(store, range(2))
    store.place.remove(f"parts/metrics/{next(iter(store.place.names('parts/metrics')))}")
    with pytest.raises(StoreError, match="loopsweep verify"):
        store.compact(grace_s=0)
    assert store.snapshot().manifest.number == 0


def test_a_damaged_manifest_is_an_error_since_what_it_folded_may_be_gone(store):
    fill(store, range(2))
    store.compact(grace_s=0)
    store.place.remove("manifests/1.json")
    store.place.write("manifests/1.json", b"{")
    with pytest.raises(StoreError, match=r"1\.json"):
        store.read("metrics")
