"""Colours of arms: apart for all eyes, of enough contrast in light and in dark, the same wherever a study stands."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reports import colours
from studies.spec import catalogue, load_study

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB: people without L cones, and without M cones.
VISION = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# Ottosson 2020, linear RGB to Oklab.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
SCHEMES = {
    "light": (colours.PALETTE, colours.PAPER, colours.INK, colours.FAINT),
    "dark": (colours.DARK_PALETTE, colours.DARK_PAPER, colours.DARK_INK, colours.DARK_FAINT),
}


def linear(colour):
    """A colour as linear RGB."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The contrast ratio of WCAG 2."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def distance(one, other, vision):
    """Euclidean in Oklab, of what is seen."""
    seen = [TO_LAB @ np.cbrt(TO_LMS @ np.clip(VISION[vision] @ linear(c), 0, 1)) for c in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_arms_are_told_apart_by_all_eyes(scheme, vision):
    palette = SCHEMES[scheme][0]
    assert len(palette) == 8
    assert min(distance(*pair, vision) for pair in itertools.combinations(palette, 2)) > 0.08
    assert min(distance(*pair, vision) for pair in itertools.combinations(palette[:4], 2)) > 0.12


def test_the_measure_knows_colours_that_are_hard_to_tell():
    assert distance("#029e73", "#ca9161", "protanopia") < 0.04 < distance("#029e73", "#ca9161", "all cones")
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_that_is_written_has_contrast(scheme):
    palette, paper, ink, faint = SCHEMES[scheme]
    assert min(contrast(colour, paper) for colour in (*palette, ink, faint)) >= 4.5
    for end in colours.RAMPS[scheme]:
        assert contrast(end, paper) > 1.5


def test_an_arm_has_its_colour_from_its_name_and_its_study_alone():
    assert colours.of_arms(["looped", "single"]) == {"looped": colours.PALETTE[1], "single": colours.PALETTE[0]}
    names = [f"arm-{i}" for i in range(8)]
    assert len(set(colours.of_arms(names).values())) == 8
    assert len(set(colours.of_arms([*names, "single"]).values())) == 8


def test_known_arms_have_one_colour_in_the_whole_catalogue():
    found = {}
    for path in catalogue():
        for arm, colour in colours.of_arms([arm.name for arm in load_study(path.stem).arms]).items():
            found.setdefault(arm, set()).add(colour)
    assert {name: len(found[name]) for name in colours.KNOWN if name in found} == dict.fromkeys(
        (name for name in colours.KNOWN if name in found), 1
    )
