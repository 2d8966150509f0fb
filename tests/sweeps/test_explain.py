"""One trial explained: its chain, what ends each link, what is there, and who shares it up to where."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.config import ModelConfig, TrialConfig
from core.flops import flops_alone, step_flops
from core.schedule_terms import ScheduleConfig
from studies.expand import Trial
from studies.store import Store
from studies.watchers import resolved
from sweeps.cli import execute
from sweeps.explain import explain_text, explained
from sweeps.round import Limits
from sweeps.run import run
from tests.studies.rows import of_config
from tests.sweeps.direct import Direct
from tests.sweeps.toy import TOY
from tests.sweeps.work import config

ONE, TWO, THREE = (step_flops(config(), loops=loops) for loops in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


def shift(arm: str = "shift", seed: int = 0, *, loops: int = 2, **terms: Any) -> Trial:
    base = config(seed, steps=40)
    terms = {"kind": "shift"} | terms
    made: TrialConfig = replace(base, model=ModelConfig(width=8, loops=loops), schedule=ScheduleConfig(**terms))
    return of_config(made, arm, {"schedule.switch": terms["switch"]} if "switch" in terms else {})


def test_each_link_says_what_acts_how_it_ends_and_what_is_missing(store: Store) -> None:
    trial = shift(switch=0.5)
    facts = explained([trial], [trial], store)
    first, last = facts["chain"]
    assert [(link["start"], link["end"], link["loops"], link["stage"]) for link in facts["chain"]] == [
        (0, 20, 1, 0),
        (20, 40, 2, 1),
    ]
    assert first["ending"] == {"by": "share of the steps", "step": 20, "share": 0.5}
    assert last["ending"] == {"by": "last step", "step": 40}
    assert {link["lineage"] for link in facts["chain"]} == {link.lineage for link in trial.links}
    assert [(link["status"], link["recorded_to"], link["checkpoint"]) for link in facts["chain"]] == [
        (None, 0, False),
        (None, 20, False),
    ]
    assert facts["flops_alone"] == facts["flops_share"] == flops_alone(trial.config)
    assert explained([shift(switch=20)], [], store)["chain"][0]["ending"] == {"by": "step", "step": 20}


def test_a_link_is_shared_up_to_where_the_other_leaves_it_and_never_with_another_seed(store: Store) -> None:
    mine, later, three = shift(switch=10), shift(switch=30), shift("wide", switch=10, loops=3)
    stranger = shift("other", seed=1, switch=10)
    facts = explained([mine], [mine, later, three, stranger], store)
    first, last = facts["chain"]
    assert first["shared"] == [
        {"study": "study", "arm": "shift", "trials": 1, "trial_ids": [later.trial_id], "up_to": [10, 10]},
        {"study": "study", "arm": "wide", "trials": 1, "trial_ids": [three.trial_id], "up_to": [10, 10]},
    ]
    assert last["shared"] == []
    assert facts["flops_share"] == pytest.approx(10 * ONE / 3 + 30 * TWO)
    whole = explained([later], [mine, later, three, stranger], store)
    assert whole["flops_share"] == pytest.approx(10 * ONE / 3 + 20 * ONE + 10 * TWO)


def test_equal_trials_of_two_arms_are_one_among_those_who_pay(store: Store) -> None:
    mine, same = shift(switch=10), shift("again", switch=10)
    facts = explained([mine, same], [mine, same], store)
    assert facts["flops_share"] == facts["flops_alone"]
    assert [use["arm"] for use in facts["asked_by"]] == ["shift", "again"]
    assert all(link["shared"] == [] for link in facts["chain"])


def test_the_shares_of_all_trials_add_up_to_what_the_tree_trains(store: Store) -> None:
    trials = [shift(switch=s, loops=loops) for s in (10, 20, 30) for loops in (2, 3)] + [shift(kind="single")]
    total = sum(explained([trial], trials, store)["flops_share"] for trial in trials)
    assert total == pytest.approx(40 * ONE + (30 + 20 + 10) * (TWO + THREE))


def test_a_trial_that_waits_names_its_criterion_and_what_follows(store: Store) -> None:
    trial = shift(kind="shift-scp", patience=2, latest=30, check_every=5, lr_factor=0.5)
    facts = explained([trial], [trial], store)
    (link,) = facts["chain"]
    ending = link["ending"]
    assert (ending["by"], ending["step"], ending["earliest"], ending["latest"]) == ("criterion", None, 15, 30)
    assert ending["criterion"]["patience"] == 2
    assert ending["then"] == "2 loops, learning rate × 0.5"
    assert facts["waits"]
    shown = explain_text(facts)
    assert "waits for a criterion: 15 … 30" in shown
    assert "at 2 checks in a row, one every 5 steps" in shown


def test_after_a_run_the_criterion_has_a_step_and_the_chain_is_recorded(store: Store) -> None:
    trials = [shift(kind="shift-scp", delta1=10.0, delta2=10.0, patience=1, check_every=10), shift(kind="single")]
    run(lambda: resolved(trials, store), store, Direct(store.root), limits=Limits())
    ended, single = resolved(trials, store)
    facts = explained([ended], [ended, single], store)
    first, last = facts["chain"]
    assert (first["ending"]["by"], first["ending"]["step"]) == ("criterion", 20)
    assert [link["status"] for link in facts["chain"]] == ["ok", "ok"]
    assert (facts["status"], last["checkpoint"]) == ("ok", True)
    assert first["shared"][0]["up_to"] == [20, 20]
    assert "by a criterion, at step 20" in explain_text(facts)


def test_a_decay_ends_a_link_within_its_stage(store: Store) -> None:
    base = config(0, steps=40, kind="looped", lr_schedule="wsd", decay=0.25)
    trial = of_config(base, "wsd", {})
    first, last = explained([trial], [trial], store)["chain"]
    assert first["ending"] == {"by": "decay", "step": 30}
    assert last["acts"] == ["learning rate decays"]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = execute([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_explains_by_a_beginning_of_the_id(capsys, toy, tmp_path) -> None:
    from studies.expand import expand
    from studies.spec import load_study

    trial = next(t for t in expand(load_study(str(toy))) if t.arm == "shift")
    words = ("--explain", trial.trial_id[:8], "--store", tmp_path / "none")
    code, out, _ = call(capsys, "plan", toy, *words, "--json")
    facts = json.loads(out)
    assert (code, facts["trial_id"], facts["seed"]) == (0, trial.trial_id, trial.config.seed)
    code, out, _ = call(capsys, "plan", toy, *words)
    assert code == 0
    assert "shared with 1 trial of toy / single up to step 10" in out
    assert list(tmp_path.iterdir()) == [toy]


def test_without_a_study_those_run_in_the_store_and_the_catalogue_are_searched(capsys, store) -> None:
    from studies.expand import expand
    from studies.spec import load_study, parse_study

    store.keep_study(TOY.encode())
    kept = expand(parse_study(tomllib.loads(TOY), file="toy.toml"))[0]
    catalogued = expand(load_study("quickstart"))[0]
    for trial in (kept, catalogued):
        code, out, _ = call(capsys, "plan", "--explain", trial.trial_id, "--store", store.root, "--json")
        assert code == 0
        assert trial.study in {use["study"] for use in json.loads(out)["asked_by"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--explain", "fff0fff"], "no such trial in the study toy; leave STUDY out"),
        (["--explain", "zz"], "a trial id is 16 hex digits"),
    ],
)
def test_an_id_that_names_no_trial_is_one_line(capsys, toy, tmp_path, words, said) -> None:
    code, _, err = call(capsys, "plan", toy, *words, "--store", tmp_path / "none")
    assert code == 2
    assert err.count("\n") == 1
    assert said in err


def test_a_plan_of_nothing_says_what_to_name(capsys) -> None:
    code, _, err = call(capsys, "plan")
    assert code == 2
    assert "STUDY" in err
