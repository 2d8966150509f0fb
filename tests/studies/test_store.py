"""Claims about the store, with real files and real processes."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError, StoreError
from studies.schemas import TABLES, table
from studies.store import Store
from tests.studies.rows import A, B, metrics, segment

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def store(place):
    """On disk, and in a bucket."""
    return Store.open(place, create=True)


@pytest.fixture
def on_disk(tmp_path):
    return Store.open(tmp_path / "store", create=True)


def replace(store: Store, name: str, content: bytes) -> None:
    store.place.remove(name)
    store.place.write(name, content)


def part_of(store: Store, name: str) -> str:
    (found,) = store.place.names(f"parts/{name}")
    return f"parts/{name}/{found}"


def losses(store: Store, lineage: str = A) -> dict[int, float]:
    rows = store.read("metrics", ["lineage", "step", "val_loss"]).to_pylist()
    return {row["step"]: row["val_loss"] for row in rows if row["lineage"] == lineage}


# --- opening


def test_a_directory_that_is_not_there_reads_as_an_empty_store_and_is_not_made(tmp_path):
    store = Store.open(tmp_path / "none")
    assert all(store.read(name).num_rows == 0 for name in TABLES)
    assert store.verify().ok
    assert not (tmp_path / "none").exists()
    with pytest.raises(StoreError, match="not a store"):
        store.commit({"segments": [segment()]})
    assert not (tmp_path / "none").exists()


def test_a_directory_of_something_else_is_not_made_a_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for create in (True, False):
        with pytest.raises(StoreError, match="not a store"):
            Store.open(tmp_path, create=create)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_other_format_is_refused(tmp_path):
    (tmp_path / "format.json").write_text('{"format": "loopsweep", "version": 99}')
    with pytest.raises(StoreError, match="version 99"):
        Store.open(tmp_path)
    (tmp_path / "format.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        Store.open(tmp_path)


def test_a_creation_that_was_killed_half_way_can_be_repeated(tmp_path):
    (tmp_path / ".format.json.1234.tmp").write_text("{")
    Store.open(tmp_path, create=True).commit({"segments": [segment()]})
    assert Store.open(tmp_path).read("segments").num_rows == 1


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("version", [1, 99])
def test_a_store_that_a_rival_makes_between_two_looks_is_that_store(place, monkeypatch, create, version):
    rival = Store(place).place
    kind = type(rival)
    read = kind.read

    def beaten(self, name):
        monkeypatch.setattr(kind, "read", read)
        rival.publish_new(name, json.dumps({"format": "loopsweep", "version": version}).encode())
        raise FileNotFoundError(name)

    monkeypatch.setattr(kind, "read", beaten)
    if version == 99:
        with pytest.raises(StoreError, match="version 99"):
            Store.open(place, create=create)
    else:
        assert Store.open(place, create=create).read("segments").num_rows == 0


def test_of_two_that_make_a_store_at_once_the_second_reads_what_the_first_published(place, monkeypatch):
    kind = type(Store(place).place)
    publish = kind.publish_new

    def beaten(self, name, data):
        if name == "format.json":
            publish(self, name, json.dumps({"format": "loopsweep", "version": 99}).encode())
        return publish(self, name, data)

    monkeypatch.setattr(kind, "publish_new", beaten)
    with pytest.raises(StoreError, match="version 99"):
        Store.open(place, create=True)


def test_what_the_disk_refuses_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store.open(tmp_path / "file" / "store", create=True)


def test_a_full_disk_leaves_no_part_behind(on_disk, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        on_disk.commit({"segments": [segment()]})
    assert not list(on_disk.root.rglob("*.parquet"))


def test_a_file_system_without_hard_links_is_refused_clearly(tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StoreError, match="no hard links"):
        Store.open(tmp_path / "store", create=True)


# --- committing


def test_rows_come_back_typed_sorted_and_whole(store):
    store.commit(
        {
            "segments": [segment(B), segment(A)],
            "metrics": metrics(B, [100, 0]) + metrics(A, [100, 0], val_loss_low_ic=0.5, lr=1),
            "events": [],
            "curvature": [
                {"lineage": A, "step": 100, "observed": "{}", "lambda_max": 2, "products": {"lambda_max": 7}}
            ],
        }
    )
    rows = store.read("metrics")
    assert [(r["lineage"], r["step"]) for r in rows.to_pylist()] == [(A, 0), (A, 100), (B, 0), (B, 100)]
    assert rows.schema.equals(table("metrics").schema(rows.column_names), check_metadata=True)
    assert rows.column("val_loss_low_ic").to_pylist() == [0.5, 0.5, None, None]
    assert rows.column("lr").type == pa.float64()
    assert dict(store.read("curvature").to_pylist()[0]["products"]) == {"lambda_max": 7}
    assert not list(store.place.names("parts/events"))


def test_parts_say_units_and_classes_to_whoever_reads_them(on_disk):
    on_disk.commit({"segments": [segment()], "metrics": metrics(A, [0])})
    (part,) = (on_disk.root / "parts" / "metrics").iterdir()
    field = pq.read_schema(part).field("val_loss")
    assert field.metadata[b"unit"] == b"nats/token"
    assert field.metadata[b"class"] == b"result"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("metrics", lambda x: {"lineage": A, "step": 0, "val_loss": x}),
        ("curvature", lambda x: {"lineage": A, "step": 0, "observed": "", "error": {"lambda_max": x}}),
        ("spectra", lambda x: {"lineage": A, "step": 0, "observed": "", "kind": "exact", "eigenvalues": [1.0, x]}),
    ],
)
def test_a_number_that_is_not_finite_is_refused_also_inside_lists_and_maps(store, name, row, bad):
    with pytest.raises(ValueError, match="finite or null"):
        store.commit({"segments": [segment()], name: [row(bad)]})
    assert store.read("segments").num_rows == 0


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "every table is empty"),
        ({"metrics": []}, "every table is empty"),
        ({"segments": [segment()], "metrics": [{"lineage": A, "step": "x"}]}, "step|int64"),
        ({"segments": [segment()], "metrics": [{"step": 1}]}, "key column lineage is null"),
        ({"metrics": metrics(A, [100])}, "no segment of this commit covers"),
        ({"segments": [segment(A, 50, 100)], "metrics": metrics(A, [50])}, "no segment of this commit covers"),
        ({"segments": [segment(status="great")]}, "status must be one of"),
    ],
)
def test_what_cannot_be_a_commit_is_refused_and_leaves_nothing_visible(store, tables, message):
    with pytest.raises(ValueError, match=message):
        store.commit(tables)
    assert not list(store.place.names("records"))


def test_unknown_tables_and_columns_are_refused_by_name(store):
    with pytest.raises(InputError, match="'metrics'"):
        store.commit({"metric": [{}]})
    with pytest.raises(InputError, match="'val_loss'"):
        store.commit({"segments": [segment()], "metrics": [{"lineage": A, "step": 0, "val_los": 1}]})
    with pytest.raises(InputError, match="no such column"):
        store.read("metrics", ["nope"])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.tuples(st.sampled_from([A, B]), st.integers(0, 10**12)),
        st.tuples(st.none() | FINITE, st.none() | FINITE, st.none() | st.integers(-(2**63), 2**63 - 1)),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_committed_comes_back_to_the_bit(tmp_path_factory, rows):
    store = Store.open(tmp_path_factory.mktemp("round") / "store", create=True)
    end = 10**12
    store.commit(
        {
            "segments": [segment(A, 0, end), segment(B, 0, end)],
            "metrics": [
                {"lineage": lineage, "step": step, "val_loss": x, "val_loss_s": y, "tokens": z}
                for (lineage, step), (x, y, z) in rows.items()
            ],
        }
    )
    for _ in range(2):
        back = store.read("metrics", ["lineage", "step", "val_loss", "val_loss_s", "tokens"]).to_pylist()
        expected = [(*key, *values) for key, values in sorted(rows.items())]
        assert [tuple(row.values()) for row in back] == expected
        store.compact(grace_s=0)


# --- one row of a key


def test_two_packings_of_the_same_rows_give_each_key_once_and_the_first_record_shows(store):
    store.commit({"segments": [segment(A, 0, 50), segment(A, 50, 100)], "metrics": metrics(A, [0, 50, 100], 1.0)})
    store.commit({"segments": [segment(A), segment(B)], "metrics": metrics(A, [0, 50, 100], 2.0) + metrics(B, [0])})
    assert losses(store) == {0: 1.0, 50: 1.0, 100: 1.0}
    assert store.read("segments").num_rows == 4
    assert store.verify().invisible == 3
    assert store.dataset("metrics").count_rows() == 4


def test_a_higher_generation_shows_whatever_came_first(store):
    store.commit({"segments": [segment(generation=1)], "metrics": metrics(A, [0, 100], 1.0)})
    store.commit({"segments": [segment(generation=3)], "metrics": metrics(A, [0], 3.0)})
    store.commit({"segments": [segment(generation=2)], "metrics": metrics(A, [0, 100], 2.0)})
    assert losses(store) == {0: 3.0, 100: 2.0}
    assert store.read("segments", ["generation"]).to_pylist() == [{"generation": 3}]


def test_a_result_shows_before_a_failure_of_its_generation(store):
    store.commit(
        {"segments": [segment(status="timeout", reached=0, error="too slow")], "metrics": metrics(A, [0], 1.0)}
    )
    store.commit({"segments": [segment(status="diverged", reached=60)], "metrics": metrics(A, [0], 2.0)})
    assert losses(store) == {0: 2.0}
    assert store.read("segments", ["status", "error"]).to_pylist() == [{"status": "diverged", "error": None}]


def test_a_key_that_comes_twice_in_one_commit_is_written_once(store):
    store.commit({"segments": [segment(), segment()], "metrics": metrics(A, [0], 1.0) + metrics(A, [0], 2.0)})
    assert losses(store) == {0: 1.0}
    assert store.verify().rows == 2


def test_neighbouring_segments_of_two_commits_are_no_contest(store):
    store.commit({"segments": [segment(A, 0, 50)], "metrics": metrics(A, [0, 50])})
    store.commit({"segments": [segment(A, 50, 100)], "metrics": metrics(A, [100])})
    assert not store.snapshot().contested
    assert losses(store) == {0: 1.0, 50: 1.0, 100: 1.0}
    store.commit({"segments": [segment(A, 99, 150)], "metrics": metrics(A, [150])})
    assert store.snapshot().contested == {A}


def test_rows_on_no_lineage_are_resolved_too(store):
    row = {"shape": "s", "loops": 3, "numerics_class": "cpu", "pack": 1}
    store.commit({"calibrations": [row | {"step_s": 1.0}]})
    store.commit({"calibrations": [row | {"step_s": 2.0}]})
    assert store.read("calibrations", ["step_s"]).to_pylist() == [{"step_s": 1.0}]


# --- damage


def test_torn_and_foreign_files_are_passed_over_and_counted(on_disk):
    name = on_disk.commit({"segments": [segment()], "metrics": metrics(A, [0])})
    records, parts = on_disk.root / "records", on_disk.root / "parts" / "metrics"
    whole = (records / f"{name}.json").read_bytes()
    (records / f"{0:019d}-00000000.json").write_bytes(whole[: len(whole) // 2])
    (records / f"{1:019d}-00000000.json").write_bytes(b"")
    (records / f"{2:019d}-00000000.json").write_bytes(whole)
    (records / f"{3:019d}-00000000.json").write_bytes(
        whole.replace(b'"rows"', b'"rowz"').replace(A.encode(), B.encode())
    )
    (records / f"{4:019d}-00000000.json").symlink_to("nowhere")
    (records / f"{5:019d}-00000000.json").mkdir()
    (records / "notes.txt").write_text("x")
    (parts / "foreign.parquet").write_bytes(b"PAR1")
    (on_disk.root / "manifests").mkdir()
    (on_disk.root / "manifests" / "notes.json").write_text("x")
    fresh = Store.open(on_disk.root)
    assert losses(fresh) == {0: 1.0}
    report = fresh.verify()
    assert report.ok
    assert len(report.foreign) == 8
    assert report.orphans == ("parts/metrics/foreign.parquet",)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_part_that_its_record_names_must_be_there_whole(store, damage):
    store.commit({"segments": [segment()], "metrics": metrics(A, [0])})
    part = part_of(store, "metrics")
    if damage == "missing":
        store.place.remove(part)
    else:
        replace(store, part, store.place.read(part)[:-1])
    for read in (store.read, store.dataset):
        with pytest.raises(StoreError, match=rf"{part}.*loopsweep verify"):
            read("metrics")
    assert store.read("segments").num_rows == 1
    report = store.verify()
    assert not report.ok
    assert part in report.damaged[0]


def test_a_flipped_bit_that_parquet_reads_happily_is_found_by_verify(store):
    store.commit({"segments": [segment()], "metrics": metrics(A, range(101), 1 / 3)})
    assert store.read("metrics").num_rows == 101  # so that a place that keeps copies has one, which is sound
    data = bytearray(store.place.read(part_of(store, "metrics")))
    data[len(data) // 3] ^= 1
    replace(store, part_of(store, "metrics"), bytes(data))
    assert not store.verify().ok


def test_a_record_never_points_outside_the_store(store):
    from studies.records import GarbageError, Part, Record, parse_record, record_bytes

    part = Part(table="metrics", path="../../etc/passwd", digest="", size=0, rows=0, columns=())
    with pytest.raises(GarbageError):
        parse_record(record_bytes(Record(name="x", parts=(part,), extents={})), "x")


def test_scratch_stays_inside(store):
    assert store.scratch("ray").is_dir()
    for name in ("../x", "a/b", "", ".hidden", "/tmp/x"):
        with pytest.raises(InputError):
            store.scratch(name)


# --- docs/store.md


@pytest.mark.parametrize("compacted", [False, True])
def test_the_documented_way_to_read_without_this_package_gives_the_same_rows(on_disk, compacted):
    on_disk.commit({"segments": [segment()], "metrics": metrics(A, [0, 100], 1.0)})
    if compacted:
        on_disk.compact()
    on_disk.commit({"segments": [segment(generation=1)], "metrics": metrics(A, [0], 2.0, val_loss_low_ic=0.5)})
    on_disk.commit({"segments": [segment()], "metrics": metrics(A, [0, 100], 3.0)})
    text = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace('"results"', repr(str(on_disk.root)))
    shown = "[tuple(row) for row in metrics[['lineage', 'step', 'val_loss']].values.tolist()]"
    script = f"{code}\nprint(repr({shown}), end='')"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    rows = on_disk.read("metrics", ["lineage", "step", "val_loss"]).to_pylist()
    assert found == repr([tuple(row.values()) for row in rows]) == repr([(A, 0, 2.0), (A, 100, 1.0)])


# --- processes

_WRITER = """
import sys
from studies.store import Store
from tests.studies.rows import metrics, segment
store, who = Store.open(sys.argv[1]), int(sys.argv[2])
for i in range(25):
    own, shared = f"{who:08x}{i:08x}", f"{i:016x}"
    store.commit({
        "segments": [segment(own), segment(shared)],
        "metrics": metrics(own, [0, 100], float(who)) + metrics(shared, [0, 100], float(who)),
    })
