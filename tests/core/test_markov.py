"""The Markov task: batches are pure, epochs complete, strata and floors are what they say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import TrialConfig, trial_config
from core.markov import MarkovData, Sequences, bayes_predictions, information_content, transition_matrices
from core.streams import stream
from core.task_data import task_data
from core.task_terms import MarkovTask

TASK = MarkovTask(states=5, chains=4, length=7, train_size=50, val_size=64)


def config(**task: object) -> TrialConfig:
    return trial_config(
        {"task": {"states": 5, "chains": 4, "length": 7, "val_size": 64, **task}, "train": {"batch": 6}}
    )


# --- batches -------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(start=st.integers(0, 10**6), count=st.integers(1, 9), cut=st.integers(0, 9), size=st.sampled_from([0, 1, 7, 50]))
def test_a_batch_does_not_depend_on_the_block_it_is_asked_in(start: int, count: int, cut: int, size: int) -> None:
    data = task_data(config(train_size=size))
    inputs, targets = data.batches(start, count)
    assert inputs.shape == targets.shape == (count, 6, 7)
    assert inputs.dtype == targets.dtype == np.int64
    fresh = task_data(config(train_size=size))  # asked in another order, by another object
    for step in reversed(range(count)):
        one_inputs, one_targets = fresh.batches(start + step, 1)
        np.testing.assert_array_equal(one_inputs[0], inputs[step])
        np.testing.assert_array_equal(one_targets[0], targets[step])
    if 0 < cut < count:
        parts = [data.batches(start, cut), data.batches(start + cut, count - cut)]
        np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), inputs)


def test_a_large_block_gives_the_bits_of_single_steps() -> None:
    data = task_data(trial_config({"task": {"train_size": 0, "length": 6}, "train": {"batch": 64}}))
    block, _ = data.batches(3, 40)  # more sequences than are drawn at a time
    singles = np.concatenate([data.batches(3 + step, 1)[0] for step in range(40)])
    np.testing.assert_array_equal(block, singles)


def test_inputs_and_targets_are_one_sequence_shifted() -> None:
    inputs, targets = task_data(config(train_size=0)).batches(0, 3)
    np.testing.assert_array_equal(inputs[..., 1:], targets[..., :-1])


@pytest.mark.parametrize("size", [1, 5, 6, 50])
def test_every_epoch_walks_every_training_sequence_once(size: int) -> None:
    epochs, batch = 6, 6
    data = task_data(config(train_size=size))
    inputs, targets = data.batches(0, epochs * size // batch)
    walked = np.concatenate([inputs, targets[..., -1:]], axis=-1).reshape(-1, 8)
    fixed, _ = Sequences(
        replace(TASK, train_size=size), transition_matrices(TASK, data_seed=0), data_seed=0, name="train"
    ).draw(0, size)
    for epoch in range(len(walked) // size):
        part = walked[epoch * size : (epoch + 1) * size]
        assert sorted(map(tuple, part)) == sorted(map(tuple, fixed))


def test_the_fixed_set_is_the_beginning_of_the_online_stream() -> None:
    online, _ = task_data(config(train_size=0)).batches(0, 10)
    fixed, _ = task_data(config(train_size=60)).batches(0, 10)
    assert sorted(map(tuple, online.reshape(60, 7))) == sorted(map(tuple, fixed.reshape(60, 7)))


def test_training_validation_and_seeds_have_streams_of_their_own() -> None:
    transitions = transition_matrices(TASK, data_seed=0)
    drawn = {
        (name, seed): Sequences(TASK, transitions, seed, name).draw(0, 40)[0].tobytes()
        for name in ("train", "validation")
        for seed in (0, 1)
    }
    assert len(set(drawn.values())) == 4


def test_the_data_seed_decides_and_the_trial_seed_only_where_it_is_silent() -> None:
    def batch(seed: int, **task: object) -> bytes:
        return task_data(replace(config(**task), seed=seed)).batches(0, 2)[0].tobytes()

    assert batch(0) != batch(1)
    assert batch(0, data_seed=3) == batch(1, data_seed=3) == batch(3)


def test_sequences_follow_their_chain() -> None:
    transitions = transition_matrices(TASK, data_seed=0)
    tokens, chains = Sequences(TASK, transitions, 0, "train").draw(0, 40_000)
    counts = np.zeros_like(transitions)
    np.add.at(counts, (chains[:, None], tokens[:, :-1], tokens[:, 1:]), 1)
    visits = counts.sum(axis=2, keepdims=True)
    # Each count is binomial around visits · P: five standard deviations and a little for the rare ones.
    spread = 5 * np.sqrt(visits * transitions * (1 - transitions)) + 5
    assert (np.abs(counts - visits * transitions) <= spread).all()
    for uniform in (np.bincount(chains, minlength=4) / 40_000 - 1 / 4, np.bincount(tokens[:, 0]) / 40_000 - 1 / 5):
        assert np.abs(uniform).max() < 5 * np.sqrt(0.25 / 40_000)


def test_rows_are_distributions_and_low_chains_come_first() -> None:
    transitions = transition_matrices(MarkovTask(states=12, chains=6, low_share=0.5), data_seed=2)
    np.testing.assert_allclose(transitions.sum(axis=2), 1.0, atol=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(transitions * np.log2(transitions), axis=2).mean(axis=1)
    assert entropy[:3].max() < 1.2
    assert entropy[3:].min() > 2.0


# --- validation set and floors -------------------------------------------------------------------------------------


def test_strata_by_chain_and_by_quantile() -> None:
    transitions = transition_matrices(TASK, data_seed=0)
    tokens, chains = Sequences(TASK, transitions, 0, "validation").draw(0, 64)
    by_chain = task_data(config()).validation()
    np.testing.assert_array_equal(by_chain.strata["high_ic"], chains >= 2)
    np.testing.assert_array_equal(by_chain.strata["low_ic"], chains < 2)
    by_rank = task_data(config(strata="quantile")).validation()
    np.testing.assert_array_equal(by_rank.inputs, by_chain.inputs)
    rate = information_content(transitions, tokens.astype(np.int64), chains)
    assert by_rank.strata["low_ic"].sum() == by_rank.strata["high_ic"].sum() == 32
    assert rate[by_rank.strata["low_ic"]].max() <= rate[by_rank.strata["high_ic"]].min()


def test_floors_are_the_means_over_the_strata() -> None:
    validation = task_data(config()).validation()
    floors = validation.floors
    assert set(floors) == {f"bayes_{m}{s}" for m in ("loss", "accuracy") for s in ("", "_low_ic", "_high_ic")}
    low = validation.strata["low_ic"].mean()
    for metric in ("loss", "accuracy"):
        mixed = low * floors[f"bayes_{metric}_low_ic"] + (1 - low) * floors[f"bayes_{metric}_high_ic"]
        assert floors[f"bayes_{metric}"] == pytest.approx(mixed, rel=1e-12)
    assert floors["bayes_loss_low_ic"] < floors["bayes_loss_high_ic"]


def test_a_stratum_without_sequences_has_no_floor() -> None:
    seeds = range(40)
    floors = [task_data(replace(config(val_size=2), seed=seed)).validation().floors for seed in seeds]
    assert any("bayes_loss_low_ic" not in f for f in floors)
    assert all(np.isfinite(list(f.values())).all() for f in floors)


def test_floor_is_the_brute_force_posterior_predictive() -> None:
    task = MarkovTask(states=3, chains=3, low_share=0.34, length=4, alpha_low=0.3)
    transitions = transition_matrices(task, data_seed=1)
    tokens = np.array(list(itertools.product(range(3), repeat=5)))  # every sequence there is
    nats, hits = bayes_predictions(transitions, tokens)

    def joint(sequence: tuple[int, ...]) -> float:
        """P(x_2 … x_n | x_1), the chain summed out."""
        steps = list(itertools.pairwise(sequence))
        return float(sum(np.prod([transitions[c][a, b] for a, b in steps]) for c in range(3)) / 3)

    for row, sequence in enumerate(map(tuple, tokens)):
        for t in range(4):
            past = sequence[: t + 1]
            if joint(past) < 1e-300:
                continue
            predictive = [joint((*past, token)) / joint(past) for token in range(3)]
            if predictive[sequence[t + 1]] > 0:
                assert nats[row, t] == pytest.approx(-np.log(predictive[sequence[t + 1]]), rel=1e-9)
            assert hits[row, t] == (np.argmax(predictive) == sequence[t + 1])


def test_no_other_predictor_beats_the_floor_in_expectation() -> None:
    """Over all sequences, weighted by their probability, any predictor of the past loses against it (Gibbs)."""
    task = MarkovTask(states=3, chains=2, length=3)
    transitions = transition_matrices(task, data_seed=0)
    tokens = np.array(list(itertools.product(range(3), repeat=4)))
    likelihoods = [[np.prod([c[a, b] for a, b in itertools.pairwise(x)]) for c in transitions] for x in tokens]
    probability = np.mean(likelihoods, axis=1) / 3  # chains and first tokens are uniform
    assert probability.sum() == pytest.approx(1.0)
    possible = probability > 0
    nats, hits = bayes_predictions(transitions, tokens)
    floor = float(probability[possible] @ nats[possible].mean(axis=1))
    most = float(probability @ hits.mean(axis=1))
    rng = np.random.default_rng(0)
    for _ in range(200):
        table = rng.dirichlet(np.full(3, rng.choice([0.3, 1.0, 10.0])), size=(4, 3, 3, 3))  # any function of the past
        rival = np.empty((len(tokens), 3))
        rival_hits = np.empty_like(rival)
        for row, x in enumerate(tokens):
            for t in range(3):
                past = (*x[: t + 1], 0, 0)[:3]
                rival[row, t] = -np.log(table[(t, *past)][x[t + 1]])
                rival_hits[row, t] = table[(t, *past)].argmax() == x[t + 1]
        assert probability @ rival.mean(axis=1) > floor
        assert probability @ rival_hits.mean(axis=1) <= most + 1e-12


def test_the_floor_of_one_chain_is_its_entropy_rate() -> None:
    """With nothing to infer the predictor is the chain itself, so the loss tends to the chain's entropy rate."""
    task = MarkovTask(states=4, chains=1, low_share=0.0, length=64, strata="quantile", val_size=4000)
    validation = task_data(TrialConfig(task=task)).validation()
    [chain] = transition_matrices(task, data_seed=0)
    stationary = np.linalg.matrix_power(chain, 200)[0]
    rate = -float(stationary @ (chain * np.log(chain)).sum(axis=1))
    # 256,000 dependent draws of a bounded quantity; the uniform first token shifts the mean by about 1/64 at most.
    assert validation.floors["bayes_loss"] == pytest.approx(rate, abs=0.01)


