"""Searches on made-up results, through our own ask and tell; also a process of its own that shows one in a storage.

``python -m tests.sweeps.sought STORE NAME URL`` searches to the end and prints whatever was said.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from studies.expand import Proposal, expand
from studies.proposals import read_proposals
from studies.spec import parse_study
from studies.store import Store
from studies.study import Study
from sweeps import search
from sweeps.mirror import mirrored, write_storage
from sweeps.storage_url import parse_storage_url

Value = Callable[[Mapping[str, Any]], tuple[float, ...] | None]

LR = {"low": 1e-5, "high": 1.0, "log": True}
CLIP = {"low": 0.0, "high": 4.0}


def sought(kind: str = "tpe", **terms: Any) -> Study:
    """A study that searches learning rate and clip of one arm on one seed."""
    name = terms.pop("name", "sought")
    table = {"kind": kind, "space": {"train.lr": LR, "train.clip": CLIP}, "trials": 8, "batch": 4} | terms
    arms = {"single": {"schedule": {"kind": "single"}}}
    document = {"name": name, "question": "Which?", "seeds": 1, "arms": arms, "search": table}
    return parse_study(document, file="sought")


def bowl(params: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Least, 0, at lr = 1e-2 and clip = 3; no value where the rate is large."""
    if params["train.lr"] > 0.3:
        return None
    return (math.log10(params["train.lr"] / 1e-2) ** 2 + (params["train.clip"] - 3) ** 2,)


def results(study: Study, proposals: Iterable[Proposal], value: Value = bowl) -> list[dict[str, Any]]:
    """Rows of the trials of some proposals."""
    assert study.search is not None
    rows = []
    for proposal in proposals:
        found = value(proposal[2])
        values = dict.fromkeys(study.search.metrics) if found is None else zip(study.search.metrics, found, strict=True)
        rows += [
            {"trial_id": trial.trial_id, "status": "diverged" if found is None else "ok", **dict(values)}
            for trial in expand(study, proposals=[proposal])
        ]
    return rows


def main(root: str, name: str, text: str) -> None:
    study, store, url = sought(name=name), Store.open(root, create=True), parse_storage_url(text, "URL")
    ended: list[Proposal] = []
    while True:
        more = search.advance(study, store, results(study, ended))
        known = read_proposals(study, store)
        shown = mirrored(study, known, results(study, ended))
        print(*write_storage(url, lambda shown=shown: shown).said, sep="\n", end="")
        if not more:
            return
        ended = known


if __name__ == "__main__":
    main(*sys.argv[1:])
