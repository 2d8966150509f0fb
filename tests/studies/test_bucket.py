"""Claims about places in a bucket: who may be one, what it costs nobody to see, and that nobody writes twice."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import pytest

from core.errors import InputError, StoreError
from studies import bucket as module
from studies.bucket import Bucket
from studies.place import place_of
from studies.store import Store
from tests.object_store import SECRET
from tests.studies.odd_servers import odd_server
from tests.studies.rows import A, metrics, segment

_RIVAL = """
import sys
from studies.place import place_of
place, who = place_of(sys.argv[1]), sys.argv[2]
print(*(i for i in range(40) if place.publish_new(f"records/{i}", who.encode())))
"""


@pytest.fixture
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Reaches a server of the manner that the test names, without long waits where it fails."""
    with odd_server(request.param) as reached:
        for name, value in {**reached, "XDG_CACHE_HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(module, "RETRY", {**module.RETRY, "max_retries": 0})
        yield request.param


# --- of those that publish one name one wins


def test_of_processes_that_publish_the_same_names_each_name_has_one_winner(place: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _RIVAL, place]
    rivals = [subprocess.Popen([*command, who], cwd=root, stdout=subprocess.PIPE, text=True) for who in "abcd"]
    won = {who: rival.communicate()[0].split() for who, rival in zip("abcd", rivals, strict=True)}
    assert sorted(int(name) for names in won.values() for name in names) == list(range(40))
    there = place_of(place)
    assert all(there.read(f"records/{name}").decode() == who for who, names in won.items() for name in names)


@pytest.mark.parametrize("odd", ["sound"], indirect=True)
def test_a_server_that_keeps_conditional_puts_is_taken(odd: str) -> None:
    Store.open("s3://any/store", create=True).commit({"segments": [segment()], "metrics": metrics(A, [0])})


@pytest.mark.parametrize("odd", ["ignores", "races"], indirect=True)
def test_a_server_on_which_a_second_put_replaces_the_first_is_refused_before_anything_is_written(odd: str) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match=r"s3://any/store: .*If-None-Match.*--store DIR") as refusal:
            Store.open("s3://any/store", create=True)
        assert "\n" not in str(refusal.value)
        assert not Store.open("s3://any/store").exists


@pytest.mark.parametrize("odd", ["unknown"], indirect=True)
def test_a_server_that_does_not_know_conditional_puts_is_refused(odd: str) -> None:
    with pytest.raises(StoreError, match="501 NotImplemented"):
        Store.open("s3://any/store", create=True)


@pytest.mark.parametrize("odd", ["loses", "conflicts"], indirect=True)
def test_a_put_whose_answer_is_lost_or_that_only_met_another_is_told_once_and_right(odd: str) -> None:
    place = Bucket("s3://any/store")
    assert place.publish_new("records/x", b"mine")
    assert not place.publish_new("records/x", b"theirs")
    assert place.read("records/x") == b"mine"


# --- what is said where nothing can be done


@pytest.mark.parametrize("odd", ["denies"], indirect=True)
def test_what_a_server_repeats_of_credentials_is_not_shown(odd: str) -> None:
    with pytest.raises(StoreError, match=r"403 SignatureDoesNotMatch.*check the credentials") as refusal:
        Store.open("s3://any/store")
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


def test_a_server_that_is_not_there_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(module, "RETRY", {**module.RETRY, "max_retries": 0})
    with pytest.raises(
        StoreError, match=r"format\.json: the server does not answer; check AWS_ENDPOINT_URL"
    ) as refusal:
        Store.open(bucket)
    assert "\n" not in str(refusal.value)


def test_plain_http_must_be_allowed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreError, match="AWS_ALLOW_HTTP=true"):
        Store.open(bucket)


def test_a_bucket_that_is_not_there_is_no_empty_store(bucket: str) -> None:
    with pytest.raises(StoreError, match="there is no bucket resluts; create it"):
        Store.open("s3://resluts/store")


@pytest.mark.parametrize("address", ["s3://", "s3://b/../c", "s3://b//c", "s3://b/a b", "s3:///x", "gs://bucket/x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"--store: must be .*s3://BUCKET/PREFIX"):
        place_of(address)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="never put credentials") as refusal:
        place_of(f"s3://key:{SECRET}@bucket/store")
    assert SECRET not in str(refusal.value)


def test_a_slash_at_the_end_is_the_same_store() -> None:
    assert place_of("s3://bucket/store/").name == place_of("s3://bucket/store").name == "s3://bucket/store"
    assert place_of("s3://bucket").where("format.json") == "s3://bucket/format.json"


# --- copies


def test_a_part_is_fetched_once_and_a_copy_that_is_torn_is_fetched_again(bucket: str, tmp_path: Path) -> None:
    store = Store.open(bucket, create=True)
    store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100])})
    assert store.read("metrics").num_rows == 2
    (name,) = store.place.names("parts/metrics")
    (copy,) = (tmp_path / "cache").rglob(name)
    content = copy.read_bytes()
    copy.write_bytes(content[:-1])
    assert store.read("metrics").num_rows == 2
    assert copy.read_bytes() == content
    store.place.remove(f"parts/metrics/{name}")
    assert store.read("metrics").num_rows == 2
    assert not store.verify().ok, "verify looks at the bucket itself"
    assert not list((tmp_path / "cache").glob("loopsweep/*/open/*"))


def test_an_object_that_is_not_what_its_record_names_never_becomes_a_copy(bucket: str, tmp_path: Path) -> None:
    store = Store.open(bucket, create=True)
    store.commit({"segments": [segment()], "metrics": metrics(A, [0, 100])})
    (name,) = store.place.names("parts/metrics")
    data = store.place.read(f"parts/metrics/{name}")
    store.place.write(f"parts/metrics/{name}", bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(StoreError, match="loopsweep verify"):
        store.read("metrics")
    assert not list((tmp_path / "cache").rglob(name))
    store.place.write(f"parts/metrics/{name}", data)  # restored from a backup
    assert store.read("metrics").num_rows == 2


def test_copies_take_a_bounded_place_and_those_in_use_stay(tmp_path: Path) -> None:
    from studies.copies import Copies, trim

    copies = Copies(tmp_path, "store")
    data = {f"parts/metrics/{number}.parquet": bytes(100) + bytes([number]) for number in range(4)}
    paths = []

    def write(content: bytes, path: Path) -> None:
        path.write_bytes(content)

    for number, (name, content) in enumerate(data.items()):
        digest = hashlib.sha256(content).hexdigest()
        paths.append(copies.get(name, size=101, digest=digest, fetch=partial(write, content), where=name))
        module.os.utime(paths[-1], (number, number))
    trim(tmp_path, most=250, before=2.5)
    assert [path.exists() for path in paths] == [False, False, True, True]
    trim(tmp_path, most=0, before=2.5)
    assert [path.exists() for path in paths] == [False, False, False, True]
