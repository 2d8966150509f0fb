"""The two streams of the command line: results on stdout, messages on stderr.

Everything that a command prints goes through here, for three reasons. Data may hold terminal escapes (a study's name,
an error's text, a cell of a query): control characters are shown, never sent. A reader may go away (``| head``), or
never have been there (``>&-``): the rest is dropped in silence and the command goes on to its own exit code. JSON is
strict: no NaN, no infinity.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

_HIDDEN = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},  # C0, DEL, C1
    **{code: f"\\u{code:04x}" for code in (*range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A))},
}
"""Characters that steer a terminal or reverse its text, and what is shown for them; made once, never changed."""


def clean(value: object) -> str:
    """`value` as one line of text that steers no terminal: control and direction characters are shown escaped."""
    return str(value).translate(_HIDDEN)


def clean_lines(text: str) -> str:
    """`text` with its line breaks and tabs kept, and every other control character shown escaped."""
    return "\n".join("\t".join(clean(cell) for cell in line.split("\t")) for line in text.split("\n"))


def emit(text: str) -> None:
    """Writes a result to stdout, ending in a line break."""
    _write(sys.stdout, text if text.endswith("\n") else text + "\n")


def emit_bytes(content: bytes) -> None:
    """Writes a result to stdout as it is: bytes of a file format, or text that is encoded already."""
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
    except OSError as error:
        _drop(sys.stdout)
        error.filename = error.filename or "stdout"
        raise


def emit_json(value: Any) -> None:
    """Writes `value` as strict JSON, indented; keys keep their order.

    Raises:
        ValueError: for NaN and infinities, which JSON has no form for.
    """
    emit(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def note(text: str) -> None:
    """Writes a message to stderr."""
    _write(sys.stderr, clean_lines(text) + "\n")


def fail(text: str) -> None:
    """Writes each line of `text` as an error to stderr."""
    for line in text.splitlines() or [""]:
        note(f"error: {line}")


def open_streams() -> None:
    """Leads a stream that was closed before the command began nowhere, so that whoever writes to it need not ask."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their numbers: each takes its own again
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end


def flush() -> None:
    """Sends on what is buffered, so that a reader that went away is noticed here and not at exit."""
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _drop(stream)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        _drop(stream)
        error.filename = error.filename or ("stdout" if stream is sys.stdout else "stderr")
        raise


def _drop(stream: TextIO) -> None:
    """Leads a stream nowhere: what is still buffered must go somewhere, or the interpreter complains at exit."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)
