"""The Markov task: sequences from a mixture of order-1 Markov chains, and what the best predictor makes of them.

One sequence: a chain, uniform over the mixture; a first token, uniform over the alphabet (so it says nothing about the
chain, and no stationary distribution need exist); then `length` transitions of that chain. The rows of the chains'
transition matrices are Dirichlet: the first `low_chains` chains with `alpha_low` (near-deterministic), the rest with
`alpha_high`.

Training sequence i is a pure function of (task, data seed, i): a fixed number of counter blocks of the stream
``markov/train`` belongs to it. Update n trains on the entries n·B … n·B + B − 1 of the walk: online, entry i is
sequence i; a fixed set of `train_size` sequences (the first ones of the same stream) is walked in epochs
(`core.epochs`). The validation set has a stream of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from core.alias import alias_tables
from core.epochs import Epochs
from core.streams import stream
from core.task_terms import MarkovTask
from core.tasks import Floats, Tokens, Validation

_CHUNK = 1024
"""Sequences drawn at a time: their running state stays in the cache of a core."""


# --- chains and sequences ------------------------------------------------------------------------------------------


def transition_matrices(task: MarkovTask, data_seed: int) -> Floats:
    """P(next | current) of every chain `[C, S, S]`; low-entropy chains come first."""
    rng = stream(data_seed, "markov", "chains")
    shape = (task.chains, task.states)
    low = np.full(task.states, task.alpha_low)
    high = np.full(task.states, task.alpha_high)
    drawn = [rng.dirichlet(low, size=(task.low_chains, task.states))]
    drawn.append(rng.dirichlet(high, size=(task.chains - task.low_chains, task.states)))
    return np.concatenate(drawn).reshape(*shape, task.states)


class Sequences:
    """An endless list of sequences: number i is a pure function of the task, the data seed, the stream's name and i."""

    def __init__(self, task: MarkovTask, transitions: Floats, data_seed: int, name: str) -> None:
        """Prepares the look-up tables of the sampler."""
        self._seed, self._name = data_seed, name
        self._states, self._chains, self._length = task.states, task.chains, task.length
        self._blocks = -(-(task.length + 2) // 4)  # one number for the chain, one per token; a block holds 4
        tables = alias_tables(transitions.reshape(-1, task.states))
        # A walker stands at row (chain, token) and holds row·S. Both outcomes of a cell are stored as the next such
        # value, the one below the cut first, so a transition is an addition, a comparison and two look-ups.
        first_row = np.repeat(np.arange(task.chains) * task.states, task.states * task.states)
        token = np.tile(np.arange(task.states), task.chains * task.states)
        self._cut = tables.cut
        self._next = (np.stack([first_row + token, first_row + tables.alias], axis=1) * task.states).ravel()

    def draw(self, start: int, count: int) -> tuple[npt.NDArray[np.uint16], Tokens]:
        """Sequences `start` … `start + count − 1`: their tokens `[count, length + 1]` and their chains `[count]`."""
        tokens = np.empty((count, self._length + 1), dtype=np.uint16)
        chains = np.empty(count, dtype=np.int64)
        rng = stream(self._seed, "markov", self._name, position=start * self._blocks)
        for low in range(0, count, _CHUNK):
            part = slice(low, min(low + _CHUNK, count))
            self._walk(rng, tokens[part], chains[part])
        return tokens, chains

    def _walk(self, rng: np.random.Generator, tokens: npt.NDArray[np.uint16], chains: Tokens) -> None:
        count = len(chains)
        uniform = np.ascontiguousarray(rng.random((count, 4 * self._blocks)).T)
        chains[:] = uniform[0] * self._chains
        uniform[1:] *= self._states
        cell = uniform.astype(np.int64)
        row = (chains * self._states + cell[1]) * self._states
        walk = np.empty((self._length + 1, count), dtype=np.int64)
        walk[0] = row
        for t in range(1, self._length + 1):
            at = row + cell[t + 1]
            above = uniform[t + 1] >= self._cut.take(at)
            at += at
            at += above
            row = self._next.take(at, out=walk[t])
        walk //= self._states
        walk -= chains * self._states
        tokens[:] = walk.T


# --- the floor -----------------------------------------------------------------------------------------------------


def information_content(transitions: Floats, tokens: Tokens, chains: Tokens) -> Floats:
    """−Σ_t log2 P(x_t | x_{t−1}) / T under each sequence's own chain, in bits per token `[N]`."""
    steps: Floats = transitions[chains[:, None], tokens[:, :-1], tokens[:, 1:]]
    rate: Floats = -np.log2(steps).mean(axis=1)
    return rate


def bayes_predictions(transitions: Floats, tokens: Tokens) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What the Bayes-optimal predictor, which knows all chains but not which one it sees, makes of each token.

    The posterior over chains follows by forward recursion, in log space: w_c(t) ∝ w_c(t−1) · P_c(x_t | x_{t−1}),
    uniform at the first token. The prediction is the mixture Σ_c w_c(t) P_c(· | x_t).

    Args:
        transitions: `[C, S, S]`.
        tokens: `[N, T + 1]`.

    Returns:
        Negative log likelihood of each next token `[N, T]` in nats, and whether it was the most probable one `[N, T]`.
    """
    chains, states, _ = transitions.shape
    count, length = tokens.shape[0], tokens.shape[1] - 1
    nats, hits = np.empty((count, length)), np.empty((count, length), dtype=np.bool_)
    with np.errstate(divide="ignore"):  # a transition that a chain never makes has log probability −∞
        logs = np.log(transitions)
    rows = max(1, 2**22 // (chains * states))  # bounds the mixture's terms to 32 MiB
    for low in range(0, count, rows):
        part = tokens[low : low + rows]
        log_posterior = np.zeros((len(part), chains))
        for t in range(length):
            now, following = part[:, t], part[:, t + 1]
            weight = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
            weight /= weight.sum(axis=1, keepdims=True)
            prediction = np.einsum("nc,cns->ns", weight, transitions[:, now])
            nats[low : low + rows, t] = -np.log(prediction[np.arange(len(part)), following])
            hits[low : low + rows, t] = prediction.argmax(axis=1) == following
            log_posterior += logs[:, now, following].T
    return nats, hits


# --- the task's data -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all trials of one (task, data seed) share, whatever their batch."""

    train: Sequences
    fixed: npt.NDArray[np.uint16] | None
    """The training set `[train_size, length + 1]`; None online."""
    validation: Validation


@lru_cache(maxsize=32)  # a pack rarely has more data seeds; one entry is about train_size · (length + 1) · 2 bytes
def _shared(task: MarkovTask, data_seed: int) -> _Shared:
    transitions = transition_matrices(task, data_seed)
    train = Sequences(task, transitions, data_seed, "train")
    return _Shared(
        train=train,
        fixed=train.draw(0, task.train_size)[0] if task.train_size else None,
        validation=_validation(task, transitions, data_seed),
    )


def _validation(task: MarkovTask, transitions: Floats, data_seed: int) -> Validation:
    drawn, chains = Sequences(task, transitions, data_seed, "validation").draw(0, task.val_size)
    tokens = drawn.astype(np.int64)
    if task.strata == "chain":
        high = chains >= task.low_chains
    else:  # by rank, so that both halves have sequences whatever ties there are
        order = np.argsort(information_content(transitions, tokens, chains), kind="stable")
        high = np.empty(task.val_size, dtype=np.bool_)
        high[order] = np.arange(task.val_size) >= (task.val_size + 1) // 2
    strata = dict(zip(task.stratum_names, (~high, high), strict=True))
    nats, hits = bayes_predictions(transitions, tokens)
    floors = {"bayes_loss": float(nats.mean()), "bayes_accuracy": float(hits.mean())}
    for name, members in strata.items():
        if members.any():
            floors[f"bayes_loss_{name}"] = float(nats[members].mean())
            floors[f"bayes_accuracy_{name}"] = float(hits[members].mean())
    return Validation(
        inputs=tokens[:, :-1].copy(),
        targets=tokens[:, 1:].copy(),
        strata=strata,
        floors=floors,
    )


class MarkovData:
    """The data of one trial on the Markov task; see `core.tasks.TaskData`."""

    def __init__(self, task: MarkovTask, *, data_seed: int, batch: int) -> None:
        """Draws the chains, the validation set and a fixed training set, or finds them in the cache."""
        self._task, self._batch = task, batch
        self._data = _shared(task, data_seed)
        self._walk = Epochs(data_seed, "markov", task.train_size)

    def batches(self, start: int, count: int) -> tuple[Tokens, Tokens]:
        """Inputs and targets `[count, B, T]` of the updates numbered `start`, `start` + 1, … (the first is 0)."""
        first, total = start * self._batch, count * self._batch
        if self._data.fixed is None:
            drawn, _ = self._data.train.draw(first, total)
        else:
            drawn = self._data.fixed[self._walk.entries(first, total)]
        inputs = drawn[:, :-1].astype(np.int64).reshape(count, self._batch, self._task.length)
        targets = drawn[:, 1:].astype(np.int64).reshape(count, self._batch, self._task.length)
        return inputs, targets

    def validation(self) -> Validation:
        """The validation set."""
        return self._data.validation