"""

_KILLED = """
import os, signal, sys
from studies.store import Store
from tests.studies.rows import A, metrics, segment
store = Store.open(sys.argv[1])
def die(name, data):
    os.kill(os.getpid(), signal.SIGKILL)
store.place.publish_new = die
store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100])})
"""


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=root)


def test_four_processes_commit_at_once_and_every_key_shows_once(store):
    began = time.perf_counter()
    writers = [python(_WRITER, store.name, who) for who in (1, 2, 3, 4)]
    while any(writer.poll() is None for writer in writers):
        rows = store.read("metrics", ["lineage", "step"])
        assert len(set(map(tuple, (r.values() for r in rows.to_pylist())))) == rows.num_rows
        store.compact(grace_s=0)
    assert [writer.returncode for writer in writers] == [0] * 4
    print(f"100 commits by 4 processes beside compaction: {time.perf_counter() - began:.1f} s")
    rows = store.read("metrics", ["lineage", "step"]).to_pylist()
    expected = {f"{who:08x}{i:08x}" for who in range(5) for i in range(25)}
    assert [(r["lineage"], r["step"]) for r in rows] == [(name, step) for name in sorted(expected) for step in (0, 100)]
    assert store.verify().ok


def test_a_commit_killed_between_part_and_record_did_not_happen_and_can_be_repeated(store):
    assert python(_KILLED, store.name).wait() == -signal.SIGKILL
    assert store.read("segments").num_rows == store.read("metrics").num_rows == 0
    assert len(store.verify().orphans) == 2
    store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100])})
    store.compact(grace_s=0)
    report = store.verify()
    assert report.ok
    assert report.rows == 3
    assert len(report.orphans) == 2, "what may be a commit under way is left alone"


@pytest.mark.soak
def test_measure_commits_and_a_million_rows(on_disk):
    began = time.perf_counter()
    for i in range(300):
        name = f"{i:016x}"
        on_disk.commit({"segments": [segment(name)], "metrics": metrics(name, range(0, 101, 4))})
    print(f"\n{300 / (time.perf_counter() - began):.0f} commits/s")
    rows, lineages = 1_000_000, 10_000
    names = [f"{i:016x}" for i in range(1000, 1000 + lineages)]
    steps = list(range(rows // lineages))
    data = pa.table(
        {
            "lineage": [name for name in names for _ in steps],
            "step": steps * lineages,
            **{c: [float(i) for i in range(rows)] for c in ("val_loss", "val_accuracy", "lr", "grad_norm")},
        }
    )
    on_disk.commit({"segments": [segment(name) for name in names], "metrics": data})
    for label in ("beside 300 small records", "compacted"):
        began = time.perf_counter()
        read = on_disk.read("metrics").num_rows
        print(f"{read} rows {label}: {time.perf_counter() - began:.2f} s")
        assert read >= rows
        on_disk.compact(grace_s=0)
