"""What does the stage tree give in wall time, and how much faster is it than what people do today?

Three grids of the Markov toy: switch points, settings of SCP (64), budgets under WSD. Each is run in turns

- with the tree: one run over all trials on two warm workers;
- without: one run per setting (its seeds still pack), each in a store of its own, dealt to two warm workers as they
  come free, the dearest first; nothing is shared between settings;
- with --plain: as plain PyTorch trials under Ray Tune's grid search (benchmarks/plain_tune.py), on one seed, or a few,
  of every setting, scaled to all of them by FLOPs.

Step times are measured before any clock starts, and recorded in every store: no way pays for them. The ideal is FLOPs
alone over FLOPs spent, as the plan of the finished study states it; the share is that of the ideal which the ratio of
wall times reaches; the packs of both ways are not alike, since more lanes are ready at once where settings are not run
one by one, and fewer where they share a trunk, so it may exceed 100 %. The trials and metrics of both ways must be
equal in every result column, to the last bit.

    python benchmarks/stage_tree.py [--size small|full] [--grid switch|scp|budgets|all] [--plain] [--rounds 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.stage_grids import GRIDS, SIZES, Size, study_of
from benchmarks.stage_ways import WORKERS, Pool, Way, check_equal, fresh, measured, opened, with_tree, without_tree
from core.flops import flops_alone
from studies.expand import Trial
from sweeps.plan import Plan

SHARE_TARGET = 0.9
TOTAL_TARGET = 8.0
IDEAL_TARGETS = {"scp": 4.0, "budgets": 2.5}


def compare(grid: str, size: Size, pools: Sequence[Pool], folder: Path, *, rounds: int, plain: bool) -> dict[str, Any]:
    """One grid, all ways in turns; medians over rounds."""
    study = study_of(grid, size)
    tell(f"{grid}: measuring step times")
    calibrations = measured(study, pools[0], folder / "calibrations")
    seen: list[dict[str, float]] = []
    facts: dict[str, Any] = {}
    for number in range(rounds):
        at = folder / f"round-{number}"

        def tree(at: Path = at) -> tuple[Way, Plan, list[Trial]]:
            return with_tree(study, pools[0], fresh(at / "tree", calibrations))

        def single(at: Path = at) -> Way:
            return without_tree(study, pools[1:], at / "settings", calibrations)

        tell(f"{grid}: round {number + 1} of {rounds}")
        if number % 2:  # the other way round, lest one always finds the machine as the other left it
            alone, (shared, stated, trials) = single(), tree()
        else:
            (shared, stated, trials), alone = tree(), single()
        facts["equal"] = check_equal(shared, alone)
        facts |= {"trials": len(trials), "alone_flops": stated.flops_alone, "spent_flops": stated.flops_spent}
        facts |= {"tree_flops": shared.flops, "single_flops": alone.flops}
        times = {"tree_s": shared.seconds, "single_s": alone.seconds, "ratio": alone.seconds / shared.seconds}
        times |= {"tree_busy": shared.busy, "single_busy": alone.busy}
        times |= {"tree_pack": shared.pack, "single_pack": alone.pack}
        if plain:
            tell(f"{grid}: plain trials under Ray Tune")
            times |= plain_times(trials, shared, size)
        seen.append(times)
        tell(f"{grid}: {json.dumps({name: round(value, 3) for name, value in times.items()})}")
    facts |= {name: statistics.median(times[name] for times in seen) for name in seen[0]}
    facts["ideal"] = facts["alone_flops"] / facts["spent_flops"]
    return facts | {"share": facts["ratio"] / facts["ideal"], "grid": grid, "rounds": rounds}


def plain_times(trials: Sequence[Trial], shared: Way, size: Size) -> dict[str, float]:
    """The grid as plain trials: some seeds of every setting, scaled by FLOPs."""
    from benchmarks.plain_tune import tuned

    some = [trial for trial in trials if trial.config.seed < size.plain_seeds]
    plain = tuned([trial.config for trial in some], workers=WORKERS)
    scale = sum(map(cost, trials)) / sum(map(cost, some))
    return {
        "plain_trials": len(some),
        "plain_s": plain.seconds,
        "plain_scale": scale,
        "plain_all_s": plain.seconds * scale,
        "total": plain.seconds * scale / shared.seconds,
        "plain_loss": plain.final_val_loss,
        "tree_loss": statistics.fmean(shared.losses[trial.trial_id] for trial in some),
        "actors": plain.processes,
    }


def cost(trial: Trial) -> int:
    return flops_alone(trial.config, chain=trial.links)


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def shown(found: dict[str, Any]) -> Iterator[str]:
    """The results of a grid, for people."""
    grid = found["grid"]
    ideal_target = f" (target {IDEAL_TARGETS[grid]:g}x)" if grid in IDEAL_TARGETS else ""
    yield f"{grid}: {found['equal']}"
    for name, way in (("with the tree", "tree"), ("without", "single")):
        how = f"workers train {100 * found[f'{way}_busy']:.0f} % of the time, in packs of {found[f'{way}_pack']:.1f}"
        yield f"  {name:16}{found[f'{way}_s']:9.1f} s   {how}"
    yield f"  {'ratio':16}{found['ratio']:9.2f} x"
    flops = f"{found['alone_flops']:.3g} FLOPs alone (trained: {found['single_flops']:.3g})"
    flops += f" / {found['spent_flops']:.3g} spent (trained: {found['tree_flops']:.3g})"
    yield f"  {'ideal':16}{found['ideal']:9.2f} x   {flops}{ideal_target}"
    yield f"  {'share':16}{100 * found['share']:9.0f} % of the ideal (target {100 * SHARE_TARGET:.0f} %)"
    if "plain_s" in found:
        some = f"{found['plain_trials']:.0f} of {found['trials']} trials in {found['plain_s']:.1f} s"
        some += f", times {found['plain_scale']:.2f} by FLOPs" if found["plain_trials"] < found["trials"] else ""
        losses = f"mean final val_loss {found['plain_loss']:.4f}, with the tree {found['tree_loss']:.4f}"
        yield f"  {'plain Ray Tune':16}{found['plain_all_s']:9.1f} s   {some}; {found['actors']:.0f} actors; {losses}"
        yield f"  {'in total':16}{found['total']:9.2f} x   plain Ray Tune / with the tree (target {TOTAL_TARGET:g}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="small: seconds; full: for the record")
    parser.add_argument("--grid", choices=[*GRIDS, "all"], default="all")
    parser.add_argument("--plain", action="store_true", help="plain PyTorch trials under Ray Tune too")
    parser.add_argument("--rounds", type=int, default=1, help="rounds in which the ways take turns; medians count")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args()
    plain = given.plain and importlib.util.find_spec("ray") is not None
    if given.plain and not plain:
        tell("ray is not installed: no plain trials")
    size = SIZES[given.size]
    results = []
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        tell("starting workers")
        pools = [opened(stack, Path(root) / "tree", WORKERS)]
        pools += [opened(stack, Path(root) / f"single-{number}", 1) for number in range(WORKERS)]
        for grid in GRIDS if given.grid == "all" else (given.grid,):
            found = compare(grid, size, pools, Path(root) / grid, rounds=given.rounds, plain=plain)
            results.append(found)
            if not given.json:
                print("\n".join(shown(found)), flush=True)
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
