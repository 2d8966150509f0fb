"""Measures states that were trained before: what a trial did not ask when it passed there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from core.curvature import Measured, measure
from core.findings import Rows
from core.task_data import task_data
from core.train import train_segments


def measure_states(lanes: Sequence[Measured], *, device: str = "cpu") -> list[Rows]:
    """The curvature at some states: the rows that training would have given when it passed there, bit for bit.

    Args:
        lanes: of one `core.lineage.pack_shape`, one step and one `measure`.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: as `core.curvature.measure`.
    """
    sets = [task_data(lane.config).validation() for lane in lanes]
    inputs, targets = (
        torch.from_numpy(np.stack(arrays)).to(device)
        for arrays in ([held.inputs for held in sets], [held.targets for held in sets])
    )
    return measure(lanes, inputs, targets, train=partial(train_segments, device=device))
