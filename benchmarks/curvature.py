"""What do the top 20 eigenvalues of a small GPT's Hessian cost, with loopsweep and with the public tools?

At equal achieved error: models of about 2,000 and 5,000 parameters (LayerNorm, two heads of softmax attention, GELU
MLP; one and two blocks) are trained for some hundred steps, one per seed. The Hessian is that of the mean loss over the
probe batch. The same weights stand in an ordinary nn.Module for the tools, with the same loss to 1e-12 in float64, and
the truth is the exact spectrum in float64. The 20 are those of largest |λ|, what all tools can do; an error is the
largest difference of the sorted |λ| over the largest |λ|.

Every tool runs at its default, then up a ladder of settings until it is within 1e-6 (benchmarks/curvature_tools.py).
Its best for a target is, seed by seed, the cheapest setting that reached it; where none did, the most exact. A ratio is
the tool's seconds over those of loopsweep's cheapest setting within the target, or, for a tool's default, within what
it achieved. Seconds are CPU time of one thread, everything built anew from the weights on; the tools take turns at
going first from seed to seed; the table has medians over the seeds.

Then a pack of 8 toy models against the 8 one after the other, and the dense Hessian of one toy, three ways.

The tools are for this benchmark only; in an environment that has loopsweep:

    pip install pyhessian==0.1 curvlinops-for-pytorch==3.0.1 hessian-eigenthings==1.0.0a4
    python -m benchmarks.curvature [--size small|full] [--probe 8] [--json]
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from core.numerics import numerics_class, pin_threads, provenance

pin_threads()

import numpy as np  # noqa: E402 - after the threads are pinned
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812

from benchmarks.curvature_tools import (  # noqa: E402
    Eigenvalues,
    Setting,
    Subject,
    curvlinops_dense,
    double_backward,
    public_settings,
)
from core.config import trial_config  # noqa: E402
from core.hessian import Products  # noqa: E402
from core.lanczos import TOLERANCE  # noqa: E402
from core.lineage import links  # noqa: E402
from core.pack import initial_state  # noqa: E402
from core.probes import Probe  # noqa: E402
from core.ranks import Ranked, ranked  # noqa: E402
from core.segments import Segment  # noqa: E402
from core.task_data import task_data  # noqa: E402
from core.train import train_segments  # noqa: E402

OURS = "loopsweep"
COUNT = 20
TARGETS = (1e-3, 1e-6)
MAX_PRODUCTS = 512
RATIOS = {"PyHessian": 10.0, "curvlinops": 5.0, "hessian-eigenthings": 2.5, "… by differences": 2.5}
PACK, PACK_RATIO = 8, 2.0
MODELS: dict[str, dict[str, Any]] = {
    "GPT, 2,088 parameters": {"width": 12, "heads": 2, "loops": 1, "norm": "layer", "mlp_ratio": 3.0},
    "GPT, 5,024 parameters": {"width": 16, "heads": 2, "loops": 1, "norm": "layer", "mlp_ratio": 2.0, "depth": 2},
}
TOY: dict[str, Any] = {"width": 16, "loops": 3}
STEPS = 300


def trained(model: dict[str, Any], seeds: Sequence[int], *, probe: int) -> Probe:
    """Trials of one model, trained as a pack, at their last step."""
    configs = [
        trial_config(
            {
                "task": {"states": 16, "length": 16, "train_size": 0, "val_size": max(2, probe)},
                "model": model,
                "train": {"steps": STEPS, "batch": 16, "lr": 3e-3, "evaluate_every": STEPS},
                "measure": {"probe": probe},
                "seed": seed,
            }
        )
        for seed in seeds
    ]
    chains = [links(config)[:1] for config in configs]
    segments = [
        Segment(config=config, chain=chain, start=0, end=STEPS, evaluate=())
        for config, chain in zip(configs, chains, strict=True)
    ]
    done = train_segments(segments, [initial_state(config) for config in configs])
    sets = [task_data(config).validation() for config in configs]
    return Probe(
        configs=configs,
        chains=chains,
        states=[result.state for result in done],
        inputs=torch.stack([torch.from_numpy(s.inputs[:probe]) for s in sets]),
        targets=torch.stack([torch.from_numpy(s.targets[:probe]) for s in sets]),
        train=train_segments,
    )


def pick(probe: Probe, lanes: Sequence[int]) -> Probe:
    """Some lanes of a probe, with nothing worked out."""
    return Probe(
        configs=[probe.configs[lane] for lane in lanes],
        chains=[probe.chains[lane] for lane in lanes],
        states=[probe.states[lane] for lane in lanes],
        inputs=probe.inputs[list(lanes)],
        targets=probe.targets[list(lanes)],
        train=probe.train,
    )


def subject(probe: Probe) -> Subject:
    """A probe of one lane as the public tools take it; asserts that it has the same loss."""
    found = Subject(
        config=probe.configs[0],
        state=probe.states[0],
        inputs=probe.inputs[0],
        targets=probe.targets[0],
        seed=probe.configs[0].seed,
    )
    expected = float(probe.loss(probe.params)[0])
    for written in (False, True):
        model = found.module(torch.float64, written_norm=written)
        loss = F.cross_entropy(model(found.inputs), found.flat).item()
        assert abs(loss - expected) <= 1e-12 * abs(expected), f"other losses: {expected!r}, {loss!r}"
    return found


def worst_error(found: Eigenvalues, exact: Eigenvalues) -> float:
    """Largest difference of sorted |λ|, over the largest |λ|; infinite where some are missing."""
    if len(found) != len(exact):
        return float("inf")
    return float(np.abs(np.sort(np.abs(found))[::-1] - exact).max() / exact[0])


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    begun = time.process_time()
    found = run()
    return time.process_time() - begun, found


def ours(probe: Probe, tolerance: float = TOLERANCE, *, copies: bool = True) -> list[tuple[Eigenvalues, int]]:
    """By lane, the eigenvalues of largest |λ| and the products they took.

    Args:
        probe: the lanes.
        tolerance: of the residuals, relative to the largest |λ|.
        copies: also look for missed copies of multiple eigenvalues, as measurements by rank do and no other tool.
    """

    def run(lane: int) -> Products[Ranked]:
        start = probe.direction(lane, "start")
        again = partial(probe.direction, lane, "start") if copies else None
        return ranked(start, again, magnitude=COUNT, tolerance=tolerance, max_products=MAX_PRODUCTS)

    found = probe.drive([(lane, run(lane)) for lane in range(probe.lanes)])
    return [(np.array([e.value for e in lane.magnitude], dtype=np.float64), lane.products) for lane in found]


def our_settings(probe: Probe) -> list[Setting]:
    """Our ladder, for a probe of one lane: default tolerance and look for copies, then by tolerance without it."""
    measured = Setting(tool=OURS, name="default", rung="default", default=True, run=lambda _: ours(pick(probe, [0]))[0])
    return [measured] + [
        Setting(
            tool=OURS,
            name=f"tolerance {tolerance:g}",
            rung="tolerance",
            run=lambda _, tolerance=tolerance: ours(pick(probe, [0]), tolerance, copies=False)[0],
        )
        for tolerance in (3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-6, 1e-9)
    ]


def contest(probe: Probe, *, turn: int) -> list[dict[str, Any]]:
    """All settings of all tools on a probe of one lane: seconds, products and error of each that was run."""
    spectrum = torch.linalg.eigvalsh(pick(probe, [0]).dense(0))
    exact = spectrum.abs().sort(descending=True).values[:COUNT].numpy()
    theirs = subject(probe)
    settings = our_settings(probe) + public_settings(COUNT)
    tools = list(dict.fromkeys(setting.tool for setting in settings))
    tools = tools[turn % len(tools) :] + tools[: turn % len(tools)]
    rows: list[dict[str, Any]] = []
    for setting in sorted(settings, key=lambda s: tools.index(s.tool)):
        reached = [
            row
            for row in rows
            if (row["tool"], row["rung"]) == (setting.tool, setting.rung) and row["error"] <= TARGETS[-1]
        ]
        if reached and setting.tool != OURS:
            continue
        seconds, (values, products) = cpu_seconds(lambda setting=setting: setting.run(theirs))
        rows.append(
            {
                "tool": setting.tool,
                "setting": setting.name,
                "rung": setting.rung,
                "default": setting.default,
                "seconds": seconds,
                "products": products,
                "error": worst_error(values, exact),
            }
        )
    return rows


def cheapest(rows: Sequence[dict[str, Any]], tool: str, error: float) -> dict[str, Any] | None:
    """The cheapest run of a tool within an error."""
    return min((r for r in rows if r["tool"] == tool and r["error"] <= error), key=lambda r: r["seconds"], default=None)


def compared(by_seed: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Per tool: its default, and its best for each target, over the seeds."""
    lines = []
    for tool in dict.fromkeys(row["tool"] for row in by_seed[0]):
        for target in (None, *TARGETS):
            chosen, ratios = [], []
            for rows in by_seed:
                mine = [row for row in rows if row["tool"] == tool]
                if target is None:
                    row = next(row for row in mine if row["default"])
                else:
                    row = cheapest(rows, tool, target) or min(mine, key=lambda r: r["error"])
                bar = cheapest(rows, OURS, max(row["error"], target or 0.0))
                chosen.append(row)
                ratios.append(row["seconds"] / bar["seconds"] if bar else float("nan"))
            lines.append(
                {
                    "tool": tool,
                    "target": target,
                    "reached": sum(target is None or row["error"] <= target for row in chosen),
                    "seeds": len(by_seed),
                    "setting": statistics.mode(row["setting"] for row in chosen),
                    "ratio": statistics.median(ratios),
                    **{key: statistics.median(row[key] for row in chosen) for key in ("seconds", "products", "error")},
                }
            )
    return lines


