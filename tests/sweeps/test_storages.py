"""Optuna storages: what they show of a search, damage, contradictions, several writers, secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from core.errors import InputError
from studies.expand import Proposal
from studies.proposals import read_proposals
from studies.store import Store
from sweeps import search
from sweeps.mirror import Mirror, mirrored, write_storage
from sweeps.optuna_bridge import opened, write
from sweeps.storage_url import StorageUrl, parse_storage_url
from tests.sweeps import postgres
from tests.sweeps.sought import bowl, results, sought

KINDS = ("journal", "sqlite")


def at(folder: Path, kind: str) -> StorageUrl:
    return parse_storage_url(f"{kind}:///{folder / 'storage'}", "URL")


def proposals(count: int) -> list[Proposal]:
    """The first of a search of `sought`."""
    study, found = sought(), []
    while len(found) < count:
        due = search.propose(study, found, results(study, found))
        assert due
        found += [(row["arm"], row["number"], json.loads(row["params"])) for row in due]
    return found[:count]


def trials(url: StorageUrl) -> list[tuple[TrialState, list[float] | None, dict[str, float]]]:
    """What the one Optuna study of a storage shows."""
    with opened(url) as storage:
        (name,) = (study.study_name for study in storage.get_all_studies())
        found = optuna.load_study(study_name=name, storage=storage).get_trials()
    return [(trial.state, trial.values, trial.params) for trial in found]


@pytest.mark.parametrize("kind", KINDS)
def test_settings_run_in_the_storage_and_then_have_ended(tmp_path, kind):
    study, url, known = sought(), at(tmp_path, kind), proposals(8)
    write_storage(url, lambda: mirrored(study, known[:3], []))
    assert [state for state, *_ in trials(url)] == [TrialState.RUNNING] * 3
    write_storage(url, lambda: mirrored(study, known[:6], results(study, known[:3])))
    assert [state.is_finished() for state, *_ in trials(url)] == [True] * 3 + [False] * 3
    done = write_storage(url, lambda: mirrored(study, known, results(study, known)))
    assert (done.said, done.counts[0]["added"], done.counts[0]["ended"]) == ([], 2, 3)
    expected = [
        (TrialState.FAIL if (value := bowl(params)) is None else TrialState.COMPLETE, value and list(value), params)
        for _, _, params in known
    ]
    assert trials(url) == expected
    again = write_storage(url, lambda: mirrored(study, known, results(study, known)))
    assert (again.said, again.counts[0]["added"], again.counts[0]["ended"]) == ([], 0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["lost", "cut", "overwritten"])
def test_a_lost_or_damaged_storage_is_written_anew_and_the_damaged_one_kept(tmp_path, kind, damage):
    study, url, known = sought(), at(tmp_path, kind), proposals(5)
    shown = mirrored(study, known, results(study, known))
    write_storage(url, lambda: shown)
    before = trials(url)
    assert url.path is not None
    whole = url.path.read_bytes()
    if damage == "lost":
        url.path.unlink()
    else:
        left = len(whole) - 1 if kind == "journal" else len(whole) // 2
        url.path.write_bytes(whole[:left] if damage == "cut" else whole[:100] + b"no storage\n" * 500)
    damaged = url.path.read_bytes() if damage != "lost" else b""
    said = write_storage(url, lambda: shown).said
    assert trials(url) == before
    if damage == "lost":
        assert said == []
        return
    aside = tmp_path / "storage.damaged-1"
    assert aside.read_bytes() == damaged
    assert said == [f"{url.shown} was damaged: kept as {aside.name}, written anew from the tables"]
    assert write_storage(url, lambda: shown).said == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_never_was_a_storage_is_refused_and_left_where_it_is(tmp_path, kind):
    url = at(tmp_path, kind)
    assert url.path is not None
    url.path.write_text("root:x:0:0\n" * 500)
    with pytest.raises(InputError, match="no Optuna storage of this kind; nothing is changed"):
        write_storage(url, lambda: pytest.fail("asked"))
    assert url.path.read_text() == "root:x:0:0\n" * 500
    assert [path.name for path in tmp_path.iterdir()] == [url.path.name]


def test_what_contradicts_the_tables_is_written_anew(tmp_path):
    """As where a setting that failed was run again, and has a value now."""
    study, url, known = sought(), at(tmp_path, "journal"), proposals(4)
    write_storage(url, lambda: mirrored(study, known, results(study, known, lambda params: None)))
    done = write_storage(url, lambda: mirrored(study, known, results(study, known, lambda params: (1.0,))))
    assert len(done.said) == 1
    assert "written anew" in done.said[0]
    assert [values for _, values, _ in trials(url)] == [[1.0]] * 4


def test_a_study_of_somebody_elses_is_left_alone(tmp_path):
    url, known = at(tmp_path, "journal"), proposals(4)
    (shown,) = mirrored(sought(), known, [])
    with opened(url) as storage:
        theirs = optuna.create_study(storage=storage, study_name=shown.name)
        theirs.add_trial(optuna.trial.create_trial(value=1.0))
        with pytest.raises(InputError, match="did not write"):
            write(storage, shown)
        assert len(theirs.trials) == 1


def test_a_storage_that_cannot_be_written_is_refused_first_and_later_said_once(tmp_path):
    (tmp_path / "file").write_text("no folder")
    url = parse_storage_url(f"sqlite:///{tmp_path}/file/storage", "URL")
    store = Store.open(tmp_path / "store", create=True)
    mirror, said = Mirror(sought(), store, url), []
    with pytest.raises(InputError, match="cannot be written"):
        mirror.begin(said.append)
    assert said == []
    propose = mirror.after(lambda: search.proceed(sought(), store), said.append)
    assert propose is not None
    assert propose()
    mirror.sync(said.append)
    assert len(said) == 1
    assert said[0].endswith("the search goes on without it")
    assert len(read_proposals(sought(), store)) == 4


def test_a_round_looks_at_the_tables_now_and_then(tmp_path):
    now, store = [0.0], Store.open(tmp_path / "store", create=True)
    mirror = Mirror(sought(), store, at(tmp_path, "journal"), clock=lambda: now[0])
    search.proceed(sought(), store)
    mirror.sync_if_due(print)
    assert len(trials(at(tmp_path, "journal"))) == 4
    known = read_proposals(sought(), store)
    store.commit({"proposals": search.propose(sought(), known, results(sought(), known))})
    now[0] = 9.0
    mirror.sync_if_due(print)
    assert len(trials(at(tmp_path, "journal"))) == 4
    now[0] = 11.0
    mirror.sync_if_due(print)
    assert len(trials(at(tmp_path, "journal"))) == 8


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:pa%2Fss@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://ada:pa/ss@host:5432/db", "postgresql://ada:***@host:5432/db"),
        ("postgresql://ada@host/db?password=a-word&x=1", "postgresql://ada@host/db?password=***&x=1"),
        ("postgresql+psycopg2://host/db", "postgresql+psycopg2://host/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_a_password_is_never_shown(text, shown):
    url = parse_storage_url(text, "URL")
    assert url.shown == shown == repr(url)
    assert url.secret == text
    for secret in ("pa/ss", "pa%2Fss", "a-word") if "***" in shown else ():
        assert secret not in text or secret not in url.scrub(f"cannot reach {text}: {secret} is refused")


@pytest.mark.parametrize(
    "text", ["mysql://ada:word@host/db", "ada:word@host", "sqlite://", "journal://", "sqlite:///:memory:"]
)
def test_another_url_is_refused_without_what_it_says(text):
    with pytest.raises(InputError, match=r"must be journal:///path|names no file") as refused:
        parse_storage_url(text, "--optuna-storage")
    assert "word" not in str(refused.value)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.server() as url:
        yield url


def test_three_searches_share_one_postgresql(server, tmp_path):
    """Two of them are drivers of one study: each setting is there once, as the tables have it."""
    names = ["first", "first", "second"]
    command = [sys.executable, "-W", "error", "-m", "tests.sweeps.sought"]
    running = [
        subprocess.Popen(
            [*command, str(tmp_path / name), name, server], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for name in names
    ]
    said = [process.communicate(timeout=240)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 3, said
    assert said == [""] * 3
    url = parse_storage_url(server, "URL")
    with opened(url) as storage:
        found = {summary.study_name: summary for summary in storage.get_all_studies()}
        assert sorted(name.split("/")[0] for name in found) == ["first", "second"]
        for full in found:
            study = sought(name=full.split("/")[0])
            known = read_proposals(study, Store.open(tmp_path / study.name))
            shown = optuna.load_study(study_name=full, storage=storage).get_trials()
            assert [trial.params for trial in shown] == [params for _, _, params in known]
            assert [tuple(trial.values or ()) for trial in shown] == [bowl(params) or () for _, _, params in known]


def test_a_server_that_cannot_be_reached_is_said_in_one_line_without_the_password(server):
    away = server.replace("host=", "host=/nowhere")
    with pytest.raises(InputError) as refused:
        Mirror(sought(), Store.open(Path("nowhere")), parse_storage_url(away, "URL")).begin(print)
    assert "cannot be written" in str(refused.value)
    assert postgres.PASSWORD not in str(refused.value)
    assert "\n" not in str(refused.value)
