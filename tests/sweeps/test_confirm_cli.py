"""`loopsweep confirm`: the best settings on fresh seeds, by real processes; refusals write nothing."""

from __future__ import annotations

import json

import pytest

from sweeps.cli import execute
from tests.sweeps.toy import TOY, TUNED


@pytest.fixture
def call(capsys):
    def run(*arguments, code=0):
        capsys.readouterr()
        got = execute([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert got == code, err
        return json.loads(out) if code == 0 else err

    return run


def test_the_best_of_a_tuned_study_is_confirmed_once_and_seen_by_every_command(call, tmp_path):
    study, store = tmp_path / "tuned.toml", tmp_path / "results"
    study.write_text(TUNED)
    place = (study, "--store", store, "--json")
    assert "are missing" in call("confirm", study, "--store", store, code=2)
    assert not store.exists()
    call("run", *place, "--workers", 1)
    done = call("confirm", *place, "--top", 1, "--seeds", 2, "--workers", 1)
    assert (done["done"], done["remaining"], done["rounds"]) == (2, 0, 1)
    (best,) = done["confirmed"]
    assert (best["place"], best["of"], best["seeds"], done["metric"]) == (1, 1, 2, "final_val_loss")
    again = call("confirm", *place, "--top", 1, "--seeds", 2, "--workers", 1)
    assert (again["done"], again["rounds"]) == (2, 0), "the same command has nothing left to do"
    assert call("status", *place)["trials"] == call("status", *place)["done"] == 10
    planned = call("plan", *place)
    assert (planned["confirming"], planned["trials_to_come_at_most"]) == (2, 0)
    query = "select role, count(*) as n, count(final_val_loss) as values from trials group by role order by role"
    rows = call("query", study, query, "--store", store, "--json")
    assert rows == [{"role": role, "n": n, "values": n} for role, n in (("compare", 2), ("confirm", 2), ("tune", 6))]


def test_what_cannot_be_chosen_is_refused_in_one_line_and_nothing_is_written(call, tmp_path):
    study, store = tmp_path / "toy.toml", tmp_path / "results"
    study.write_text(TOY)
    place = (study, "--store", store)
    assert "--arm: no such arm, got 'shft'; did you mean 'shift'?" in call("confirm", *place, "--arm", "shft", code=2)
    assert "--by: must be a final_ or best_ metric" in call("confirm", *place, "--by", "val_loss", code=2)
    assert not store.exists()