def packed(probe: Probe, *, rounds: int) -> dict[str, float]:
    """CPU seconds per model of a pack and of its lanes one after the other, and the ratio; medians over rounds."""
    together, single = [], []
    lanes = range(probe.lanes)
    for _ in range(rounds):
        seconds, pack_found = cpu_seconds(lambda: ours(pick(probe, lanes)))
        together.append(seconds / probe.lanes)
        seconds, single_found = cpu_seconds(lambda: [ours(pick(probe, [lane]))[0] for lane in lanes])
        single.append(seconds / probe.lanes)
        for (a, products), (b, others) in zip(pack_found, single_found, strict=True):
            assert products == others, "a lane takes other products in a pack"
            assert a.tobytes() == b.tobytes(), "a lane has other bits in a pack"
    return {
        "parameters": probe.size,
        "pack_s": statistics.median(together),
        "single_s": statistics.median(single),
        "ratio": statistics.median(s / t for s, t in zip(single, together, strict=True)),
    }


def dense(probe: Probe, *, rounds: int) -> list[dict[str, Any]]:
    """CPU seconds of the dense Hessian of a probe of one lane, each way; medians over rounds, and ratios to ours."""
    theirs = subject(probe)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        OURS: lambda: pick(probe, [0]).dense(0),
        "PyTorch, double backward by rows": lambda: double_backward(theirs),
        "curvlinops": lambda: curvlinops_dense(theirs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    norms = {}
    for _ in range(rounds):
        for name, run in ways.items():
            taken, hessian = cpu_seconds(run)
            seconds[name].append(taken)
            norms[name] = float(hessian.norm())
    ratios = {name: [t / o for t, o in zip(each, seconds[OURS], strict=True)] for name, each in seconds.items()}
    return [
        {
            "way": name,
            "seconds": statistics.median(each),
            "ratio": statistics.median(ratios[name]),
            "error": abs(norms[name] / norms[OURS] - 1),
        }
        for name, each in seconds.items()
    ]


def show(name: str, lines: Sequence[dict[str, Any]]) -> None:
    print(f"{name}: top {COUNT} by |λ|")
    for target in (None, *TARGETS):
        print("  at its default" if target is None else f"  best setting within {target:g}")
        for line in (line for line in lines if line["target"] == target):
            aim = RATIOS.get(line["tool"]) if target == TARGETS[-1] else None
            aimed = "" if aim is None else f" (target {aim:g}x)"
            missed = line["seeds"] - line["reached"]
            print(
                f"    {line['tool']:<20}{line['seconds']:8.3f} s {line['products']:6.0f} products  "
                f"error {line['error']:.0e}  {line['ratio']:6.2f}x{aimed:<15} {line['setting']}"
                + (f"; missed on {missed} of {line['seeds']} seeds" if missed else ""),
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--size", choices=("small", "full"), default="full", help="small: one seed of one model")
    parser.add_argument("--probe", type=int, default=8, help="sequences of 16 tokens in the probe batch")
    given = parser.parse_args()
    tools = ("pyhessian", "curvlinops", "hessian_eigenthings")
    missing = [name for name in tools if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not installed; see the head of {__file__}")
    # PyHessian takes gradients with `backward`; curvlinops' vmap has no rule for an operator of attention's.
    warnings.filterwarnings("ignore", category=UserWarning, message=".*(create_graph=True|batching rule).*")
    seeds, models, rounds = (1, 1, 3) if given.size == "small" else (5, len(MODELS), 7)

    results: dict[str, Any] = {"numerics_class": numerics_class("cpu"), "provenance": provenance("cpu"), "models": {}}
    for name in list(MODELS)[:models]:
        probe = trained(MODELS[name], range(seeds), probe=given.probe)
        warm(pick(probe, [0]))
        by_seed = [contest(pick(probe, [lane]), turn=lane) for lane in range(seeds)]
        results["models"][name] = {"lines": compared(by_seed), "runs": by_seed}
        if not given.json:
            show(name, results["models"][name]["lines"])
    toys = trained(TOY, range(PACK), probe=given.probe)
    results["pack"] = packed(toys, rounds=rounds)
    results["dense"] = dense(pick(toys, [0]), rounds=1 if given.size == "small" else 2)
    if given.json:
        print(json.dumps(results, indent=1, sort_keys=True))
        return
    line = results["pack"]
    print(
        f"pack of {PACK} toys, {line['parameters']} parameters, per model: {line['pack_s']:.3f} s against "
        f"{line['single_s']:.3f} s alone, {line['ratio']:.2f}x (target {PACK_RATIO:g}x); bits are equal"
    )
    print(f"dense Hessian of one toy, {line['parameters']} parameters")
    for line in results["dense"]:
        print(f"    {line['way']:<34} {line['seconds']:7.2f} s {line['ratio']:6.2f}x  norm off by {line['error']:.0e}")


def warm(probe: Probe) -> None:
    """Imports and first calls of everybody, before any clock starts."""
    theirs = subject(probe)
    for setting in our_settings(probe) + public_settings(2):
        if setting.default:
            setting.run(theirs)


if __name__ == "__main__":
    main()
