"""What the commands on recorded results do: show, diff, verify, compact.

Each takes checked options, prints through `sweeps.output` and returns its exit code; errors are raised as
`LoopsweepError` and become lines and codes in `sweeps.cli`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.errors import InputError, Problem
from sweeps import output
from sweeps import show as about
from sweeps.tables import cell, pairs, plural, table

if TYPE_CHECKING:
    from studies.store import Store

HIDDEN = (
    *("lineage", "tokens", "flops_alone", "excess_loss", "bayes_", "excess_loss_", "val_accuracy_"),
    *("val_loss_len_", "val_exact_len_"),
)
"""Columns of the history, or with ``_`` at the end families of them, that people are not shown."""
HIDDEN_CURVATURE = ("method", "error", "products", "block_lambda_max_", "gradient_alignment_")


def show(beginning: str, root: str, *, studies: Sequence[str], as_json: bool) -> int:
    """One trial: configuration, history, provenance, files."""
    from studies.spec import load_study
    from studies.store import Store
    from sweeps.known import known_trials
    from sweeps.show_curvature import failures

    store = Store.open(root)
    trials, searched = known_trials(studies, store)
    found = about.find(beginning, trials, searched=searched)
    named = {load_study(name).name for name in studies}
    # What a study that is named measures, by its own text; else all that any text kept in the store does.
    asking = [use for use in found if use.study in named] or [t for t in trials if t.trial_id == found[0].trial_id]
    facts = about.facts(found, store, asking=asking)
    if as_json:
        output.emit_json(facts)
        return 0
    missing = "trained, measurements missing" if facts["unmeasured"] else "not complete"
    missing = "waits for a criterion" if facts["waits"] else missing
    head = [("trial", facts["trial_id"]), ("status", facts["status"] or missing), ("error", facts["error"])]
    head += [("asked by", f"{use['study']} / {use['arm']} ({use['role']})") for use in facts["asked_by"]]
    output.emit(pairs((name, value) for name, value in head if value is not None))
    _section("terms that act", pairs((key, about.said(found[0].config, key)) for key in facts["acting"]))
    _section("chain, as far as known" if facts["waits"] else "chain", _grid(facts["chain"]))
    _section("criteria", _grid(facts["criteria"]))
    if facts["switch"]["switch_step"] is not None:
        _section("first switch", pairs(facts["switch"].items()))
    _section("history (all columns: --json)", _grid(facts["metrics"], hidden=HIDDEN))
    _section("checks", _grid(facts["checks"], hidden=("lineage",)))
    _section("curvature (all columns, methods and errors: --json)", _grid(facts["curvature"], hidden=HIDDEN_CURVATURE))
    _section("not measured", "\n".join(map(output.clean, failures(facts["curvature"]))))
    _section("events", _grid(facts["events"]))
    _section("runs", _grid(facts["segments"], hidden=("observed", "evaluated", "measured", "checked", "finished_at")))
    for provenance in facts["provenance"]:
        _section("provenance", pairs(provenance.items()))
    _section("files", "\n".join(map(output.clean, facts["files"])))
    return 0


def diff(first: str, second: str, root: str, *, studies: Sequence[str], as_json: bool) -> int:
    """What differs between two trials: terms, past, results."""
    from studies.store import Store
    from sweeps.known import known_trials

    store = Store.open(root)
    trials, searched = known_trials(studies, store)
    a = about.find(first, trials, searched=searched)[0]
    b = about.find(second, trials, searched=searched)[0]
    terms = about.differing(a.config, b.config)
    shared, open_end = about.shared_steps(a, b, store)
    results = about.compared(about.last_row(a, store), about.last_row(b, store))
    if as_json:
        output.emit_json(
            {
                "trials": [a.trial_id, b.trial_id],
                "terms": {key: [x, y] for key, x, y in terms},
                "shared_steps": shared,
                "may_share_more": open_end,
                "results": {key: [x, y] for key, x, y in results},
            }
        )
        return 0
    if a.trial_id == b.trial_id:
        output.emit(f"{a.trial_id} and {b.trial_id} are one trial")
        return 0
    columns = [a.trial_id, b.trial_id]
    rows = [
        [key, *(None if v is None else cell(about.said(t.config, key)) for t, v in ((a, x), (b, y)))]
        for key, x, y in terms
    ]
    output.emit(table(["term that acts", *columns], rows))
    same = f"They share the first {plural(shared, 'step')}" if shared else "They share no step"
    later = ", and may come to share more: a criterion decides" if open_end else ""
    output.emit(f"\n{same}{later}.\n")
    values = [(key, x, y, y - x if x is not None and y is not None else None) for key, x, y in results]
    output.emit(table(["last recorded result", *columns, "difference"], values))
    return 0


def verify(root: str, *, as_json: bool) -> int:
    """Every part, record and checkpoint checked; 3 where something recorded cannot be read."""
    report = recorded(root).verify()
    if as_json:
        output.emit_json({name: getattr(report, name) for name in (*report.__dataclass_fields__, "ok")})
        return 0 if report.ok else 3
    for line in report.damaged:
        output.fail(line)
    for line in report.damaged_checkpoints:
        output.note(f"{line} (it is replayed when it is needed)")
    for line in (*report.orphans, *report.foreign):
        output.note(f"counts for nothing: {line}")
    output.emit(
        pairs(
            [
                ("parts", report.parts),
                ("visible rows", report.rows),
                ("hidden rows (recorded twice)", report.invisible),
                ("checkpoints", report.checkpoints),
                ("damaged parts", len(report.damaged)),
                ("damaged checkpoints", len(report.damaged_checkpoints)),
                ("files that count for nothing", len(report.orphans) + len(report.foreign)),
            ]
        )
    )
    output.emit("sound" if report.ok else "damaged")
    return 0 if report.ok else 3


def compact(root: str, *, as_json: bool) -> int:
    """Small parts folded into few."""
    report = recorded(root).compact()
    if as_json:
        output.emit_json({name: getattr(report, name) for name in report.__dataclass_fields__})
    elif report.published is None:
        output.emit(f"nothing to fold; {plural(report.removed, 'retired file')} removed")
    else:
        folded = f"{plural(report.folded, 'record')} folded into {plural(report.parts, 'part')}"
        output.emit(f"{folded} with {plural(report.rows, 'row')}; {plural(report.removed, 'retired file')} removed")
    return 0


def recorded(root: str) -> Store:
    """The store, which must be there.

    Raises:
        InputError: where no store is.
    """
    from studies.store import Store

    store = Store.open(root)
    if not store.exists:
        raise InputError([Problem("--store", f"there is no store {root}; `loopsweep run` makes one")])
    return store


def _section(title: str, text: str) -> None:
    if text:
        output.emit(f"\n{title}\n{text}")


def _grid(rows: Sequence[Mapping[str, Any]], *, hidden: Sequence[str] = ()) -> str:
    """Rows as a table; empty without any.

    Args:
        rows: all with the same keys.
        hidden: columns that are left out; one that ends in ``_`` stands for all that begin so.
    """
    families = tuple(name for name in hidden if name.endswith("_"))
    columns = [name for name in (rows[0] if rows else ()) if name not in hidden and not name.startswith(families)]
    return table(columns, [[row[name] for name in columns] for row in rows]) if rows else ""
