"""What does a step of a model of GPT-2 small's shape take, in time and memory, against a plain PyTorch GPT?

Width 768, 12 heads, an MLP of ratio 4, layer norm, learned positions, tied output, V = 50,257; 12 blocks applied once
(12⊗1) and 4 blocks looped three times (4⊗3). The plain GPT is what one would write without loopsweep: an nn.Module with
one product for queries, keys and values, torch's fused attention, `torch.optim.AdamW` as it comes. Ours is the step of
`core.train` on a pack of one: `core.flat`, `core.engines`, `core.optim`. Neither has biases but the norms' own,
so both are one function, which is checked before anything is timed: equal losses before and after an update. Steps are
taken in turns on one core, by CPU time; the ratio is the median over rounds. On a CPU the batch is one sequence of 256
tokens (GPT-2's is 1,024: four times the time); memory is the peak of a process of its own that takes two steps.

Where there is a CUDA GPU: the share of a measured peak of square products that the model's FLOPs (`core.flops`) reach,
with batches of 8 × 1,024 tokens; and packs of 1 … 64 toys against one by one, by both engines, in float32 and bf16.

    python -m benchmarks.model [--json] [--rounds 5] [--length 256] [--batch 1]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from core.numerics import numerics_class, pin_threads, provenance

pin_threads()

import torch  # noqa: E402 - after the threads are pinned
import torch.nn.functional as F  # noqa: E402, N812 - torch's own name for it
from torch import Tensor, nn  # noqa: E402

from benchmarks.packs import CASES, calibrated, pack_steps, seconds  # noqa: E402
from core import optim  # noqa: E402
from core.architecture import architecture, autocast, init_parameters, parameter_shapes  # noqa: E402
from core.config import TrialConfig, trial_config  # noqa: E402
from core.engines import losses_by  # noqa: E402
from core.flat import Layout, Leaves  # noqa: E402
from core.flops import parameters, step_flops  # noqa: E402
from core.lineage import links  # noqa: E402

MODELS = {"12⊗1": {"depth": 12, "loops": 1}, "4⊗3": {"depth": 4, "loops": 3}}
GPT2 = {"width": 768, "heads": 12, "mlp_ratio": 4.0, "norm": "layer", "position": "learned", "output": "tied"}
VOCABULARY = 50_257
TARGET = 1.0
"""Least ratio plain / ours of the time of a step."""
GPU_TARGET = 20.0
"""Least ratio of a toy's step by itself to its step in the best pack, on a GPU."""
GPU_PACKS = (1, 2, 4, 8, 16, 32, 64)
TOLERANCE = 1e-4

Step = Callable[[Tensor, Tensor], Tensor]
"""One update with inputs and targets `[B, T]`; gives the loss before it."""


def gpt(
    model: Mapping[str, Any], *, length: int, batch: int, vocabulary: int = VOCABULARY, **train: Any
) -> TrialConfig:
    """The trial of a GPT; its task is there for the sizes only, since tokens are drawn uniformly."""
    terms = {"task": {"length": length}, "model": dict(model), "train": {"batch": batch, "lr": 3e-4, **train}}
    config = trial_config(terms)
    # Past the largest alphabet that the task's chains may have, which are never drawn here.
    return replace(config, task=replace(config.task, states=vocabulary))


class PlainBlock(nn.Module):
    """Pre-norm attention, then an MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, D]` → the same."""
        B, T, D = x.shape
        parts = self.qkv(self.attention_norm(x)).split(D, 2)
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, D))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


class PlainGPT(nn.Module):
    """A GPT whose blocks are applied so many times, with tied output."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__()
        model, task = config.model, config.task
        self.loops = links(config)[-1].loops
        self.embedding = nn.Embedding(task.vocabulary, model.width)
        self.position = nn.Embedding(task.context, model.width)
        self.blocks = nn.ModuleList(PlainBlock(model.width, model.heads, model.hidden) for _ in range(model.depth))
        self.norm = nn.LayerNorm(model.width)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        for _ in range(self.loops):
            for block in self.blocks:
                x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def take(self, given: Mapping[str, Tensor]) -> None:
        """Sets the weights from those of a trial of `core.model`."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                owner, _, kind = name.rpartition(".")
                if owner.endswith("norm"):
                    value = given[f"{owner}.{'gain' if kind == 'weight' else 'bias'}"]
                elif owner.endswith("qkv"):
                    block = owner.removesuffix("qkv")
                    value = torch.cat([given[block + matrix] for matrix in ("query", "key", "value")], 1).T
                else:
                    value = given[owner] if owner in ("embedding", "position") else given[owner].T
                parameter.copy_(value)


