"""Importances in the report: of the search as it is now, its last batch, both evaluators beside one another."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.build import build
from reports.figures import draw
from reports.importances import importances
from reports.render import html_report, markdown_report
from studies.proposals import search_digest
from studies.spec import parse_study
from tests.reports.synthetic import IMPORTANCES_COLUMNS, Arm, Frames, results

SPACE = {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.width": [8, 16]}
METRIC = "final_val_loss"


@pytest.fixture
def study():
    head = {"name": "quickstart", "question": "?", "seeds": 2, "arms": {"looped": {}}}
    return parse_study(head | {"search": {"kind": "tpe", "trials": 40, "space": SPACE}}, file="s.toml")


def frame(study, *rows):
    """Rows of evaluator, batch, key, value."""
    digest = search_digest(study.search, study.arms[0])
    made = [("quickstart", "looped", digest, METRIC, *row, 8 * (row[1] + 1)) for row in rows]
    return pd.DataFrame(made, columns=IMPORTANCES_COLUMNS)


AGREED = (
    ("fanova", 4, "train.lr", 0.9),
    ("fanova", 4, "model.width", 0.1),
    ("ped-anova", 4, "train.lr", 0.7),
    ("ped-anova", 4, "model.width", 0.3),
)


def test_the_last_batch_counts_with_both_evaluators_and_the_largest_first(study):
    older = (("fanova", 2, "model.width", 1.0), ("ped-anova", 2, "model.width", 1.0))
    (entry,) = importances(study, frame(study, *older, *AGREED))
    assert entry["keys"] == [
        {"key": "train.lr", "ped-anova": 0.7, "fanova": 0.9},
        {"key": "model.width", "ped-anova": 0.3, "fanova": 0.1},
    ]
    assert entry["settings"] == 40
    assert entry["sentence"].endswith("depends most on train.lr, by PED-ANOVA (0.70) and by fANOVA (0.90).")


def test_evaluators_that_disagree_are_said_to(study):
    rows = [*AGREED[:2], ("ped-anova", 4, "train.lr", 0.2), ("ped-anova", 4, "model.width", 0.8)]
    (entry,) = importances(study, frame(study, *rows))
    assert "on model.width by PED-ANOVA (0.80) and on train.lr by fANOVA (0.90): the two ask" in entry["sentence"]


def test_rows_of_another_search_and_studies_without_one_have_none(study):
    other = frame(study, *AGREED).assign(search="0" * 16)
    assert importances(study, other) == []
    plain = parse_study({"name": "p", "question": "?", "arms": {"looped": {}}}, file="p.toml")
    assert importances(plain, frame(study, *AGREED)) == []


def test_the_report_has_table_and_figure_in_provenance_and_the_results_do_not_depend_on_it(study):
    bare = results([Arm(name="looped", axes={"train.lr": [1e-3, 1e-2]})], seeds=range(2))
    full = Frames(**{**vars(bare), "importances_": frame(study, *AGREED)})
    report, without = (build([(study, frames)], command="x") for frames in (full, bare))
    assert report["studies"] == without["studies"]
    (entry,) = report["provenance"]["studies"][0]["importances"]
    drawings = [drawing for drawing in draw(report) if drawing.kind == "importances"]
    assert [drawing.alt for drawing in drawings] == [entry["sentence"]]
    assert "| looped | final\\_val\\_loss | train.lr | 0.70 | 0.90 |" in markdown_report(report, draw(report))
    assert entry["sentence"] in html_report(report, draw(report))
