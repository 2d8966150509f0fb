"""How the curvature was measured, and what failed: it stands beside the panels, so that nothing is lost in silence."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from reports.tables import Tables


def how(tables: Tables) -> list[dict[str, Any]]:
    """How each quantity was measured: methods, Hessian products, errors, and what failed with its reason.

    Of all compared trials, finished or not; an entry for each column, curve or spectrum.
    """
    arm_of = dict(zip(tables.compared()["trial_id"], tables.compared()["arm"], strict=True))
    methods: dict[str, Counter[str]] = defaultdict(Counter)
    arms: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    failures: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    products: dict[str, list[int]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    for row in tables.curvature[tables.curvature["trial_id"].isin(arm_of.keys())].to_dict("records"):
        for name, text in _map(row, "method").items():
            method, failed, reason = text.partition(" failed: ")
            methods[name][method] += 1
            arms[name][method][arm_of[row["trial_id"]]] += 1
            if failed:
                failures[name][reason, arm_of[row["trial_id"]]] += 1
        for name, spent in _map(row, "products").items():
            products[name].append(int(spent))
        for name, error in _map(row, "error").items():
            errors[name].append(float(error))
    return [
        {
            "quantity": name,
            "measurements": sum(methods[name].values()),
            "methods": dict(methods[name].most_common()),
            "arms": {method: dict(sorted(counts.items())) for method, counts in sorted(arms[name].items())},
            "products": math.fsum(products[name]) / len(products[name]) if products[name] else None,
            "error": max(errors[name]) if errors[name] else None,
            "failed": sum(failures[name].values()),
            "failures": _reasons(failures[name]),
        }
        for name in sorted(methods)
    ]


def _reasons(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    by_reason: dict[str, dict[str, int]] = defaultdict(dict)
    for (reason, arm), count in sorted(counts.items()):
        by_reason[reason][arm] = count
    return [{"reason": reason, "arms": arms} for reason, arms in by_reason.items()]


def _map(row: Mapping[Any, Any], column: str) -> Mapping[str, Any]:
    """A cell that holds a map; empty where there is none."""
    cell = row.get(column)
    return cell if isinstance(cell, Mapping) else {}
