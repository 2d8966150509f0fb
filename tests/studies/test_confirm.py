"""Confirmation: the ranking is a pure function of rows, and what is recorded is what every command asks for."""

from __future__ import annotations

import pytest

from studies.confirm import choose, chosen, confirmed, ranking, settings
from studies.expand import expand
from studies.spec import parse_study
from studies.store import Store
from studies.wanted import wanted

NAME = "final_val_loss"


def study(**changed):
    document = {
        "name": "s",
        "question": "?",
        "seeds": 3,
        "arms": {"single": {"schedule": {"kind": "single"}}, "looped": {}},
        "axes": {"model.loops": [2, 3, 4]},
    }
    return parse_study(document | changed, file="s.toml")


def rows(trials, value, status=lambda trial: "ok", name=NAME):
    return [{"trial_id": t.trial_id, "status": status(t), name: value(t)} for t in trials]


def told(ranked):
    return [(one.key[0], dict(one.trial.varied).get("model.loops"), one.place, one.of) for one in ranked]


def loops(trial):
    return trial.varied.get("model.loops", 1)


def test_the_best_mean_comes_first_and_ties_keep_the_order_of_the_study():
    trials = expand(study())
    found = ranking(trials, rows(trials, lambda t: {1: 0.5, 2: 0.5, 3: 0.1, 4: 0.9}[loops(t)]), NAME)
    assert told(found) == [("looped", 3, 1, 4), ("single", None, 2, 4), ("looped", 2, 3, 4), ("looped", 4, 4, 4)]
    assert [loops(one.trial) for one in chosen(found, top=2)] == [3, 1]


def test_higher_is_better_where_the_metric_says_so():
    trials, name = expand(study()), "best_val_accuracy"
    assert loops(ranking(trials, rows(trials, loops, name=name), name)[0].trial) == 4


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_setting_that_loses_a_seed_comes_after_those_that_do_not(status):
    trials = expand(study())
    found = ranking(
        trials, rows(trials, loops, lambda t: status if loops(t) == 1 and t.config.seed == 2 else "ok"), NAME
    )
    assert told(found)[-1] == ("single", None, 4, 4)
    assert (found[-1].without, len(found[-1].values)) == (1, 2)


def test_a_setting_without_any_value_is_never_chosen():
    trials = expand(study())
    found = ranking(trials, rows(trials, loops, lambda t: "ok" if loops(t) == 2 else "diverged"), NAME)
    assert [loops(one.trial) for one in chosen(found, top=4)] == [2]


def test_tasks_are_ranked_apart_but_not_what_they_are_trained_on():
    found = study(
        base={"task": {"kind": "copy"}},
        arms={"looped": {}},
        axes={"task.test_length": [[21, 24], [21, 32]], "task.train_size": [256, 512]},
    )
    trials = expand(found)
    ranked = ranking(trials, rows(trials, lambda t: t.config.task.train_size), NAME)
    assert [(one.place, one.of) for one in ranked] == [(1, 2), (2, 2)] * 2


def test_what_is_chosen_is_remembered_and_asked_for_on_fresh_seeds(tmp_path):
    found = study(seeds=2, nuisance={"train.lr": [1e-3]})
    store = Store.open(tmp_path / "r", create=True)
    trials = wanted(found, store)
    best = chosen(ranking(trials, rows(trials, loops), NAME), top=2)
    choose(found, best, store, metric=NAME, seeds=2)
    fresh = [trial for trial in wanted(found, store) if trial.role == "confirm"]
    assert [(t.arm, loops(t)) for t in fresh] == [("single", 1)] * 2 + [("looped", 2)] * 2
    assert len({t.config.seed for t in fresh}) == 2
    assert not {t.config.seed for t in fresh} & {*found.seeds, *found.nuisance.seeds}
    assert settings(fresh, "confirm").keys() == {one.key for one in best}

    before = store.read("confirmations").num_rows
    choose(found, best, store, metric=NAME, seeds=2)
    assert store.read("confirmations").num_rows == before, "the same choice is recorded once"
    choose(found, best, store, metric=NAME, seeds=3)
    assert {t.config.seed for t in fresh} < {t.config.seed for t in confirmed(found, trials, store)}, "more add to it"


def test_a_seed_that_the_study_takes_later_and_a_setting_that_it_drops_confirm_nothing(tmp_path):
    found, store = study(), Store.open(tmp_path / "r", create=True)
    trials = wanted(found, store)
    choose(found, chosen(ranking(trials, rows(trials, loops), NAME), top=2), store, metric=NAME, seeds=2)
    fresh = confirmed(found, trials, store)
    taken = study(seeds=[0, 1, 2, fresh[0].config.seed])
    assert len(confirmed(taken, wanted(taken, store), store)) == 2
    smaller = study(axes={"model.loops": [3, 4]})
    assert {t.arm for t in confirmed(smaller, expand(smaller), store)} == {"single"}
    assert confirmed(study(name="other"), trials, store) == []
