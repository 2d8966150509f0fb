"""What compares with what: numbers of methods that do not compare decide nothing, and everybody is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import studies
from reports import methods, series
from reports.build import build, to_text
from reports.claims import judge
from reports.figures import draw
from reports.render import html_report, markdown_report
from reports.tables import Tables
from studies.spec import load_study
from studies.store import Store
from studies.wanted import wanted
from sweeps.run import run
from tests.reports.curved import curved
from tests.reports.synthetic import ARMS, claims, results
from tests.sweeps.direct import Direct

SLQ = "slq, 8 vectors of 48 nodes (biased upwards)"

STUDY = """
name = "mixed"
question = "Does depth decide who is measured exactly?"
seeds = 3

[base]
task = {{ kind = "markov", states = 5, chains = 4, length = 4, val_size = 16 }}
model = {{ width = 4, mlp_ratio = 0 }}
train = {{ steps = 4, batch = 8, evaluate_every = 4, lr = 0.05 }}
schedule.kind = "single"

[arms.shallow]
model.depth = 1

[arms.deep]
model.depth = 2

[measure]
quantities = ["lambda_max", "entropy", "effective_rank", "trace", "negative_mass", "spectrum"]
at = [0, 4]
probe = 4
exact = {exact}
vectors = 4
nodes = 12
"""


def claim(metric, arm="deep", against="shallow", expect="differs"):
    other = f'against = "{against}"' if isinstance(against, str) else f"value = {against}"
    lines = ["[[claims]]", f'text = "{metric} against {against}"', f'metric = "{metric}"', f'arm = "{arm}"', other]
    return "\n".join([*lines, f'expect = "{expect}"', ""])


METRICS = ("entropy", "effective_rank", "entropy_dip", "trace", "negative_mass", "lambda_max")


def ran(folder, exact):
    """A real study of two depths, measured with exact spectra up to so many parameters: its results and its report."""
    path = folder / f"mixed-{exact}.toml"
    path.write_text(STUDY.format(exact=exact) + "".join(map(claim, METRICS)) + claim("entropy", against=1.0))
    asked, store = load_study(path), Store.open(folder / f"store-{exact}", create=True)
    assert run(lambda: wanted(asked, store), store, Direct(store.root), pack=6).counts == {"ok": 6}
    loaded = studies.load(asked, store=store)
    return loaded, json.loads(to_text(build([(asked, loaded)], command="x")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("methods")


@pytest.fixture(scope="module")
def sizes(mixed):
    trials = mixed[0].trials()
    return {arm: int(rows["parameters"].iloc[0]) for arm, rows in trials.groupby("arm")}


@pytest.fixture(scope="module")
def mixed(folder):
    """Exact in the shallow arm alone."""
    return ran(folder, 150)


@pytest.fixture(scope="module")
def page(mixed):
    """Figures, HTML and Markdown."""
    drawn = draw(mixed[1])
    figures = {d.name.removeprefix("mixed-"): d for d in drawn}
    return figures, html_report(mixed[1], drawn), markdown_report(mixed[1], drawn)


def test_depth_decides_which_arm_is_exact(mixed, sizes):
    assert sizes["shallow"] <= 150 < sizes["deep"]
    trials = mixed[0].trials().set_index("trial_id")["arm"]
    for row in mixed[0].curvature().to_dict("records"):
        text = "exact" if trials[row["trial_id"]] == "shallow" else "slq, 4 vectors of 12 nodes (biased upwards)"
        assert row["method"]["entropy"] == text


@pytest.mark.parametrize("metric", METRICS[:3])
def test_a_biased_number_against_an_exact_one_decides_nothing_and_says_the_way_out(mixed, sizes, metric):
    found = next(c for c in mixed[1]["claims"] if c["metric"] == metric and c["value"] is None)
    assert found["verdict"] == "undecided"
    assert found["seeds_needed"] is None
    assert found["reason"] == (
        f"measured by slq, 4 vectors of 12 nodes (biased upwards) in deep and exactly in shallow, so a bias "
        f"of the method would pass for a difference; set measure.exact to {sizes['deep']} or more (exact spectra in "
        f"both) or below {sizes['shallow']} (in none) and measure again"
    )
    assert found["reason"][1:] in found["sentence"]
    assert found["n"] == 3


@pytest.mark.parametrize("metric", METRICS[3:5])
def test_what_is_sampled_without_bias_is_compared_and_said(mixed, metric):
    found = next(c for c in mixed[1]["claims"] if c["metric"] == metric)
    assert "measure.exact" not in (found["reason"] or "")
    assert len(found["methods"]["deep"]) == 1
    assert f"Measured by {found['methods']['deep'][0]} in deep and exactly in shallow." in found["notes"]


def test_one_method_in_both_arms_needs_no_word(mixed):
    found = next(c for c in mixed[1]["claims"] if c["metric"] == "lambda_max")
    assert found["methods"] == {"deep": ["lanczos"], "shallow": ["lanczos"]}
    assert found["notes"] == []
    made = claims({"metric": "val_loss", "arm": "looped", "against": "single", "expect": "lower"})
    assert judge(Tables.read(results(seeds=range(3))), made)[0]["methods"] == {}


def test_a_biased_number_against_a_given_one_is_judged_with_a_warning(mixed):
    found = next(c for c in mixed[1]["claims"] if c["value"] == 1.0)
    assert "measure.exact" not in (found["reason"] or "")
    assert found["notes"][0].endswith("(biased upwards) in deep; the interval does not hold how far that is off.")


@pytest.mark.parametrize("exact", [50, 5000])
def test_the_ways_out_that_the_reason_gives_are_ways_out(folder, exact):
    _, report = ran(folder, exact)
    found = next(c for c in report["claims"] if c["metric"] == "entropy" and c["value"] is None)
    assert "measure.exact" not in (found["reason"] or "")
    (family,) = {text.partition(",")[0] for texts in found["methods"].values() for text in texts}
    assert family == ("slq" if exact == 50 else "exact")
    warned = any("as far as it is not so in both arms alike" in note for note in found["notes"])
    assert warned == (exact == 50)


def test_figures_name_the_methods_that_do_not_compare(page):
    figures, _, _ = page
    entropy = figures["curvature-entropy"]
    assert "(slq)" in entropy.svg
    assert "(exact)" in entropy.svg
    assert "entropy was found exactly in shallow and by slq" in entropy.alt
    assert entropy.alt.count("do not compare heights") == 1
    trace = figures["curvature-trace"]
    assert "trace was found exactly in shallow and by hutchinson, 4 vectors in deep." in trace.alt
    assert "do not compare" not in trace.alt
    assert "was found" not in figures["curvature-lambda-max"].alt


def test_lines_without_an_exact_spectrum_are_named_where_they_are_left_out(mixed, page):
    figures, _, _ = page
    assert "without exact spectra, left out: deep" in figures["ranks"].alt
    assert "exact spectra: shallow; stochastic Lanczos quadrature: deep" in figures["spectrum"].alt
    assert "inner bands and median are coarse" in figures["spectrum"].alt
    assert figures["spectrum"].svg.count("not settled by quadrature") == 1
    assert mixed[1]["studies"][0]["panels"]["components"] is None


def test_the_tables_say_which_arm_was_measured_how(mixed, page):
    _, html, markdown = page
    how = {row["quantity"]: row for row in mixed[1]["studies"][0]["panels"]["how"]}
    assert how["entropy"]["arms"] == {
        "exact": {"shallow": 6},
        "slq, 4 vectors of 12 nodes (biased upwards)": {"deep": 6},
    }
    for text in (html, markdown):
        assert "exact (shallow 6)" in text
        assert "(biased upwards) (deep 6)" in text


# --- made up ---------------------------------------------------------------------------------------------------------


def with_methods(frames, method):
    """The same rows, each number of the entropy found as `method(trial)` says."""
    trials = frames.trials_.set_index("trial_id")
    rows = frames.curvature_.copy()
    rows["method"] = [
        cell | {"entropy": method(trials.loc[key])} for key, cell in zip(rows["trial_id"], rows["method"], strict=True)
    ]
    return replace(frames, curvature_=rows)


def judged(frames, arms=ARMS, against="single"):
    made = claims({"metric": "entropy", "arm": "looped", "against": against, "expect": "lower"}, arms=arms)
    (found,) = judge(Tables.read(frames), made)
    return found


def test_pairs_of_one_method_compare_though_settings_differ():
    """An axis that acts on both arms decides who is exact: pairs are of equal depth, so of one method each."""
    arms = [replace(arm, axes={"model.depth": [1, 4]}) for arm in ARMS[:2]]
    frames = curved(results(arms, seeds=range(4)))
    pairwise = with_methods(frames, lambda trial: "exact" if trial["model.depth"] == 1 else SLQ)
    found = judged(pairwise, arms)
    assert "measure.exact" not in (found["reason"] or "")
    assert "as far as it is not so in both arms alike" in found["notes"][1]
    drawn = series.curves(Tables.read(pairwise), "entropy", [arm.name for arm in arms])
    assert [s["methods"] for s in drawn] == [["exact"], [SLQ]] * 2


def test_an_axis_of_one_arm_alone_mixes_its_mean():
    arms = [ARMS[0], replace(ARMS[1], axes={"model.depth": [1, 4]})]
    frames = curved(results(arms, seeds=range(4)))
    found = judged(with_methods(frames, lambda t: SLQ if t["model.depth"] == 4 else "exact"), arms)
    assert found["verdict"] == "undecided"
    assert f"exactly and by {SLQ} in looped and exactly in single" in found["reason"]


def test_other_vectors_or_nodes_have_another_bias():
    frames = curved(results(ARMS[:2], seeds=range(4)))
    other = "slq, 4 vectors of 16 nodes (biased upwards)"
    found = judged(with_methods(frames, lambda t: SLQ if t["arm"] == "looped" else other), ARMS[:2])
    assert found["verdict"] == "undecided"
    assert "measure.exact" not in found["reason"]
    same = judged(with_methods(frames, lambda _: SLQ), ARMS[:2])
    assert same["verdict"] == "supported"


def test_the_limit_of_a_trial_and_points_left_out_are_no_methods_of_their_own():
    cell = {"edge": "lanczos, raw, limit 40", "kappa_valley": "exact; 2 points of kappa_valley are not finite"}
    assert methods.method_of(cell, "edge") == "lanczos, raw"
    assert methods.method_of(cell, "kappa_valley") == "exact"
    assert methods.method_of({"entropy": "exact failed: no room"}, "entropy") is None
    assert methods.method_of(None, "entropy") is None


def test_no_exact_spectrum_is_promised_beyond_its_limit():
    frames = results(ARMS[:2], seeds=range(2))
    large = frames.with_trials(parameters=frames.trials_["arm"].map({"single": 4000, "looped": 90_000}))
    text = methods.refusal(Tables.read(large), {"single": ("exact",), "looped": (SLQ,)})
    assert text.endswith("set measure.exact below 4000 (in none) and measure again")
