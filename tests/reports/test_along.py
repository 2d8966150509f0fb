"""Claims along an axis: how far they are supported, in which order, at what price, and how every form says it."""

from __future__ import annotations

import json

import pytest

from reports import stats
from reports.build import build
from reports.claims import judge
from reports.figures import draw
from reports.forms import forms
from reports.sheets import sheets
from reports.tables import Tables
from reports.verdict_words import standing
from tests.reports.synthetic import Arm, claims, results, study

SWITCHES = [0.1, 0.3, 0.5, 0.7, 0.9]
WORSE = {"metric": "final_val_loss", "arm": "shift", "against": "looped", "expect": "not worse", "margin": 0.02}
OVER = WORSE | {"each": "model.loops", "along": "schedule.switch"}


def arms(lags):
    """SHIFT ends behind looping by a lag for each switch, whatever the loops."""
    return (
        Arm(name="looped", axes={"model.loops": [2, 4]}),
        Arm(
            name="shift",
            switch=1500,
            lags=dict(zip(SWITCHES, lags, strict=True)),
            axes={"model.loops": [2, 4], "schedule.switch": SWITCHES},
        ),
    )


def judged(lags, *tables, ended=None):
    """Verdicts; `ended` gives SHIFT at a switch and seed another status than ok."""
    made = arms(lags)
    frames = results(made, range(6), noise=0.002)
    rows = frames.trials_
    for (switch, seed), status in (ended or {}).items():
        which = (rows["schedule.switch"] == switch) & (rows["seed"] == seed)
        rows = rows.assign(status=rows["status"].mask(which, status))
    frames = frames.with_trials(status=rows["status"])
    return judge(Tables.read(frames), claims(*tables, arms=made))


def verdicts(claim):
    return [part["verdict"] for part in claim["parts"]]


RISING = (0.0, 0.005, 0.021, 0.06, 0.1)


def test_it_is_supported_up_to_a_value_and_contradicted_from_another():
    two, four = judged(RISING, OVER)
    for claim, loops in ((two, 2), (four, 4)):
        assert claim["text"] == f"claim 1 (loops = {loops})"
        assert claim["verdict"] == "contradicted"
        assert verdicts(claim) == ["supported"] * 2 + ["undecided"] + ["contradicted"] * 2
        assert claim["along"] == {
            "key": "schedule.switch",
            "values": SWITCHES,
            "supported_to": 0.3,
            "contradicted_from": 0.7,
        }
        assert (claim["n"], claim["metric"], claim["arm"], claim["against"]) == (6, "final_val_loss", "shift", "looped")
        assert (claim["where"], claim["effect"], claim["low"]) == (f"model.loops == {loops}", None, None)
    (part,) = judged(RISING, WORSE | {"where": "model.loops == 4 and schedule.switch == 0.3"})
    for name in ("differences", "effect", "low", "high", "p", "p_opposite", "seeds"):
        assert four["parts"][1][name] == part[name], "each value is compared as a claim of it alone would be"


def test_nothing_is_supported_after_a_value_that_is_not():
    """Whatever the later ones say: the order was promised before the rows were seen."""
    (claim,) = judged((0.0, 0.03, 0.0, 0.0, 0.0), WORSE | {"along": "schedule.switch"})
    assert verdicts(claim) == ["supported", "undecided", "undecided", "undecided", "undecided"]
    assert [part["p_holm"] for part in claim["parts"][1:]] == [claim["p"]] * 4 == [claim["parts"][1]["p"]] * 4
    assert claim["along"]["supported_to"] == 0.1
    (claim,) = judged((0.03, 0.0, 0.1, 0.1, 0.1), WORSE | {"along": "schedule.switch"})
    assert verdicts(claim) == ["undecided", "undecided", "contradicted", "contradicted", "contradicted"]


def test_where_every_value_is_supported_the_claim_is_and_costs_the_family_no_more_than_one():
    low = {"metric": "final_val_loss_low_ic"}
    over, alone = judged((0.0,) * 5, WORSE | {"along": "schedule.switch"}, WORSE | low)
    assert over["verdict"] == alone["verdict"] == "supported"
    assert over["p"] == max(part["p"] for part in over["parts"])
    assert [over["p_holm"], alone["p_holm"]] == stats.holm([over["p"], alone["p"]])
    assert over["parts"][-1]["p_holm"] == over["p_holm"]
    assert standing(over) == "Supported at all 5 values, switch = 0.1 … 0.9"


