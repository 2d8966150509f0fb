"""What a trial costs by itself: parameters and training FLOPs, from the configuration alone.

One multiply-add is two FLOPs, and only matrix products are counted, as in Kaplan et al. 2020 (arXiv 2001.08361,
appendix B and table 1), Chowdhery et al. 2022 (arXiv 2204.02311, appendix B) and torch's own `FlopCounterMode`; the
embedding is a look-up and costs nothing, norms, softmax and the optimiser are left out. The backward pass of a product
takes two products of the same size, so an update costs three times its forward pass. Causal attention is counted in
full, as torch counts it: a mask saves no multiplication here. These are the architecture's FLOPs, whichever way they
are computed ("model FLOPs" of Chowdhery et al.): what `core.model` saves by multiplying the matrices of one head
beforehand, or spends on embedding by one-hot products, is its own affair and changes no comparison of costs.

Forward pass of one token, width d, hidden width h of the MLP, T positions, V tokens:

    block   2·4·d²  (queries, keys, values, output)  +  2·2·T·d  (scores, mixture)  +  2·2·d·h  (MLP)
    head    2·d·V

Blocks run (prelude + depth · loops + coda) times; with the loss on all loops, coda and head run once per loop. Loops
through which no gradient flows (`model.backprop_loops`) cost their forward pass alone; of loops by length each sequence
has its own. Padding is computed, and counted.

No torch here: planning imports this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from core.config import ModelConfig, TrialConfig
from core.draws import drawn_total
from core.lengths import looped_total
from core.lineage import Link, links
from core.schedule import Acting, Stage
from core.task_terms import AlgorithmicTask


def parameters(config: TrialConfig) -> int:
    """Number of trained parameters; every block is counted once however often it is applied."""
    model, vocabulary = config.model, config.task.vocabulary
    norm = _norm_parameters(model)
    block = 4 * model.width**2 + norm
    if model.hidden:
        block += 2 * model.width * model.hidden + norm
    embedding = vocabulary * model.width
    positions = config.task.longest * model.width if model.position == "learned" else 0
    timestep = model.width if model.timestep != "none" else 0
    head = embedding if model.output == "untied" else 0
    return embedding + positions + timestep + (model.prelude + model.depth + model.coda) * block + norm + head


def looped_parameters(config: TrialConfig) -> int:
    """Number of trained parameters of the blocks inside the loop, each counted once."""
    one = replace(config.model, depth=config.model.depth + 1)
    return config.model.depth * (parameters(replace(config, model=one)) - parameters(config))


def _norm_parameters(model: ModelConfig) -> int:
    return {"none": 0, "rms": 1, "layer": 2}[model.norm] * model.width


def step_flops(config: TrialConfig, *, loops: int, loss_on: str = "last", backprop: int = 0) -> int:
    """Training FLOPs of one update: forward and backward pass over the whole batch.

    Args:
        config: the trial; its own `model.loops` and `model.loss_on` are not read, since they belong to a stage.
        loops: times the looped blocks are applied.
        loss_on: "last" or "all" loops' outputs.
        backprop: loops through which gradients flow, the last ones; 0 = all.
    """
    outputs = loops if loss_on == "all" else 1
    differentiated = min(loops, backprop) if backprop else loops
    each = config.train.batch * _loop_flops(config)
    return _around_flops(config, outputs) + each * (loops + 2 * differentiated)


def _around_flops(config: TrialConfig, outputs: int) -> int:
    """Training FLOPs of one update but for the looped blocks."""
    model, task = config.model, config.task
    token = (model.prelude + model.coda * outputs) * _block_flops(config)
    token += outputs * 2 * model.width * task.vocabulary
    return 3 * token * task.context * config.train.batch


def _loop_flops(config: TrialConfig) -> int:
    """FLOPs of one sequence's forward pass through the looped blocks, once."""
    return config.model.depth * _block_flops(config) * config.task.context


def _block_flops(config: TrialConfig) -> int:
    """FLOPs of one token's forward pass through one block."""
    width = config.model.width
    return 2 * (4 * width**2 + 2 * config.task.context * width + 2 * width * config.model.hidden)


def flops_alone(config: TrialConfig, step: int | None = None, *, chain: Sequence[Link] | None = None) -> int:
    """Training FLOPs of a trial's first `step` updates (None = all), as if it had been run by itself.

    Args:
        config: the trial.
        step: updates that are counted.
        chain: its links, where criteria have decided them; None: those of its configuration alone.
    """
    last = config.train.steps if step is None else step
    chain = links(config) if chain is None else chain
    return sum(link_flops(config, link, link.start, min(link.end, last)) for link in chain if link.start < last)


def expected_flops(config: TrialConfig, stages: Sequence[Stage]) -> int:
    """Training FLOPs of a trial alone, whatever its seed: drawn loops count as their mean (see `core.draws`).

    Args:
        config: the trial; of `train` only the batch is read.
        stages: all of it, in order.
    """
    return sum(link_flops(config, replace(stage.acting, draw=None), stage.start, stage.end) for stage in stages)


def link_flops(config: TrialConfig, link: Link | Acting, start: int, end: int) -> int:
    """Training FLOPs of the updates start + 1 … end, which lie in a link; loops are counted as drawn, or by length."""
    if link.draw is None and link.offset is None:
        return step_flops(config, loops=link.loops, loss_on=link.loss_on, backprop=link.backprop) * (end - start)
    if link.draw is not None:
        one = partial(drawn_total, config.seed, mean=link.loops, sigma=link.draw, start=start, end=end)
        total, differentiated = (config.train.batch * one(most=most) for most in (0, link.backprop))
    else:
        if not isinstance(config.task, AlgorithmicTask):
            raise ValueError(f"loops by length need a task whose problems have lengths, got {config.task.kind}")
        looped = partial(looped_total, config.task, config.train.batch, offset=link.offset or 0, start=start, end=end)
        total, differentiated = looped(most=link.loops), looped(most=link.loops, last=link.backprop)
    around = _around_flops(config, 1) * (end - start)
    if link.loss_on == "all":  # one more output for each loop after the first
        further = total // config.train.batch - (end - start)
        around += (_around_flops(config, 2) - _around_flops(config, 1)) * further
    return around + _loop_flops(config) * (total + 2 * differentiated)