def test_knowing_the_chain_helps_and_the_posterior_finds_it() -> None:
    task = MarkovTask(states=16, chains=8, length=32, val_size=400)
    transitions = transition_matrices(task, data_seed=0)
    drawn, chains = Sequences(task, transitions, 0, "validation").draw(0, 400)
    tokens = drawn.astype(np.int64)
    nats, _ = bayes_predictions(transitions, tokens)
    known = information_content(transitions, tokens, chains).mean() * np.log(2)
    assert known < nats.mean() < known + np.log(8) / 32 + 1e-9  # naming the chain costs at most ln C nats in all


@pytest.mark.parametrize("alpha", [1e-6, 1e-3])
def test_extreme_concentrations_give_finite_floors(alpha: float) -> None:
    """Rows that underflow to exact zeros and ones are still distributions, and no drawn token was impossible."""
    task = MarkovTask(states=16, chains=4, alpha_low=alpha, train_size=0, val_size=100)
    data = MarkovData(task, data_seed=0, batch=8)
    assert np.isfinite(list(data.validation().floors.values())).all()
    assert np.isfinite(transition_matrices(task, data_seed=0)).all()
    assert data.batches(0, 4)[0].max() < 16


def test_the_validation_set_is_pinned() -> None:
    """A golden value: whoever changes it changes every recorded number, and raises NUMERICS_VERSION."""
    validation = task_data(TrialConfig()).validation()
    assert validation.inputs[0, :8].tolist() == [0, 1, 8, 10, 5, 5, 10, 4]
    assert validation.floors["bayes_loss"] == pytest.approx(1.6689847380018603, rel=1e-12)


def test_streams_feed_the_task_by_position_only() -> None:
    """Sequence i lies at a fixed place of its stream, whatever was drawn before."""
    transitions = transition_matrices(TASK, data_seed=0)
    sequences = Sequences(TASK, transitions, 0, "train")
    tokens, chains = sequences.draw(10, 1)
    blocks = 3  # 1 number for the chain + 8 tokens, in blocks of 4
    uniform = stream(0, "markov", "train", position=10 * blocks).random(4 * blocks)
    assert chains[0] == int(uniform[0] * 4)
    assert tokens[0, 0] == int(uniform[1] * 5)
