r"""Plain values as YAML that every parser reads alike.

Kubernetes reads YAML by other rules than Python's packages (``1e3`` is a number to one and a text to the other, ``no``
the other way round), so a text is written bare only where nobody could take it for anything else, and else in double
quotes. A text of several lines is a block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_HIDDEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON writes as it is and YAML does not allow."""


def yaml_text(value: Mapping[str, Any]) -> str:
    """A document: mappings, lists, texts, numbers, true and false; keys keep their order."""
    return "".join(f"{line}\n" for line in _mapping(value))


def _mapping(value: Mapping[str, Any]) -> Iterable[str]:
    for key, item in value.items():
        yield from _entry(f"{_scalar(key)}:", item)


def _entry(head: str, item: Any) -> Iterable[str]:
    """A key, or the dash of a list, and what belongs to it."""
    if isinstance(item, Mapping) and item:
        yield head
        yield from (f"  {line}" if line else line for line in _mapping(item))
    elif isinstance(item, Sequence) and not isinstance(item, str) and item:
        yield head
        yield from _list(item)
    elif isinstance(item, str) and _is_block(item):
        yield f"{head} |2"
        yield from (f"  {line}" if line else line for line in item[:-1].split("\n"))
    else:
        yield f"{head} {_scalar(item)}"


def _list(value: Sequence[Any]) -> Iterable[str]:
    for each in value:
        nested = isinstance(each, (Mapping, Sequence)) and not isinstance(each, str) and each
        if not nested:
            yield from _entry("-", each)
            continue
        first, *rest = _mapping(each) if isinstance(each, Mapping) else _list(each)
        yield f"- {first}"
        yield from (f"  {line}" if line else line for line in rest)


def _is_block(text: str) -> bool:
    """Whether a block gives the text back: several lines, all printable, with one line break at the end."""
    lines = text.split("\n")
    return (
        len(lines) > 2
        and lines[-1] == ""
        and lines[-2] != ""
        and all(line.replace("\t", " ").isprintable() for line in lines)
        and not any(line and not line.strip() for line in lines)
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
    return json.dumps(value, allow_nan=False)