def test_a_two_sided_claim_goes_along_too_and_the_wrong_side_stops_it():
    lower = {"metric": "final_val_loss", "arm": "shift", "against": "looped", "expect": "lower"}
    (claim,) = judged((-0.1, -0.05, 0.05, -0.05, 0.1), lower | {"along": "schedule.switch"})
    assert verdicts(claim) == ["supported", "supported", "undecided", "undecided", "contradicted"]
    assert standing(claim) == "Supported up to switch = 0.3, undecided between, contradicted at switch = 0.9"


def test_a_value_where_one_arm_diverges_stops_it_with_the_reason():
    ended = dict.fromkeys(((0.5, seed) for seed in range(2)), "diverged")
    (claim,) = judged((0.0,) * 5, WORSE | {"along": "schedule.switch"}, ended=ended)
    assert verdicts(claim) == ["supported", "supported", "undecided", "undecided", "undecided"]
    assert "divergence rates differ" in claim["reason"]
    assert (claim["p"], claim["p_holm"]) == (None, None)
    assert standing(claim) == "Supported up to switch = 0.3, undecided beyond"


def test_the_sentence_says_how_far_and_what_was_seen_there():
    claim = judged(RISING, OVER)[0]
    head, rest = claim["sentence"].split(": ", 1)
    assert head == "Supported up to switch = 0.3, undecided between, contradicted from switch = 0.7 on"
    stated = "shift is not worse than looped by more than 0.02 nats/token in final val_loss, where model.loops == 2. "
    assert rest.startswith(stated + "At switch = 0.3 shift − looped = 0.00")
    assert "; at switch = 0.5 shift − looped = 0.02" in rest
    assert f"seeds, p_holm 1): {claim['parts'][2]['reason']}; at switch = 0.7 shift − looped = 0.06" in rest
    assert "n = 6 seeds, p_holm " in rest


def test_notes_say_at_which_values():
    claim = judged(RISING, OVER, ended={(0.5, 3): "failed"})[0]
    assert "At switch = 0.5: Seed 3 left out of n: a pair is incomplete." in claim["notes"]
    assert claim["n"] == 5


@pytest.fixture(scope="module")
def report():
    made = claims(OVER, WORSE, arms=arms(RISING))
    one = study(made, arms=arms(RISING), seeds=tuple(range(6)))
    return build([(one, results(arms(RISING), range(6), noise=0.002))], command="loopsweep report quickstart")


def test_every_form_says_it(report):
    files = {name: content.decode(errors="replace") for name, content in forms(json.dumps(report))}
    page, text = files["report.html"], files["report.md"]
    assert "supported up to switch = 0.3</b>" in page
    assert "2 that are not supported as a whole are so up to a value of their axis" in page
    assert text.count("Supported up to switch = 0.3, undecided between, contradicted from switch = 0.7 on: ") == 2
    rows = [line for line in text.splitlines() if line.startswith("   | 0.3 |")]
    assert len(rows) == 2
    assert rows[0].endswith("| 6 | &lt; 0.0001 | supported |")
    assert page.count("<summary>Each of the 5 values</summary>") == 2
    assert r"contradicted from switch\,=\,0.7 on" in files["tables/claims.tex"]
    table = [row for row in sheets(report)["claims"] if row["claim"] == 1]
    assert [row["part"] for row in table] == [None, 1, 2, 3, 4, 5]
    assert [row["verdict"] for row in table[1:]] == verdicts(report["claims"][0])


def test_the_figure_has_a_panel_a_claim_and_says_how_far(report):
    (drawing,) = (one for one in draw(report) if one.kind == "along")
    assert len(drawing.figure.axes) == 2
    assert drawing.alt == " ".join(
        f"Claim {number}: supported up to switch = 0.3, undecided between, contradicted from switch = 0.7 on."
        for number in (1, 2)
    )
    (seeds,) = (one for one in draw(report) if one.kind == "claims")
    assert seeds.alt.startswith("Claim 3, ")
