"""The filter language of `where`: one expression that is true for the settings a study keeps.

    model.loops * model.depth <= 8 and (arm != "shift" or schedule.switch in [0.3, 0.5])

Python's own grammar is parsed, then only a whitelist is translated into closures: comparisons (chained too), `and`,
`or`, `not`, `in`, + - * / // %, min, max, abs, literals, lists, dotted keys of the configuration, `arm` and `seed`.
Nothing is ever handed to `eval`; there are no attributes beyond configuration keys, no powers (2 ** 10**9 would never
end), arithmetic on numbers only ("a" * 10**9 would fill the memory), and an expression is short.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import InputError

MAX_LENGTH = 1000
MAX_DEPTH = 50

Evaluate = Callable[[Mapping[str, Any]], Any]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_CALLS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A parsed filter."""

    text: str
    names: frozenset[str]
    """What it reads: dotted keys, ``arm``, ``seed``."""
    evaluate: Evaluate = field(repr=False, compare=False)

    def keeps(self, values: Mapping[str, Any]) -> bool:
        """Whether the setting stays.

        Args:
            values: by dotted key, and ``arm`` and ``seed``.

        Raises:
            InputError: where it cannot be evaluated (division by zero, a text compared to a number) or is not a
                truth value.
        """
        try:
            result = self.evaluate(values)
        except (TypeError, ZeroDivisionError, OverflowError, ValueError) as error:
            raise InputError(f"cannot be evaluated with {self._shown(values)}: {error}") from error
        if not isinstance(result, bool):
            raise InputError(f"must be true or false, got {result!r} with {self._shown(values)}; compare it to a value")
        return result

    def admits(self, values: Mapping[str, Any]) -> bool:
        """Whether a setting stays that may lack what is read: then there is nothing to go by, and it stays.

        Raises:
            InputError: as `keeps`.
        """
        return not self.names <= values.keys() or self.keeps(values)

    def _shown(self, values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} = {values[name]!r}" for name in sorted(self.names)) or "no names"


def parse(text: str) -> Expression:
    """An expression from its text.

    Raises:
        InputError: for syntax, for whatever is not on the whitelist, and for what is too long or too deep.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"must be at most {MAX_LENGTH} characters, got {len(text)}; split it into several filters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's hints about odd literals are meant for programs
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise InputError(f"is not an expression at character {error.offset}: {error.msg}, got {text!r}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"is not an expression: {str(error) or 'nested too deeply'}") from error
    names: set[str] = set()
    evaluate = _translate(tree.body, names, MAX_DEPTH)
    return Expression(text=text, names=frozenset(names), evaluate=evaluate)


def conjuncts(text: str) -> tuple[Expression, ...]:
    """The expressions that ``and`` joins in a text; one where it joins none.

    Raises:
        InputError: as `parse`.
    """
    parse(text)
    tree = ast.parse(text.strip(), mode="eval").body
    joined = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    return tuple(parse(ast.unparse(node)) for node in joined)


def _translate(node: ast.expr, names: set[str], depth: int) -> Evaluate:
    """The closure of one node; `names` gathers what is read."""
    if depth == 0:
        raise InputError(f"is nested deeper than {MAX_DEPTH}; split it into several filters")

    def inner(child: ast.expr) -> Evaluate:
        return _translate(child, names, depth - 1)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return lambda _: value
        case ast.Name() | ast.Attribute():
            name = _dotted(node)
            names.add(name)
            return operator.itemgetter(name)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            parts = [inner(item) for item in items]
            return lambda values: [part(values) for part in parts]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            truth = _truth(inner(operand))
            return lambda values: not truth(values)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = _number(inner(operand))
            return lambda values: -number(values)
        case ast.BoolOp(op=op, values=operands):
            truths = [_truth(inner(operand)) for operand in operands]
            joined = all if isinstance(op, ast.And) else any
            return lambda values: joined(truth(values) for truth in truths)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
            apply, a, b = _ARITHMETIC[type(op)], _number(inner(left)), _number(inner(right))
            return lambda values: apply(a(values), b(values))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _comparison(ops, [inner(left), *(inner(c) for c in comparators)])
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if name in _CALLS:
            call, numbers = _CALLS[name], [_number(inner(arg)) for arg in args]
            if name == "abs" and len(numbers) != 1:
                raise InputError(f"abs takes one number, got {len(numbers)}")
            if len(numbers) == 1:
                return numbers[0] if name != "abs" else lambda values: abs(numbers[0](values))
            return lambda values: call(*(number(values) for number in numbers))
    allowed = "comparisons, and/or/not, in, + - * / // %, min, max, abs, lists, dotted keys, arm and seed"
    raise InputError(f"{ast.unparse(node)!r} is not allowed in a filter; it knows {allowed}")


def _comparison(ops: list[ast.cmpop], parts: list[Evaluate]) -> Evaluate:
    for op in ops:
        if type(op) not in _COMPARE:
            raise InputError("`is` is not allowed in a filter; write == or !=")
    tests = [_COMPARE[type(op)] for op in ops]

    def compare(values: Mapping[str, Any]) -> bool:
        left = parts[0](values)
        for test, part in zip(tests, parts[1:], strict=True):
            right = part(values)
            if not test(left, right):
                return False
            left = right
        return True

    return compare


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise InputError(f"{ast.unparse(node)!r} is not a dotted key of the configuration")


def _number(evaluate: Evaluate) -> Evaluate:
    def number(values: Mapping[str, Any]) -> Any:
        value = evaluate(values)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"arithmetic needs numbers, got {value!r}")
        return value

    return number


def _truth(evaluate: Evaluate) -> Evaluate:
    def truth(values: Mapping[str, Any]) -> bool:
        value = evaluate(values)
        if not isinstance(value, bool):
            raise TypeError(f"and/or/not need true or false, got {value!r}")
        return value

    return truth
