"""Engines: compiled training is eager training but for the last bits, and what it cannot do it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.engines import cpp_compiler, losses_by
from core.lineage import links
from core.pack import initial_state
from core.segments import LaneResult, Segment
from core.train import train_segments
from tests.core.reference import case

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
needs_compiler = pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler for torch.compile")


def trained(name: str, engine: str) -> list[LaneResult]:
    config = case(name)
    lanes = [replace(config, seed=seed) for seed in (3, 4)]
    segments = [Segment(config=c, chain=links(c)[:1], start=0, end=12, evaluate=(12,)) for c in lanes]
    return train_segments(segments, [initial_state(c) for c in lanes], engine=engine)


@needs_compiler
def test_a_compiled_pack_is_the_eager_one_but_for_the_last_bits():
    for eager, compiled in zip(trained("toy", "eager"), trained("toy", "compiled"), strict=True):
        for name, weights in eager.state.parameters.items():
            torch.testing.assert_close(compiled.state.parameters[name], weights, rtol=0, atol=1e-5)
        for column in ("train_loss", "grad_norm", "val_loss"):
            assert compiled.metrics[-1][column] == pytest.approx(eager.metrics[-1][column], abs=1e-5)


def test_loops_drawn_by_update_are_refused_by_the_compiled_engine():
    with pytest.raises(ValueError, match=r"one number of loops for all updates, got \[1, 2\]"):
        losses_by("compiled", torch.device("cpu"))(torch.zeros(2, 8), loops=[1, 2])
