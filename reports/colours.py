"""Colours: of text and paper, and one of each arm, in light and dark.

The eight colours of arms were searched for: each has a contrast of at least 4.5 to its paper, so that a name may have
it, and any two differ by at least 0.08 in Oklab, also as people without L or without M cones see them
(`tests/reports/test_colours.py` computes both). The first five are the farthest apart.

An arm has its colour by its name and the arms of its study alone, so it is the same in every figure and in every
report that holds the study. Names of `KNOWN` have fixed places; others take a place by the digest of the name, or the
next one that is free.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

INK, FAINT, PAPER = "#222222", "#6b6b6b", "#ffffff"
"""Text and axes; grid, references and their names; what lies behind marks."""
DARK_INK, DARK_FAINT, DARK_PAPER = "#e6e6e6", "#9a9a9a", "#15181c"

PALETTE = ("#3e6cec", "#cb4201", "#1c8276", "#622665", "#68250d", "#6c19a3", "#51564a", "#026687")
"""Arms on light paper."""
DARK_PALETTE = ("#7e89fc", "#d26046", "#7ce6d2", "#a970a1", "#fd9657", "#aa9ad3", "#b0b4a1", "#73d0ff")
"""The same arms on dark paper."""
RAMPS = {"light": ("#9ecae1", "#0b3c68"), "dark": ("#2f6ea8", "#d6ecff")}
"""Ends of the colours of numbers, from small to large: they differ in lightness, which everybody sees."""

KNOWN = ("single", "looped", "shift", "deep", "scp", "grow", "reverse", "random")
"""Names of arms by place of the palette."""
_ALSO = {"once": "single", "loops": "looped", "depth3": "deep", "depth-matched": "deep", "blocks": "deep"}


def of_arms(arms: Iterable[str]) -> dict[str, str]:
    """By arm of one study, its colour on light paper; beyond eight arms colours come again."""
    return {arm: PALETTE[place] for arm, place in places(list(arms)).items()}


def places(arms: Sequence[str]) -> dict[str, int]:
    """By arm of one study, its place in the palette: known names first, each other one where room is."""
    names = {arm: _ALSO.get(arm, arm) for arm in arms}
    found: dict[str, int] = {}
    for known in (True, False):
        for arm, name in names.items():
            if (name in KNOWN) is not known:
                continue
            place = KNOWN.index(name) if known else hashlib.sha256(name.encode()).digest()[0] % len(PALETTE)
            taken = [list(found.values()).count((place + i) % len(PALETTE)) for i in range(len(PALETTE))]
            found[arm] = (place + taken.index(min(taken))) % len(PALETTE)
    return {arm: found[arm] for arm in arms}


def page_rules() -> str:
    """What a page draws with, as variables of its style, and swatches by place in the palette.

    ``--a0``, ``--a1`` … are the palette, ``--low`` and ``--high`` the ends of the colours of numbers. A script names
    the variable and never the colour, so what it has drawn follows the scheme, and on paper is light.
    """

    def variables(palette: Sequence[str], ramp: tuple[str, str], faint: str) -> str:
        named = {f"a{place}": colour for place, colour in enumerate(palette)}
        named |= {"low": ramp[0], "high": ramp[1], "faint": faint}
        return ":root{" + "".join(f"--{name}:{colour};" for name, colour in named.items()) + "}"

    light, dark = variables(PALETTE, RAMPS["light"], FAINT), variables(DARK_PALETTE, RAMPS["dark"], DARK_FAINT)
    swatches = "".join(f".a{place}{{background:var(--a{place})}}" for place in range(len(PALETTE)))
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}{swatches}"
