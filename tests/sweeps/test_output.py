"""The two streams: nothing steers the terminal, a reader may go away, JSON is strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps import output


@given(st.text())
def test_clean_text_is_one_line_without_control_characters(text):
    shown = output.clean(text)
    assert all(ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0 for c in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029")


def test_ordinary_text_is_left_alone():
    assert output.clean("κ(ε) = 1.5 → 2, été, 損失") == "κ(ε) = 1.5 → 2, été, 損失"


def test_escapes_are_shown_not_sent(capsys):
    output.note("loss \x1b[31mred\x1b]0;title\x07\tand\nnext")
    assert capsys.readouterr().err == "loss \\x1b[31mred\\x1b]0;title\\x07\tand\nnext\n"


def test_each_line_of_a_failure_is_an_error(capsys):
    output.fail("a: one\nb: two")
    assert capsys.readouterr().err == "error: a: one\nerror: b: two\n"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_it_has_no_form_for(number):
    with pytest.raises(ValueError, match="JSON"):
        output.emit_json({"loss": number})


def test_a_reader_that_goes_away_changes_nothing():
    program = (
        "from sweeps import output\n"
        "for i in range(20000): output.emit('x' * 100)\n"
        "output.note('went on')\n"
        "output.flush()\n"
        "raise SystemExit(7)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "x" * 100 + "\n"
        process.stdout.close()
        assert process.stderr.read() == "went on\n"
        assert process.wait(240) == 7


def test_help_without_a_reader_is_no_error():
    program = Path(sys.executable).with_name("loopsweep")
    with subprocess.Popen([program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(240) == 0


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_from_the_start_take_what_nobody_reads(closed):
    program = Path(sys.executable).with_name("loopsweep")
    done = subprocess.run(["/bin/sh", "-c", f"{program} --version {closed}"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_narrow_encoding_gets_escapes_not_a_crash():
    program = "from sweeps import output; output.emit('κ → 1'); output.flush()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\\u03ba \\u2192 1\n"
    assert done.stderr == ""
