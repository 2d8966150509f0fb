"""Verdicts on results whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from reports import stats
from reports.claims import judge
from reports.tables import Tables
from tests.reports.synthetic import ARMS, Arm, claims, results

LOWER = {"metric": "final_val_loss_low_ic", "arm": "looped", "against": "single", "expect": "lower"}


def judged(frames, *tables, arms=ARMS):
    return judge(Tables.read(frames), claims(*tables, arms=arms))


def by_seed(frames, arm, column):
    rows = frames.trials()
    return rows[rows["arm"] == arm].sort_values("seed").set_index("seed")[column]


def test_a_clear_effect_is_supported_with_scipys_numbers():
    frames = results()
    (claim,) = judged(frames, LOWER)
    a, b = (by_seed(frames, arm, "final_val_loss_low_ic").to_numpy() for arm in ("looped", "single"))
    want = scipy_stats.ttest_rel(a, b)
    interval = want.confidence_interval()
    assert claim["verdict"] == "supported"
    assert (claim["n"], claim["seeds"], claim["scale"]) == (5, [0, 1, 2, 3, 4], "linear")
    np.testing.assert_allclose(claim["differences"], a - b, rtol=1e-12)
    np.testing.assert_allclose(
        [claim["effect"], claim["low"], claim["high"], claim["p"]],
        [np.mean(a - b), interval.low, interval.high, want.pvalue],
        rtol=1e-9,
    )
    assert claim["p_holm"] == claim["p"]
    assert claim["p_better"] == 1.0
    assert claim["d_z"] == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
    assert (claim["p_sign_flip"], claim["p_sign_flip_floor"]) == (0.0625, 0.0625)


def test_the_sentence_says_it_with_its_numbers():
    (claim,) = judged(results(), LOWER)
    low, high = -claim["high"], -claim["low"]
    decimals = 1 - math.floor(math.log10((high - low) / 2))
    want = (
        f"Supported: looped has lower final val_loss_low_ic than single by {-claim['effect']:.{decimals}f} nats/token "
        f"(95 % CI {low:.{decimals}f} … {high:.{decimals}f}, n = 5 seeds, p_holm < 0.0001)"
    )
    assert claim["sentence"] == want


def test_the_opposite_of_the_truth_is_contradicted():
    flipped = LOWER | {"expect": "higher"}
    swapped = LOWER | {"arm": "single", "against": "looped"}
    both = judged(results(), flipped, swapped)
    assert [claim["verdict"] for claim in both] == ["contradicted", "contradicted"]
    assert both[0]["effect"] == -both[1]["effect"] < 0


def test_differs_is_supported_either_way_and_never_contradicted():
    same = [Arm(name="a"), Arm(name="b")]
    assert judged(results(), LOWER | {"expect": "differs"})[0]["verdict"] == "supported"
    claim = {"metric": "final_val_loss", "arm": "a", "against": "b", "expect": "differs"}
    assert judged(results(same), claim, arms=same)[0]["verdict"] == "undecided"


def test_an_effect_in_the_noise_is_undecided_and_says_how_many_seeds_it_takes():
    close = [Arm(name="a", low=0.103), Arm(name="b", low=0.1)]
    frames = results(close, noise=0.02)
    (claim,) = judged(frames, {"metric": "val_loss_low_ic", "arm": "a", "against": "b", "expect": "higher"}, arms=close)
    sd = float(np.std(claim["differences"], ddof=1))
    assert claim["verdict"] == "undecided"
    assert claim["seeds_needed"] == stats.seeds_needed(claim["effect"], sd) > 5
    assert claim["reason"] == f"{claim['seeds_needed']} seeds would decide it if the effect seen is the true one"
    assert claim["sentence"].startswith("Undecided: in these seeds a has ")
    assert claim["sentence"].endswith(f"). {claim['reason']}.")
    assert claim["smallest_detectable"] > abs(claim["effect"])


# --- not worse -------------------------------------------------------------------------------------------------------


def not_worse(margin, arm="shift", against="looped", metric="final_val_loss_high_ic"):
    return {"metric": metric, "arm": arm, "against": against, "expect": "not worse", "margin": margin}


def test_not_worse_is_one_sided_against_the_margin():
    frames = results(seeds=range(8))
    (claim,) = judged(frames, not_worse(0.05))
    a, b = (by_seed(frames, arm, "final_val_loss_high_ic").to_numpy() for arm in ("shift", "looped"))
    assert claim["verdict"] == "supported"
    assert claim["p"] == pytest.approx(scipy_stats.ttest_1samp(a - b, 0.05, alternative="less").pvalue, rel=1e-9)
    assert claim["p_opposite"] == pytest.approx(1 - claim["p"])
    assert claim["p_sign_flip"] == 1 / 2**8
    assert (
        "shift is not worse than looped by more than 0.05 nats/token in final val_loss_high_ic: shift − looped = "
        in claim["sentence"]
    )


def test_not_worse_is_contradicted_beyond_the_margin_and_undecided_at_it():
    worse = judged(results(), not_worse(0.01, arm="single"))[0]
    assert worse["verdict"] == "contradicted"
    assert worse["p"] > 0.99
    assert worse["p_holm_opposite"] < 0.05
    assert "single is worse than looped by more than 0.01 nats/token" in worse["sentence"]
    at = judged(results(), not_worse(-0.0 + abs(worse["effect"]), arm="single"))[0]
    assert (at["verdict"], at["p"], at["seeds_needed"]) == ("undecided", pytest.approx(0.5), None)


def test_not_worse_turns_with_the_better_direction():
    accuracy = not_worse(0.02, arm="single", metric="final_val_accuracy_low_ic")
    assert judged(results(), accuracy)[0]["verdict"] == "contradicted"
    assert judged(results(), accuracy | {"arm": "looped", "against": "single"})[0]["verdict"] == "supported"


def test_not_worse_needs_a_better_direction():
    (claim,) = judged(results(), not_worse(1.0, metric="phase_order"))
    assert claim["verdict"] == "undecided"
    assert "no better direction" in claim["reason"]
    assert claim["p"] is None


# --- log scale -------------------------------------------------------------------------------------------------------


def test_on_a_log_scale_effects_are_log_ratios_and_margins_ratios():
    frames = results()
    excess = LOWER | {"metric": "final_excess_loss_low_ic"}
    (claim,) = judged(frames, excess)
    a, b = (by_seed(frames, arm, "final_excess_loss_low_ic") for arm in ("looped", "single"))
    np.testing.assert_allclose(claim["differences"], np.log(a / b), rtol=1e-12)
    assert claim["scale"] == "log"
    ratio = math.exp(claim["effect"])
    assert f"than single: {ratio:.3f} times as much" in claim["sentence"]
    inside, outside = judged(
        frames,
        not_worse(1.4 / ratio, arm="single", metric="final_excess_loss_low_ic"),
        not_worse(1 / ratio / 1.4, arm="single", metric="final_excess_loss_low_ic"),
    )
    assert (inside["verdict"], outside["verdict"]) == ("supported", "contradicted")


def test_a_value_without_a_logarithm_leaves_the_claim_undecided():
    frames = results()
    column = frames.metrics_["excess_loss"].where(frames.metrics_["step"] < 3000, -0.001)
    frames.metrics_["excess_loss"] = column
    (claim,) = judged(frames, LOWER | {"metric": "final_excess_loss"})
    assert (claim["verdict"], claim["n"], claim["effect"]) == ("undecided", 0, None)
    assert "has no logarithm" in claim["reason"]
    assert claim["sentence"].startswith("Undecided: excess_loss is compared as a ratio, but")


# --- pairs -----------------------------------------------------------------------------------------------------------

GRID = (
    Arm(name="looped", axes={"model.loops": [2, 3]}),
    Arm(name="shift", low=0.2, axes={"model.loops": [2, 3], "schedule.switch": [0.1, 0.5, 0.9]}),
    Arm(name="single", low=0.3, loops=1),
)


def test_settings_of_a_seed_are_averaged_so_n_counts_seeds():
    frames = results(GRID)
    rows = frames.trials().set_index(["seed", "arm"])["final_val_loss_low_ic"]
    claim, flat = judged(frames, LOWER | {"arm": "shift", "against": "looped"}, LOWER, arms=GRID)
    want = [rows.loc[(s, "shift")].mean() - rows.loc[(s, "looped")].mean() for s in range(5)]
    np.testing.assert_allclose(claim["differences"], want, rtol=1e-10)
    assert (claim["n"], claim["settings"]) == (5, 2)
    assert "Each seed is the mean over 2 settings." in claim["notes"]
    # `single` has no axis: nothing is shared, and looped's settings are averaged before they are paired.
    want = [rows.loc[(s, "looped")].mean() - rows.loc[(s, "single")].mean() for s in range(5)]
    np.testing.assert_allclose(flat["differences"], want, rtol=1e-10)
    assert (flat["n"], flat["settings"]) == (5, 1)
    assert flat["own_settings"] == {"looped": 2}
    assert "looped is the mean over its 2 settings." in flat["notes"]


def test_only_equal_settings_are_paired():
    left = Arm(name="a", axes={"model.loops": [2, 3]})
    right = Arm(name="b", low=0.4, axes={"model.loops": [3, 4]})
    frames = results([left, right])
    (claim,) = judged(frames, LOWER | {"arm": "a", "against": "b"}, arms=[left, right])
    rows = frames.trials()
    rows = rows[rows["model.loops"] == 3].set_index(["arm", "seed"])["final_val_loss_low_ic"]
    np.testing.assert_allclose(claim["differences"], (rows["a"] - rows["b"]).to_numpy(), rtol=1e-12)
    assert (claim["settings"], claim["incomplete"], claim["dropped_settings"]) == (1, 10, ["loops = 2", "loops = 4"])


def test_arms_without_a_common_setting_are_undecided():
    arms = [Arm(name="a", axes={"model.loops": [2]}), Arm(name="b", axes={"model.loops": [3]})]
    (claim,) = judged(results(arms), LOWER | {"arm": "a", "against": "b"}, arms=arms)
    assert (claim["verdict"], claim["n"], claim["effect"]) == ("undecided", 0, None)


def test_an_incomplete_pair_leaves_n_and_is_counted():
    frames = results(ended={("single", 3): "failed"})
    (claim,) = judged(frames, LOWER)
    assert (claim["n"], claim["seeds"], claim["incomplete"]) == (4, [0, 1, 2, 4], 1)
    assert claim["notes"][0] == "Seed 3 left out of n: a pair is incomplete."
    assert claim["verdict"] == "supported"


def test_a_seed_that_lacks_one_of_its_settings_leaves_n():
    frames = results(GRID)
    gone = (frames.trials_["arm"] == "shift") & (frames.trials_["seed"] == 1) & (frames.trials_["model.loops"] == 2)
    frames = frames.without(~(gone & (frames.trials_["schedule.switch"] == 0.5)))
    frames = frames.without(~((frames.trials_["arm"] == "looped") & (frames.trials_["seed"] == 2)))
    (claim,) = judged(frames, LOWER | {"arm": "shift", "against": "looped"}, arms=GRID)
    # Seed 1 lacks one of the three trials that its pair averages, seed 2 its partners in both settings.
    assert (claim["seeds"], claim["incomplete"]) == ([0, 3, 4], 3)
    assert claim["dropped_seeds"] == [1, 2]


def test_tuned_axes_are_not_matched():
    arms = [Arm(name="a", low=0.3, axes={"train.lr": [1e-3]}), Arm(name="b", axes={"train.lr": [3e-3]})]
    tables = Tables.read(results(arms), tuned=["train.lr"])
    (claim,) = judge(tables, claims(LOWER | {"arm": "a", "against": "b", "expect": "higher"}, arms=arms))
    assert (claim["n"], claim["verdict"]) == (5, "supported")


def test_only_trials_that_are_compared_count():
    frames = results()
    roles = np.where(frames.trials_["seed"] > 2, "tune", "compare")
    (claim,) = judged(frames.with_trials(role=roles), LOWER)
    assert claim["seeds"] == [0, 1, 2]


# --- what keeps a claim from being decided ---------------------------------------------------------------------------


def test_arms_that_diverge_at_different_rates_are_undecided_whatever_p_says():
    (claim,) = judged(results(seeds=range(10), ended={("single", 3): "diverged"}), LOWER)
    assert claim["p"] < 1e-6
    assert (claim["verdict"], claim["n"], claim["seeds_needed"]) == ("undecided", 9, None)
    assert "0 of 10 trials of looped, 1 of 10 trials of single" in claim["reason"]


def test_arms_that_diverge_alike_are_compared_on_what_is_left():
    frames = results(ended={("single", 3): "diverged", ("looped", 1): "diverged"})
    (claim,) = judged(frames, LOWER)
    assert (claim["verdict"], claim["seeds"], claim["incomplete"]) == ("supported", [0, 2, 4], 2)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_seeds_decide_nothing(n):
    frames = results(seeds=range(2))
    (claim,) = judged(frames.without(frames.trials_["seed"] < n), LOWER)
    assert (claim["verdict"], claim["n"], claim["p"], claim["p_holm"], claim["low"]) == (
        "undecided",
        n,
        None,
        None,
        None,
    )
    assert claim["reason"].startswith(f"n = {n}, at least 2 seeds are needed")


def test_a_metric_that_was_not_measured_is_a_reason_never_a_number():
    frames = results(curvature=False)
    unmeasured = judged(
        frames,
        LOWER | {"metric": "lambda_max"},
        LOWER | {"metric": "val_loss", "at": 150},
        LOWER | {"metric": "force_at(0.1)"},
        LOWER | {"metric": "plateau_step(1.5)"},
    )
    for claim, words in zip(
        unmeasured, ["lambda_max was not", "at step 150", "cumulative_force was not", "in (0, 1)"], strict=True
    ):
        assert (claim["verdict"], claim["n"], claim["effect"]) == ("undecided", 0, None)
        assert words in claim["reason"]


def test_an_arm_without_trials_is_named():
    frames = results()
    (claim,) = judged(frames.without(frames.trials_["arm"] != "single"), LOWER)
    assert "no trials of single are recorded" in claim["reason"]


# --- where the metric is taken ---------------------------------------------------------------------------------------


def test_metrics_at_a_step_at_their_best_of_curvature_and_of_cost():
    frames = results()
    metrics = frames.metrics().merge(frames.trials()[["trial_id", "arm", "seed"]], on="trial_id")
    at, best, accuracy, curved, cost = judged(
        frames,
        LOWER | {"metric": "val_loss", "at": 500},
        LOWER | {"metric": "best_val_loss"},
        LOWER | {"metric": "val_accuracy", "at": "best", "expect": "higher"},
        LOWER | {"metric": "lambda_max"},
        LOWER | {"metric": "alone_s", "expect": "higher"},
    )

    def difference(rows):
        by = rows.groupby(["arm", "seed"])["value"].first()
        return (by["looped"] - by["single"]).to_numpy()

    rows = metrics[metrics["step"] == 500].rename(columns={"val_loss": "value"})
    np.testing.assert_allclose(at["differences"], difference(rows), rtol=1e-12)
    for claim, column, how in ((best, "val_loss", "min"), (accuracy, "val_accuracy", "max")):
        rows = metrics.groupby(["arm", "seed"])[column].agg(how).rename("value").reset_index()
        np.testing.assert_allclose(claim["differences"], difference(rows), rtol=1e-12)
    assert (curved["verdict"], curved["scale"], curved["at"]) == ("supported", "log", "final")
    # Costs have no spread over seeds: the sign-flip test decides, and five seeds are too few for it.
    # In a family of five claims 2 / 2^n < 0.05 / 5 first at n = 8.
    assert (cost["verdict"], cost["p"], cost["d_z"], cost["seeds_needed"]) == ("undecided", 0.0625, None, 8)
    assert math.exp(cost["effect"]) == pytest.approx(3_000_000 / 1_100_000)


def test_a_number_to_compare_with():
    frames = results()
    table = {"metric": "final_val_loss_low_ic", "arm": "looped", "value": 0.9, "expect": "lower"}
    (claim,) = judged(frames, table)
    values = by_seed(frames, "looped", "final_val_loss_low_ic").to_numpy()
    assert (claim["verdict"], claim["against"], claim["value"]) == ("supported", None, 0.9)
    assert claim["p"] == pytest.approx(scipy_stats.ttest_1samp(values, 0.9).pvalue)
    assert "than 0.9 by" in claim["sentence"]
    (survivors,) = judged(results(ended={("looped", 0): "diverged"}), table)
    assert survivors["verdict"] == "undecided"


# --- families --------------------------------------------------------------------------------------------------------


def test_holm_runs_over_all_claims_of_the_study_also_those_without_a_p():
    frames = results(curvature=False)
    tables = [
        LOWER,
        LOWER | {"metric": "final_val_loss_high_ic"},
        not_worse(0.05),
        LOWER | {"metric": "final_lambda_max"},
    ]
    found = judged(frames, *tables)
    want = stats.holm([1.0 if claim["p"] is None else claim["p"] for claim in found])
    assert [claim["p_holm"] for claim in found[:3]] == want[:3]
    assert found[3]["p_holm"] is None
    assert min(claim["p_holm"] / claim["p"] for claim in found[:3]) >= 2


def test_a_claim_of_several_parts_holds_where_each_does():
    frames = results(seeds=range(8))
    joint = {"arm": "looped", "against": "single", "expect": "lower"}
    good = {"all": [{"metric": "final_val_loss_low_ic"}, {"metric": "final_val_loss_high_ic"}]}
    bad = {"all": [{"metric": "final_val_loss_low_ic"}, {"metric": "final_val_accuracy_low_ic"}]}
    both, mixed, single = judged(frames, joint | good, joint | bad, LOWER)
    assert (both["verdict"], both["n"], both["effect"]) == ("supported", 8, None)
    assert both["p"] == max(part["p"] for part in both["parts"])
    assert [part["verdict"] for part in both["parts"]] == ["supported", "supported"]
    assert (mixed["verdict"], mixed["p"]) == ("contradicted", 1.0)
    assert mixed["p_opposite"] == 2 * mixed["parts"][1]["p_opposite"]
    assert mixed["sentence"].startswith("Contradicted: (1) Supported: looped has lower")
    assert single["verdict"] == "supported"


def test_parts_that_are_decided_by_themselves_alone_are_explained():
    """One seed short of Holm's correction: each part stands by itself, the whole does not."""
    joint = {"arm": "looped", "against": "single", "expect": "higher"}
    table = joint | {"all": [{"metric": "final_val_loss_low_ic"}, {"metric": "final_val_loss_high_ic"}]}
    frames = results(seeds=range(3), noise=0.12)
    whole, *_ = judged(frames, table, *[LOWER | {"metric": "val_loss", "at": at} for at in range(100, 3000, 200)])
    assert whole["verdict"] == "undecided"
    assert "contradicted" in [part["verdict"] for part in whole["parts"]]
    assert whole["notes"][-1].startswith("Its parts are judged each by itself")


