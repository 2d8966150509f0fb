"""Loss surfaces on their way: recorded by training and at kept states alike, read by their own settings, audited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import MeasureConfig
from core.observation import with_measure
from studies.coverage import Coverage
from studies.expand import Trial
from studies.query import run_query
from studies.store import Store
from studies.views import open_views
from sweeps.audit import audit
from sweeps.measure_cost import LOSS_WORK, measure_cost
from sweeps.measuring import measure_kept, missing
from sweeps.observer import Silent
from sweeps.packs import Pace
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.direct import Direct
from tests.sweeps.work import config, of_config


def asking(*quantities: str, at: tuple[int, ...] = (0, 10, 20), **settings: Any) -> list[Trial]:
    """Trials with a switch at step 10, and what they measure."""
    measure = replace(MeasureConfig(quantities=quantities, at=at, probe=8, points=1), **settings)
    return [
        of_config(with_measure(config(seed, kind="shift", steps=20, switch=10, keep="all"), measure))
        for seed in range(2)
    ]


def trained(root: Path, trials: list[Trial]) -> Store:
    store = Store.open(root, create=True)
    assert run(lambda: trials, store, Direct(store.root), limits=Limits(), pack=2).counts == {"ok": len(trials)}
    return store


def rows(store: Store) -> list[str]:
    return sorted(map(repr, store.read("surfaces").to_pylist()))


def test_a_kept_state_gives_the_surfaces_that_training_gives(tmp_path: Path) -> None:
    wanted = asking("loss_surface")
    direct, later = trained(tmp_path / "direct", wanted), trained(tmp_path / "later", asking("lambda_max"))
    recorded = Coverage(later.read("segments"))
    assert all(recorded.chain(trial).status == "ok" for trial in asking("lambda_max"))
    found = missing(asking("lambda_max", "loss_surface"), later)
    assert {lane.config.measure.quantities for lane in found.kept} == {("loss_surface",)}, "what is there stays valid"
    assert (len(found.kept), found.gone) == (2 * 3, 0)
    measure_kept(found, Direct(later.root), limits=Limits(), observer=Silent())
    assert rows(later) == rows(direct)
    assert len(rows(direct)) == 2 * 3
    assert missing(asking("lambda_max", "loss_surface"), later).kept == ()


def test_the_view_has_the_surfaces_of_the_settings_that_are_asked(tmp_path: Path) -> None:
    wanted = asking("loss_surface", at=(20,))
    store = trained(tmp_path / "store", wanted)
    with open_views(wanted, store) as views:
        table = views.arrow("surfaces")
    assert table.column_names == ["trial_id", "step", "kind", "x", "y", "z"]
    assert table.schema.field("z").metadata[b"unit"] == b"nats/token"
    assert {(row["trial_id"], row["step"], row["kind"]) for row in table.to_pylist()} == {
        (trial.trial_id, 20, "top") for trial in wanted
    }
    for row in table.to_pylist():
        assert (row["x"], row["y"]) == ([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
        assert np.isfinite(row["z"]).all()
        assert len(row["z"]) == 9
    for other in (asking("loss_surface", at=(20,), radius=0.5), asking("lambda_max", at=(20,))):
        with open_views(other, store) as views:
            assert views.arrow("surfaces").num_rows == 0
    answer = run_query(wanted, store, "SELECT count(*) AS n, max(len(z)) AS z FROM surfaces")
    assert answer.to_pylist() == [{"n": 2, "z": 9}]


def test_an_audit_compares_surfaces_bit_by_bit(tmp_path: Path) -> None:
    wanted = asking("loss_surface", at=(20,))
    store = trained(tmp_path / "store", wanted)
    sound = audit(wanted, store, Direct(store.root), share=1.0)
    assert sound.mismatches == ()
    (row,) = [r for r in store.read("surfaces").to_pylist() if r["lineage"] == wanted[0].links[-1].lineage]
    forged = Store.open(tmp_path / "forged", create=True)
    tables = {name: store.read(name).to_pylist() for name in ("segments", "metrics", "events", "curvature", "surfaces")}
    for one in tables["surfaces"]:
        if one["lineage"] == row["lineage"]:
            one["z"][4] = float(np.nextafter(one["z"][4], np.inf))
    forged.commit({name: found for name, found in tables.items() if found})
    (said,) = audit(wanted, forged, Direct(forged.root), share=1.0).mismatches
    assert said.startswith(f"{wanted[0].trial_id} surfaces at step 20: z is recorded as")


@pytest.mark.parametrize("points", [1, 12])
def test_the_price_counts_every_point(points: int) -> None:
    (trial, _) = asking("loss_surface", points=points)
    (bare, _) = asking("lambda_max", points=points)
    link = trial.links[0]
    with_surface, without = (measure_cost(t.config, link, Pace({1: 1.0, 8: 8.0})) for t in (trial, bare))
    side = 2 * points + 1
    assert with_surface.numbers - without.numbers == side * side
    assert with_surface.products == without.products
    probe_s = trial.config.measure.probe / trial.config.train.batch
    assert with_surface.seconds - without.seconds == pytest.approx(LOSS_WORK * side * side * probe_s)
