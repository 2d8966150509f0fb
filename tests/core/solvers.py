"""The algorithmic tasks solved one problem at a time, in plain Python on lists: what the vectorised ones must equal.

`read` takes a sequence apart as a person would, mark by mark; `solve` works the problem out from its tokens alone.
Nothing is taken from `core.token_layout` or the generators.
"""

from __future__ import annotations

from core.task_terms import AlgorithmicTask

ALPHABETS = {"parity": 2, "binary_sum": 2, "addition": 2, "binary_multiplication": 2, "nary_addition": 10}


def base(task: AlgorithmicTask) -> int:
    """Size of the alphabet, behind which the marks begin."""
    return ALPHABETS.get(task.kind, task.symbols)


def read(inputs: list[int], targets: list[int], task: AlgorithmicTask) -> tuple[list[int], list[int]]:
    """The problem and the answer of one padded sequence; every position is accounted for."""
    arrow, end, blank = base(task), base(task) + 1, base(task) + 2
    at = inputs.index(arrow)
    question = inputs[:at]
    assert not {arrow, end, blank} & set(question)
    assert all(target == -100 for target in targets[:at])
    stop = targets.index(end)
    answer = targets[at:stop]
    assert not {arrow, end, blank, -100} & set(answer)
    assert all(target == -100 for target in targets[stop + 1 :])
    shown = answer if task.format == "next-token" else [blank] * len(answer)
    assert inputs[at + 1 : stop + 1] == shown
    assert all(token == blank for token in inputs[stop + 1 :])
    return question, answer


def split(tokens: list[int], mark: int) -> list[list[int]]:
    """The parts between marks."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def number(digits: list[int], radix: int) -> int:
    """The number that digits write, the highest first."""
    return int("".join(map(str, digits)), radix)


def problem_length(question: list[int], task: AlgorithmicTask) -> int:
    """The length that a problem counts as."""
    mark = base(task) + 3
    match task.kind:
        case "addition":
            first, second = split(question, mark)
            assert len(first) == len(second)
            return len(first)
        case "nary_addition":
            terms = split(question, mark)
            assert {len(term) for term in terms} == {task.digits}
            return len(terms)
        case "binary_multiplication":
            first, second = split(question, mark)
            assert len(first) == 2
            return len(second)
    return len(question)


def solve(question: list[int], task: AlgorithmicTask) -> list[int]:
    """The answer to a problem."""
    mark = base(task) + 3
    match task.kind:
        case "parity":
            return [question.count(1) % 2]
        case "binary_sum":
            return [int(bit) for bit in reversed(f"{question.count(1):b}")]
        case "copy":
            return list(question)
        case "unique_set":
            return list(dict.fromkeys(question))
        case "addition":
            first, second = split(question, mark)
            total = number(first, 2) + number(second, 2)
            return [int(bit) for bit in f"{total:b}".rjust(len(first) + 1, "0")]
        case "nary_addition":
            terms = split(question, mark)
            largest = len(terms) * number([9] * task.digits, 10)
            total = sum(number(term, 10) for term in terms)
            return [int(digit) for digit in str(total).rjust(len(str(largest)), "0")]
        case "binary_multiplication":
            first, second = (part[::-1] for part in split(question, mark))
            product = number(first, 2) * number(second, 2)
            return [int(bit) for bit in reversed(f"{product:b}".rjust(len(second) + 2, "0"))]
        case "p_hop":
            return [hopped(question, task.hops)]
    raise AssertionError(task.kind)


def hopped(string: list[int], hops: int) -> int:
    """The symbol that many hops from the end.

    Raises:
        ValueError: a symbol does not occur before.
    """
    at = len(string) - 1
    for _ in range(hops):
        at = max((j for j in range(at) if string[j] == string[at]), default=-2) + 1
        if at < 0:
            raise ValueError("no answer")
    return string[at]
