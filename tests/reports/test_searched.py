"""Under a search an arm is its best setting, and only seeds that had no part in choosing it decide a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.build import build
from reports.figures import draw
from reports.render import html_report, markdown_report
from studies.confirm import choose, chosen, confirmed, ranking
from studies.expand import expand
from studies.spec import parse_study
from studies.store import Store
from tests.reports import synthetic

LOOPS = list(range(2, 14))
CLAIM = {"text": "Loops help", "metric": "final_val_loss", "arm": "looped", "against": "single", "expect": "lower"}
DOCUMENT = {
    "name": "sought",
    "question": "?",
    "seeds": 3,
    "arms": {"looped": {}, "single": {"schedule": {"kind": "single"}}},
    "search": {"kind": "grid", "space": {"model.loops": LOOPS}},
    "claims": [CLAIM],
}


def rows(trials):
    """Results of some trials: looped is truly better, whatever its loops."""
    arms = [synthetic.Arm(name="looped", axes={"model.loops": LOOPS}), synthetic.Arm(name="single", low=0.9, loops=1)]
    seeds = sorted({trial.config.seed for trial in trials})
    made = synthetic.results(arms, seeds, study="sought", curvature=False)
    known = {(t.arm, t.config.seed, t.varied.get("model.loops")): t for t in trials}
    keys = [
        (arm, seed, int(loops) if arm == "looped" else None)
        for arm, seed, loops in zip(*(made.trials_[c] for c in ("arm", "seed", "model.loops")), strict=True)
    ]
    made = made.with_trials(role=[known[key].role if key in known else "none" for key in keys])
    names = {old: known[key].trial_id for old, key in zip(made.trials_["trial_id"], keys, strict=True) if key in known}
    made = made.without(made.trials_["role"] != "none")
    frames = {n: getattr(made, n) for n in ("trials_", "metrics_", "events_")}
    frames = {n: frame.assign(trial_id=frame["trial_id"].map(names)) for n, frame in frames.items()}
    return replace(made, **frames, wanted=tuple(trials))


@pytest.fixture
def searched():
    study = parse_study(DOCUMENT, file="sought.toml")
    proposals = [("looped", number, {"model.loops": loops}) for number, loops in enumerate(LOOPS)]
    return study, expand(study, proposals=[*proposals, ("single", 0, {})])


@pytest.fixture
def again(searched, tmp_path):
    """The same with the best setting of each arm on four fresh seeds."""
    study, trials = searched
    store = Store.open(tmp_path / "r", create=True)
    records = rows(trials).trials_[["trial_id", "status", "final_val_loss"]].to_dict("records")
    for arm in ("looped", "single"):
        best = chosen(ranking([t for t in trials if t.arm == arm], records, "final_val_loss"), top=1)
        choose(study, best, store, metric="final_val_loss", seeds=4)
    return study, [*trials, *confirmed(study, trials, store)]


def loss(results, arm, role, loops=None):
    """The final loss by seed."""
    own = results.trials_[(results.trials_["arm"] == arm) & (results.trials_["role"] == role)]
    own = own if loops is None else own[own["model.loops"] == loops]
    return own.set_index("seed")["final_val_loss"]


def test_what_the_choice_was_made_on_decides_nothing_whatever_p_says(searched):
    study, trials = searched
    results = rows(trials)
    report = build([(study, results)], command="x")
    (claim,), (section,) = report["claims"], report["studies"]
    best = results.trials_[results.trials_["arm"] == "looped"].groupby("model.loops")["final_val_loss"].mean()
    difference = loss(results, "looped", "compare", best.idxmin()) - loss(results, "single", "compare")
    assert claim["effect"] == pytest.approx(difference.mean()), "of the best setting, not of the mean over all"
    assert claim["p_holm"] < 0.05
    assert claim["verdict"] == "undecided"
    assert "the best setting of looped was chosen on these very seeds" in claim["reason"]
    assert "confirm STUDY --top 1 --arm looped" in claim["reason"]
    assert [(e["arm"], e["setting"], e["of"]) for e in section["searched"]] == [
        ("looped", {"model.loops": best.idxmin()}, 12),
        ("single", {}, 1),
    ]


def test_fresh_seeds_of_the_best_decide(again):
    study, trials = again
    results = rows(trials)
    (claim,) = build([(study, results)], command="x")["claims"]
    difference = loss(results, "looped", "confirm") - loss(results, "single", "confirm")
    assert claim["seeds"] == sorted(difference.index)
    assert claim["effect"] == pytest.approx(difference.mean())
    assert claim["verdict"] == "supported"
    assert "Of the best setting of each arm's search, on fresh seeds." in claim["notes"]


def test_the_board_has_every_setting_and_curves_the_best_of_each_arm(searched):
    study, trials = searched
    report = build([(study, rows(trials))], command="x")
    (section,) = report["studies"]
    assert len(report["leaderboard"]) == len(LOOPS) + 1
    assert [(line["arm"], line["settings"]) for line in section["curves"][0]["series"]] == [
        ("looped", 1),
        ("single", 1),
    ]
    assert sum(len(entry["points"]) for entry in section["costs"]) == len(LOOPS) + 1
    drawings = draw(report)
    for form in (html_report(report, drawings), markdown_report(report, drawings).replace("\\", "")):
        assert "looped is the best of its 12 settings by mean final_val_loss: loops = " in form
        assert "mean over 12 settings" in form
