"""Claims about some settings (`where`) say what a study of those settings alone would say."""

from __future__ import annotations

import pytest

from core.errors import InputError
from reports.claims import judge
from reports.tables import Tables
from studies.spec import parse_study
from studies.where import conjuncts
from tests.reports.synthetic import GRID, Arm, claims, results

HEAD = {"metric": "final_val_loss", "arm": "shift", "against": "looped", "expect": "not worse", "margin": 0.05}


def judged(frames, **changed):
    (found,) = judge(Tables.read(frames), claims(HEAD | changed, arms=GRID))
    return found


def only(loops, switches):
    """The results of a study of fewer values: the same trials."""
    arms = [
        GRID[0],
        Arm(name="looped", axes={"model.loops": loops}),
        Arm(name="shift", switch=1500, axes={"model.loops": loops, "schedule.switch": switches}),
    ]
    return results(arms)


@pytest.mark.parametrize(
    ("where", "loops", "switches"),
    [
        ("model.loops == 3", [3], [0.1, 0.5, 0.9]),
        ("schedule.switch == 0.5", [2, 3, 4], [0.5]),
        ("model.loops >= 3 and schedule.switch < 0.9", [3, 4], [0.1, 0.5]),
    ],
)
def test_a_filtered_claim_is_that_of_a_study_of_those_settings(where, loops, switches):
    found, want = judged(results(GRID), where=where), judged(only(loops, switches))
    for name in ("differences", "effect", "low", "high", "p", "verdict", "settings", "incomplete", "notes"):
        assert found[name] == want[name], name
    assert found["where"] == where
    assert f"where {where}, " in found["sentence"]
    assert want["where"] is None


def test_parts_take_the_filter_of_the_claim_or_their_own():
    parts = [{"where": "model.loops == 2"}, {}]
    found = judged(results(GRID), where="model.loops == 4", all=parts)
    assert [part["where"] for part in found["parts"]] == ["model.loops == 2", "model.loops == 4"]


def test_divergence_elsewhere_does_not_block_a_filtered_claim():
    frames = results(GRID)
    rows = frames.trials_
    bad = (rows["arm"] == "looped") & (rows["model.loops"] == 2) & (rows["seed"] == 0)
    frames = frames.with_trials(status=rows["status"].mask(bad, "diverged"))
    assert "divergence rates differ" in judged(frames)["reason"]
    assert judged(frames, where="model.loops == 4")["diverged"] == {"shift": [0, 15], "looped": [0, 5]}
    assert (
        judged(frames, where="model.loops == 4")["verdict"]
        == judged(results(GRID), where="model.loops == 4")["verdict"]
    )


def test_conjuncts_filter_each_by_itself():
    assert [one.text for one in conjuncts("model.loops == 3 and (model.depth == 1 or model.depth == 2)")] == [
        "model.loops == 3",
        "model.depth == 1 or model.depth == 2",
    ]
    assert conjuncts("a.b == 1")[0].admits({}), "an axis that does not act filters nothing"
    assert not conjuncts("a.b == 1")[0].admits({"a.b": 2})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("model.loop == 3", "reads model.loop, which is no axis of looped or single; did you mean 'model.loops'?"),
        ("train.lr == 1e-3", "which is no axis of looped or single"),
        ("model.loops == 9", "keeps no setting of arm looped"),
        ("model.loops = 3", "is not an expression"),
        ("model.loops + 1", "must be true or false"),
        (3, "valid string"),
    ],
)
def test_a_filter_that_can_never_decide_is_refused_when_the_study_is_read(where, message):
    document = {
        "name": "s",
        "question": "?",
        "arms": {"looped": {"axes": {"model.loops": [2, 3]}}, "single": {"schedule": {"kind": "single"}}},
        "nuisance": {"train.lr": [1e-3, 1e-2]},
        "claims": [
            {"text": "t", "metric": "val_loss", "arm": "looped", "against": "single", "expect": "lower", "where": where}
        ],
    }
    with pytest.raises(InputError) as error:
        parse_study(document, file="s.toml")
    (problem,) = error.value.problems
    assert problem.where == "s.toml: claims[1].where"
    assert message in problem.message or where == 3