def test_a_part_that_cannot_be_decided_leaves_the_claim_undecided():
    joint = LOWER | {"all": [{"metric": "final_val_loss_low_ic"}, {"metric": "lambda_max"}]}
    (claim,) = judged(results(curvature=False), joint)
    assert (claim["verdict"], claim["p"], claim["n"]) == ("undecided", None, 0)
    assert "lambda_max was not measured" in claim["reason"]
    assert not any(note.startswith("Its parts") for note in claim["notes"])


def test_under_no_difference_false_verdicts_stay_below_five_percent():
    same = [Arm(name="a"), Arm(name="b")]
    table = {"metric": "final_val_loss", "arm": "a", "against": "b", "expect": "lower"}
    frames = results(same, seeds=range(400), curvature=False)
    wrong = 0
    for block in range(80):
        part = frames.without(frames.trials_["seed"] // 5 == block)
        wrong += judged(part, table, arms=same)[0]["verdict"] != "undecided"
    assert wrong / 80 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 80)


@pytest.mark.parametrize(("expect", "verdict"), [("lower", "supported"), ("higher", "contradicted")])
def test_a_cost_that_the_configurations_decide_has_no_chance_in_it(expect, verdict):
    frames = results()
    claim = {"metric": "flops_alone", "arm": "single", "against": "looped", "expect": expect}
    (found,) = judged(frames, claim)
    single, looped = (by_seed(frames, arm, "flops_alone") for arm in ("single", "looped"))
    assert found["effect"] == pytest.approx(math.log(single[0] / looped[0]))
    assert (found["verdict"], found["exact"], found["d_z"]) == (verdict, True, None)
    assert "exactly: it follows from the configurations" in found["sentence"]


def test_a_cost_that_differs_by_seed_is_tested_like_any_other():
    frames = results()
    one = frames.trials_.query("arm == 'single' and seed == 1")["trial_id"].item()
    frames.metrics_.loc[frames.metrics_["trial_id"] == one, "flops_alone"] *= 3
    claim = {"metric": "flops_alone", "arm": "single", "against": "looped", "expect": "lower"}
    assert judged(frames, claim)[0]["exact"] is False
