"""Keys that several rooms agree on: what a row observed, and what shapes a training step, as canonical JSON."""

from __future__ import annotations

import json
from functools import lru_cache

from core.config import MeasureConfig, TrialConfig
from core.lineage import Link, canonical_json, digest16, pack_shape
from core.observation import Asked
from core.quantities import settings


def probe_observed(measure: MeasureConfig) -> str:
    """The column `observed` of curvature, spectra, surfaces, curves: by quantity, the settings that act on its value.

    Rows of other quantities or with other settings do not collide, and both can be read back from it.
    """
    return canonical_json({name: settings(measure, name) for name in measure.quantities})


@lru_cache(maxsize=65536)
def observed(asked: Asked, observation: MeasureConfig) -> str:
    """What a segment observed, as canonical JSON: the column ``observed`` of the table segments.

    Args:
        asked: the steps of the segment at which something was asked.
        observation: what was measured, and on how large a probe.
    """
    steps = [asked.evaluate, asked.measure, asked.check] if asked.check else [asked.evaluate, asked.measure]
    measured = json.loads(probe_observed(observation)) if asked.measure else {}
    return canonical_json({"grid": digest16(canonical_json(steps)), "measured": measured})


def shape_key(config: TrialConfig, link: Link) -> str:
    """`pack_shape` as text: the key ``shape`` of the table calibrations."""
    return _shape_text(pack_shape(config, link))


@lru_cache(maxsize=4096)
def _shape_text(shape: tuple[object, ...]) -> str:
    return canonical_json(list(shape))
