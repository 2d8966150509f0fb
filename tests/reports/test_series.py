"""Claims about lines of trials."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.series import Group, groups, last_step
from reports.tables import Tables
from studies.where import conjuncts
from tests.reports.synthetic import GRID, results


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([[[0, 100, 200], [0, 100, 200], [0, 100], []], [[0, 100, 200], [0, 200]]], 200),
        ([[[0, 100, 200], [0, 100]], [[0, 100, 200]]], 100),
        ([[[0, 200]], [[100]]], None),
        ([[], [[]]], None),
    ],
)
def test_the_last_common_step_is_not_set_back_by_one_trial_that_lacks_it(steps, last):
    lines, known = [], {}
    for name, of_line in zip("ab", steps, strict=True):
        own = {f"{name}{seed}": (seed, found) for seed, found in enumerate(of_line)}
        known |= {trial_id: found for trial_id, (_, found) in own.items()}
        trials = pd.DataFrame({"trial_id": list(own), "seed": [seed for seed, _ in own.values()]})
        lines.append(Group(arm=name, setting=(), settings=1, best=False, trials=trials))
    assert last_step(lines, known) == last


def test_lines_are_made_once_of_a_table_and_anew_of_a_narrower_one():
    tables = Tables.read(results(GRID))
    lines = groups(tables, ["looped", "shift"])
    assert groups(tables, ("looped", "shift")) is lines
    assert [line.arm for line in groups(tables, ["shift"])] == [line.arm for line in lines if line.arm == "shift"]
    narrow = groups(tables.where(conjuncts("model.loops == 3")), ["looped", "shift"])
    assert all((line.trials["model.loops"] == 3).all() for line in narrow)
    assert not all((line.trials["model.loops"] == 3).all() for line in lines)
