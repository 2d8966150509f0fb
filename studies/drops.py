"""The drop at a switch and the way back, from rows of metrics and events: SQL over the views' own relations.

*Before* is the row of metrics at the switch: of the stage that ends. *After* is the event ``switch``: the same weights
with the loops of the stage that begins. The trial has *recovered* at its first later evaluation whose loss is at most
that before, whichever stage it lies in, and at once where the switch was no drop. Whether it did is said once the trial
has ended ok or diverged, since a row may be missing before.
"""

from __future__ import annotations

from collections.abc import Mapping

_LOSS = "nats/token"

SWITCH_COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "switch_val_loss_before": ("loss_before", _LOSS, "val_loss right before the first switch"),
    "switch_val_loss_after": ("loss_after", _LOSS, "val_loss of the same weights with the loops after it"),
    "switch_drop": ("loss_after - loss_before", _LOSS, "rise of val_loss at the first switch, after - before"),
    "switch_val_accuracy_before": ("accuracy_before", "fraction", "val_accuracy right before the first switch"),
    "switch_val_accuracy_after": ("accuracy_after", "fraction", "val_accuracy right after the first switch"),
    "switch_recovery_steps": ("recovered - step", "updates", "from the first switch until val_loss is as before it"),
}
"""Columns of the view `trials`: expression over a row of ``_drops``, unit, meaning."""

DROPS = """CREATE VIEW _drops AS WITH d AS MATERIALIZED (
    SELECT s.trial_id, s.number, s.step, s.settled, b.val_loss AS loss_before, b.val_accuracy AS accuracy_before,
        CAST(json_extract_string(e.detail, '$.val_loss') AS DOUBLE) AS loss_after,
        CAST(json_extract_string(e.detail, '$.val_accuracy') AS DOUBLE) AS accuracy_after
    FROM _switches AS s JOIN metrics AS b ON b.trial_id = s.trial_id AND b.step = s.step
    LEFT JOIN (SELECT * FROM _events WHERE kind = 'switch') AS e ON e.lineage = s.lineage AND e.step = s.step
), later AS (
    SELECT d.trial_id, d.number, min(m.step) FILTER (m.step > d.step AND m.val_loss <= d.loss_before) AS step,
        arg_min(m.val_loss, m.step) FILTER (m.step > d.step AND m.val_loss <= d.loss_before) AS val_loss
    FROM d JOIN metrics AS m ON m.trial_id = d.trial_id WHERE d.settled GROUP BY d.trial_id, d.number
) SELECT d.*, CASE WHEN settled THEN
        CASE WHEN loss_after <= loss_before THEN d.step ELSE later.step END END AS recovered,
    CASE WHEN loss_after <= loss_before THEN loss_after ELSE later.val_loss END AS loss_recovered
    FROM d LEFT JOIN later USING (trial_id, number)"""
"""One row per switch that a trial has come to. Joined on equal keys alone: others cost the square."""

_NAMED = ", ".join(f"{value} AS {name}" for name, (value, _, _) in SWITCH_COLUMNS.items())

FIRST_DROPS = f"SELECT trial_id, {_NAMED} FROM _drops WHERE number = 1"  # noqa: S608 - names of ours
"""The columns of the view `trials`, for those that have come to a switch."""

EVENTS = """CREATE VIEW events AS SELECT chain.trial_id, e.step, e.kind, e.detail
    FROM _chains AS chain JOIN _events AS e
    ON e.lineage = chain.lineage AND e.step BETWEEN chain.start AND chain."end"
    AND (e.kind <> 'divergence' OR e.step = chain.reached + 1)
    UNION ALL SELECT trial_id, step, 'watcher', detail FROM _watchers
    UNION ALL SELECT trial_id, recovered, 'recovery', CAST(json_object(
        'steps', recovered - step, 'switch', step, 'val_loss', loss_recovered) AS VARCHAR)
    FROM _drops WHERE recovered IS NOT NULL"""
"""What is recorded, and what follows from rows."""
