"""Numbers in words: digits, signs, and nothing that reads as more exact than it is."""

from __future__ import annotations

import pytest

from reports import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (None, "–"),
        (-0.01234, "−0.0123"),
        (12.5, "12.5"),
        (9.3e9, "9.30e9"),
        (-2e-9, "−2.00e−9"),
        (999.96, "1\u202f000"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "–"), (0.0625, "0.0625"), (0.5, "0.5"), (0.000412, "0.000412"), (3e-9, "< 0.0001"), (1.0, "1")],
)
def test_p_value_is_never_zero(p, text):
    assert words.p_value(p) == text


def test_an_estimate_has_two_digits_of_its_half_width():
    assert words.estimate(-0.21234, -0.24, -0.18) == ("−0.212", "−0.240", "−0.180")
    assert words.estimate(0.0001, -0.3, 0.3) == ("0.00", "−0.30", "0.30")
    assert words.estimate(5.0, None, None) == ("5.000", "–", "–")
    assert words.estimate(0.25, 0.25, 0.25) == ("0.2500", "0.2500", "0.2500")


def test_settings_places_ticks_and_counts():
    assert words.setting({"model.loops": 3, "schedule.switch": 0.5}) == "loops = 3, switch = 0.5"
    assert [words.place("x", at) for at in ("final", 500, None)] == ["final x", "x at step 500", "x"]
    assert [words.tick(v) for v in (0, -0.5, 3000, 5e9)] == ["0", "−0.5", "3000", "5e9"]
    assert words.count(1234567) == "1\u202f234\u202f567"
