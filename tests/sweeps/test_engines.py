"""The engine of a run: rows and step times are recorded in its numerics class, and nothing is trained twice for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.engines import cpp_compiler
from core.numerics import numerics_class
from studies.store import Store
from sweeps.packs import paces
from sweeps.round import Limits
from sweeps.run import run
from tests.sweeps.direct import Direct
from tests.sweeps.test_run import Heard
from tests.sweeps.work import trial


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler for torch.compile")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_a_compiled_run_records_its_class_and_is_not_trained_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    trials = [trial(0, kind="single", steps=20, evaluate_every=10)]

    def ran(engine: str) -> tuple[Direct, Heard]:
        executor, heard = Direct(store.root), Heard()
        result = run(lambda: trials, store, executor, limits=Limits(engine=engine), pack=1, observer=heard)
        assert result.counts == {"ok": 1}
        return executor, heard

    ran("compiled")
    here = numerics_class("cpu", "compiled")
    for table in ("segments", "calibrations"):
        assert {row["numerics_class"] for row in store.read(table).to_pylist()} == {here}
    assert len(paces(store, engine="compiled", device="cpu")) == 1
    assert paces(store) == {}  # eager step times are taken apart
    executor, heard = ran("eager")
    assert executor.bundles == []
    assert heard.messages == ["1 of 1 trials are finished on cpu, compiled; they are not run again on cpu, eager"]