def plain_step(config: TrialConfig, weights: Mapping[str, Tensor], device: torch.device) -> Step:
    """Updates in the ordinary way."""
    model, train = PlainGPT(config), config.train
    model.take(weights)
    model.to(device)
    betas = (train.beta1, train.beta2)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.lr, betas=betas, eps=train.eps, weight_decay=train.weight_decay
    )

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(config, device):
            loss = model(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def our_step(config: TrialConfig, weights: Mapping[str, Tensor], device: torch.device) -> Step:
    """Updates of a pack of one as `core.train` makes them, on given tokens."""
    arch, (link, *_), updates = architecture(config), links(config), iter(range(10**9))
    layout = Layout(shapes=parameter_shapes(arch))
    flat = layout.stack([weights], device=device, dtype=torch.float32)
    leaves = Leaves(layout, flat)
    slots = [torch.zeros_like(flat) for _ in optim.SLOTS[config.train.optimizer]]
    losses = losses_by("eager", device)
    terms = {"loops": link.loops, "injection": link.injection, "loss_on": link.loss_on}

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(config, device):
            loss = losses(leaves.params, inputs[None], targets[None], arch, **terms)
        grad = leaves.gradient(loss)
        with torch.no_grad():
            optim.norms(grad)
            optim.norms(flat)
            table = optim.coefficient_block([config], [link], next(updates), 1, flat)
            decays = config.train.weight_decay > 0
            optim.update(flat, grad, slots, table[0], optimizer=config.train.optimizer, decays=decays)
        return loss.detach()[0]

    return step


STEPS = {"plain": plain_step, "ours": our_step}


def tokens(config: TrialConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Uniform inputs and targets `[B, T]`, always the same."""
    shape = (2, config.train.batch, config.task.context)
    drawn = torch.randint(config.task.vocabulary, shape, generator=torch.Generator().manual_seed(0)).to(device)
    return drawn[0], drawn[1]


def refuse_others(config: TrialConfig, steps: Mapping[str, Step], batch: tuple[Tensor, Tensor]) -> None:
    """Ends the benchmark where the two do not compute the same: two losses of each, an update between them."""
    found = {name: [float(step(*batch)) for _ in range(2)] for name, step in steps.items()}
    if any(abs(a - b) > TOLERANCE for a, b in zip(*found.values(), strict=True)):
        raise SystemExit(f"the models of {config.model} are not the same function: losses {found}")


def timed(config: TrialConfig, device: torch.device, *, rounds: int) -> dict[str, Any]:
    """Seconds of a step of both, in turns, and of their losses."""
    weights, batch = init_parameters(config), tokens(config, device)
    steps = {name: make(config, weights, device) for name, make in STEPS.items()}
    if config.train.precision == "float32":
        refuse_others(config, steps, batch)

    def once(step: Step) -> None:
        float(step(*batch))  # waits for the device

    for step in steps.values():
        once(step)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(clocked(device, partial(once, step)))
    return {
        "seconds": {name: statistics.median(each) for name, each in times.items()},
        "ratio": statistics.median(p / o for p, o in zip(times["plain"], times["ours"], strict=True)),
        "flops": step_flops(config, loops=links(config)[-1].loops),
    }


def clocked(device: torch.device, run: Callable[[], object]) -> float:
    """Seconds of CPU time on a CPU, where other processes may want the core too; on a GPU of the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    run()
    return clock() - begun


def peak_flops(device: torch.device, dtype: torch.dtype, *, size: int, repeats: int = 20, rounds: int = 5) -> float:
    """FLOP per second of a square product, the best of some rounds."""
    square = torch.randn(size, size, device=device).to(dtype)

    def run() -> None:
        for _ in range(repeats):
            product = square @ square
        float(product[0, 0])  # waits for the device

    run()
    return repeats * 2 * size**3 / min(clocked(device, run) for _ in range(rounds))


def peak_memory(who: str, config: TrialConfig) -> int:
    """Bytes that this process has held at most, once it has taken two steps."""
    step = STEPS[who](config, init_parameters(config), torch.device("cpu"))
    for _ in range(2):
        step(*tokens(config, torch.device("cpu")))
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_of(who: str, name: str, *, length: int, batch: int) -> int:
    """`peak_memory` in a process of its own; to be asked before this one is large, whose peak Linux hands on."""
    asked = ["--memory", who, name, "--length", str(length), "--batch", str(batch)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.model", *asked], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def gpu_packs(precision: str, engine: Any) -> dict[int, float]:
    """Seconds per trial-step of the toy on the GPU, by pack size."""
    _, terms = CASES["toy, batch 32, width 32, length 16"]
    task = {**terms["task"], "states": 16, "train_size": 0, "val_size": 16}
    config = trial_config({**terms, "task": task, "train": {**terms["train"], "precision": precision}})
    found = {}
    for lanes in GPU_PACKS:
        run, steps = calibrated(partial(pack_steps, config, lanes, engine=engine, device="cuda"), 0.25)
        found[lanes] = statistics.median(seconds(run) for _ in range(5)) / (steps * lanes)
    return found


def on_cpu(given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Time and memory of both models."""
    results: dict[str, Any] = {}
    sizes = {"length": given.length, "batch": given.batch}
    memory = {name: {who: memory_of(who, name, **sizes) for who in STEPS} for name in MODELS}
    for name, blocks in MODELS.items():
        config = gpt(GPT2 | blocks, **sizes)
        done = timed(config, torch.device("cpu"), rounds=given.rounds)
        peak = peak_flops(torch.device("cpu"), torch.float32, size=768)
        results[name] = {**done, "memory_bytes": memory[name], "peak_flops": peak, "parameters": parameters(config)}
        millions = parameters(config) / 1e6
        say(f"{name}: {millions:.0f} M parameters, batch {given.batch} × {given.length}, V {VOCABULARY:,}")
        say(f"  plain / ours {done['ratio']:.3f} (target ≥ {TARGET:g}); matmul peak {peak / 1e9:.0f} GFLOP/s")
        for who, taken in done["seconds"].items():
            share, held = 100 * done["flops"] / taken / peak, memory[name][who] / 2**30
            say(f"  {who:>5} {taken:7.3f} s per step, {share:5.1f} % of the peak, memory at most {held:.2f} GiB")
    return results


def on_gpu(given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Model FLOP utilisation, and packs of toys."""
    cuda, results = torch.device("cuda"), {}
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        peak = peak_flops(cuda, dtype, size=8192)
        for name, blocks in MODELS.items():
            config = gpt(GPT2 | blocks, length=1024, batch=8, precision=precision)
            done = timed(config, cuda, rounds=given.rounds)
            results[f"{name} {precision}"] = {**done, "peak_flops": peak}
            shares = ", ".join(f"{who} {100 * done['flops'] / s / peak:.1f} %" for who, s in done["seconds"].items())
            say(f"{name} {precision}: of {peak / 1e12:.0f} TFLOP/s {shares}; plain / ours {done['ratio']:.3f}")
        for engine in ("eager", "compiled"):
            packs = gpu_packs(precision, engine)
            results[f"toy {precision} {engine}"] = packs
            gains = ", ".join(f"{lanes}: {packs[1] / taken:.1f}x" for lanes, taken in packs.items())
            say(f"toy {precision} {engine}: one by one {1e3 * packs[1]:.3f} ms; {gains} (target ≥ {GPU_TARGET:g}x)")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which both take turns")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence on the CPU")
    parser.add_argument("--batch", type=int, default=1, help="sequences of a batch on the CPU")
    parser.add_argument("--memory", nargs=2, metavar=("WHO", "MODEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        who, name = given.memory
        print(peak_memory(who, gpt(GPT2 | MODELS[name], length=given.length, batch=given.batch)))
        return
    say = (lambda _line: None) if given.json else partial(print, flush=True)
    results: dict[str, Any] = {"numerics_class": numerics_class("cpu"), "provenance": provenance("cpu")}
    results["cpu"] = on_cpu(given, say)
    if torch.cuda.is_available():
        results |= {"cuda": on_gpu(given, say), "cuda_provenance": provenance("cuda")}
    else:
        say("skipped, no CUDA device: model FLOP utilisation, packs of 1 … 64 toys on a GPU")
    if given.json:
        print(json.dumps(results, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
