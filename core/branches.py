"""Short branches of the training from a measured state: what would come next, and what a decay would bring.

A measurement is a function of the state that it is taken at, (lineage, step), and of nothing that comes later. So what
asks for "the next updates" trains them itself, from the state in memory, in the engine and with its bits; the trial
does not notice, and its own further updates, where it makes them, are the same.

*Onward*: in the state's own link, as if its stage went on, whatever ends it in this trial. A constant rate stays, also
where a WSD schedule would begin to decay; a decay that has begun and a cosine go on, and stay at their last value
beyond their end. Where that is zero nothing moves, and a state that stands still says nothing of motion: such a branch
is refused.

*Decayed* (Wen et al. 2024, arXiv 2410.05192): the learning rate goes linearly to zero. From a constant rate that is,
bit for bit, the WSD trial whose decay begins at this step: a fork of the stage tree. It is trained inside the
measurement, which keeps all that a number depends on in one place; a decay or a cosine goes to zero from where it is.
Warm-ups go on beside it. Where it is zero already there is nothing to decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from core.config import TrialConfig
from core.findings import Finding, Value
from core.lineage import Link, canonical_json, digest16
from core.optim import learning_rate, schedule_share
from core.probes import Probe
from core.segments import LaneResult, Segment

Branch = LaneResult | str
"""What a branch gave at its end, or why it did not get there."""


def onward(probe: Probe, updates: int, *, each: bool = False) -> list[Branch]:
    """Every lane, so many updates further in its own link.

    Args:
        probe: where it starts.
        updates: n ≥ 1.
        each: give the state after each update too (`LaneResult.states`), not the last one alone.

    Returns:
        By lane. One whose learning rate is zero in any of these updates has none.
    """
    start, end = probe.step, probe.step + updates
    asked: list[Segment | str] = []
    for config, chain in zip(probe.configs, probe.chains, strict=True):
        still = next((n for n in range(1, updates + 1) if learning_rate(config, chain[-1], start + n) == 0.0), None)
        if still is not None:
            asked.append(f"the learning rate is zero at update {still} of the branch")
            continue
        segment = Segment(
            config=config,
            chain=(*chain[:-1], replace(chain[-1], end=max(chain[-1].end, end))),
            start=start,
            end=end,
            evaluate=(),
            states=tuple(range(start + 1, end + 1)) if each else (),
            branch=True,
        )
        asked.append(segment)
    return _trained(probe, asked)


def decayed(probe: Probe, updates: int) -> list[Branch]:
    """Every lane after so many updates in which its learning rate goes linearly to zero.

    Returns:
        By lane, with the rows of metrics at both ends. One whose learning rate is zero already has none.
    """
    asked: list[Segment | str] = []
    for config, chain in zip(probe.configs, probe.chains, strict=True):
        if learning_rate(config, chain[-1], probe.step) == 0.0:
            asked.append("the learning rate is zero: there is nothing to decay")
            continue
        trial, links = decaying(config, chain, probe.step, updates)
        end = probe.step + updates
        asked.append(
            Segment(config=trial, chain=links, start=probe.step, end=end, evaluate=(probe.step, end), branch=True)
        )
    return _trained(probe, asked)


def decaying(
    config: TrialConfig, chain: Sequence[Link], step: int, updates: int
) -> tuple[TrialConfig, tuple[Link, ...]]:
    """The trial and the chain of a decay that begins at `step`.

    Args:
        config: the trial.
        chain: its links up to the one that the state lies in.
        step: of the state.
        updates: of the decay; the last one is made with a rate of zero.
    """
    last = chain[-1]
    share = schedule_share(config, last, max(1, step))
    decay = (step, updates, 0.0)
    link = replace(
        last,
        lineage=digest16(canonical_json([last.lineage, step, {"decay": list(decay), "from": share}])),
        start=step,
        end=step + updates,
        decay=decay,
        lr_factor=last.lr_factor * share,
    )
    # A cosine is over: what it left is the factor of the link.
    constant = replace(config, train=replace(config.train, lr_schedule="constant"))
    past = () if step == last.start else (replace(last, end=step),)
    return constant, (*chain[:-1], *past, link)


def hill(probe: Probe) -> list[Finding]:
    """The fall of the validation loss in a decay over `measure.decay` updates, on the whole validation set."""
    updates = probe.measure.decay
    method = f"decay to zero over {updates} updates"
    return [
        Finding(values={"hill": Value(number=fall, method=method, failure=failure)})
        for fall, failure in map(_fall, decayed(probe, updates))
    ]


def _fall(branch: Branch) -> tuple[float | None, str | None]:
    """The fall of the validation loss from the first row to the last, or why there is none."""
    if isinstance(branch, str):
        return None, branch
    before, after = (row["val_loss"] for row in branch.metrics)
    if before is None or after is None:
        return None, f"the validation loss {'before' if before is None else 'after'} the decay is not finite"
    return before - after, None


def _trained(probe: Probe, asked: Sequence[Segment | str]) -> list[Branch]:
    """By lane, its branch; where there is a reason instead of a segment, that."""
    segments = {lane: segment for lane, segment in enumerate(asked) if isinstance(segment, Segment)}
    results: list[LaneResult] = []
    if segments:
        with torch.enable_grad():  # a measurement may be asked for where gradients are off
            results = probe.train(list(segments.values()), [probe.states[lane] for lane in segments])
    found = dict(zip(segments, map(_whole, results), strict=True))
    return [found[lane] if lane in found else str(asked[lane]) for lane in range(len(asked))]


def _whole(result: LaneResult) -> Branch:
    if result.status == "ok":
        return result
    return f"its branch diverged at update {result.reached + 1}: {result.events[-1]['detail']}"
