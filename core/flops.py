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

Blocks run (prelude + depth · loops + coda) times; with the loss on all loops, coda and head run once per loop.

No torch here: planning imports this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.config import ModelConfig, TrialConfig
from core.draws import drawn_total
from core.lineage import Link, links
from core.schedule import Stage


def parameters(config: TrialConfig) -> int:
    """Number of trained parameters; every block is counted once however often it is applied."""
    model, vocabulary = config.model, config.task.vocabulary
    norm = _norm_parameters(model)
    block = 4 * model.width**2 + norm
    if model.hidden:
        block += 2 * model.width * model.hidden + norm
    embedding = vocabulary * model.width
    positions = config.task.context * model.width if model.position == "learned" else 0
    head = embedding if model.output == "untied" else 0
    return embedding + positions + (model.prelude + model.depth + model.coda) * block + norm + head


def looped_parameters(config: TrialConfig) -> int:
    """Number of trained parameters of the blocks inside the loop, each counted once."""
    one = replace(config.model, depth=config.model.depth + 1)
    return config.model.depth * (parameters(replace(config, model=one)) - parameters(config))


def _norm_parameters(model: ModelConfig) -> int:
    return {"none": 0, "rms": 1, "layer": 2}[model.norm] * model.width


def step_flops(config: TrialConfig, *, loops: int, loss_on: str = "last") -> int:
    """Training FLOPs of one update: forward and backward pass over the whole batch.

    Args:
        config: the trial; its own `model.loops` and `model.loss_on` are not read, since they belong to a stage.
        loops: times the looped blocks are applied.
        loss_on: "last" or "all" loops' outputs.
    """
    model, task = config.model, config.task
    width, length = model.width, task.context
    block = 2 * (4 * width**2 + 2 * length * width + 2 * width * model.hidden)
    outputs = loops if loss_on == "all" else 1
    applied = model.prelude + model.depth * loops + model.coda * outputs
    token = applied * block + outputs * 2 * width * task.vocabulary
    return 3 * token * length * config.train.batch


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
    return sum(
        step_flops(config, loops=stage.acting.loops, loss_on=stage.acting.loss_on) * (stage.end - stage.start)
        for stage in stages
    )


def link_flops(config: TrialConfig, link: Link, start: int, end: int) -> int:
    """Training FLOPs of the updates start + 1 … end, which lie in a link; drawn loops are counted as drawn."""
    if link.draw is None:
        return step_flops(config, loops=link.loops, loss_on=link.loss_on) * (end - start)
    one = step_flops(config, loops=1, loss_on=link.loss_on)
    each = step_flops(config, loops=2, loss_on=link.loss_on) - one  # a step's cost is linear in its loops
    drawn = drawn_total(config.seed, mean=link.loops, sigma=link.draw, start=start, end=end)
    return one * (end - start) + each * (drawn - (end - start))
