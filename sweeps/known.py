"""The trials that an id may name: of the studies named, of those run in the store and of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from core.errors import InputError
from studies.expand import Trial
from studies.spec import catalogue, load_study
from studies.store import Store
from studies.wanted import wanted


def known_trials(named: Sequence[str], store: Store) -> tuple[list[Trial], str]:
    """All these trials, each once for each study, arm, role and measurement, and what was searched, for messages.

    Of a study that was changed between runs the store keeps several texts; one trial may be asked for by each of them,
    with other quantities to measure.

    Args:
        named: studies that are searched first.
        store: which keeps the texts of the studies run in it.

    Raises:
        InputError: where a study named or catalogued is wrong.
    """
    studies = [load_study(name) for name in named]
    for kept in store.kept_studies():
        with suppress(InputError):  # of another version of loopsweep, or its texts are not there
            studies.append(load_study(kept.path, size=kept.size, folder=kept.folder))
    studies += [load_study(path.stem) for path in catalogue()]
    trials = {
        (t.study, t.arm, t.role, t.trial_id, t.config.measure): t for study in studies for t in wanted(study, store)
    }
    return list(trials.values()), "the studies " + ", ".join(dict.fromkeys(study.name for study in studies))
