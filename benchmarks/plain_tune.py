"""What people do today: one plain PyTorch trial after the other under Ray Tune's grid search; used by stage_tree.py.

A trial is an ordinary nn.Module (tests/core/reference.py, with torch's fused attention) and torch.optim.AdamW in an
ordinary loop. It begins from the same weights, draws the same batches, changes its loops at the same steps and is
evaluated at the same ones as loopsweep's; SCP asks its criterion itself. A Tune step trains to the next evaluation and
reports it. Ray is given its best: two actors that are used again, on one thread each, no checkpoints, and the clock
runs from the first update, when both are up and have imported torch, to the end of the last trial.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import TrialConfig, trial_config

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64
"""Updates whose batches are drawn at once."""
ACTORS_SECONDS = 120.0
"""Longest wait for all actors to be up."""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What Ray Tune's grid search took and found."""

    seconds: float
    final_val_loss: float
    """Mean over the trials."""
    processes: int
    """Actors that trained, in all."""


class PlainTrial:
    """One trial, from its first update on."""

    def __init__(self, config: TrialConfig) -> None:
        import torch

        from core.architecture import init_parameters
        from core.lineage import links, watch
        from core.task_data import task_data
        from core.watch import Check
        from tests.core.reference import PlainModel

        train = config.train
        if train.optimizer != "adamw" or train.clip:
            raise ValueError("the plain loop is written for AdamW without clipping")
        self.config = config
        self.data = task_data(config)
        self.model = PlainModel(config)
        self.model.take(init_parameters(config))
        betas = (train.beta1, train.beta2)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=train.lr, betas=betas, eps=train.eps, weight_decay=train.weight_decay
        )
        validation = self.data.validation()
        self.validation = torch.from_numpy(validation.inputs), torch.from_numpy(validation.targets)
        self.fixed = self._batches(0, 1)[0]
        self.step = 0
        self.ended: tuple[int, ...] = ()
        self.chain, self.watch = links(config), watch(config)
        self.seen: dict[int, Check] = {}

    @property
    def done(self) -> bool:
        """Whether all its updates are made."""
        return self.step == self.config.train.steps

    def advance(self) -> float:
        """Trains to the next step at which the trial is looked at; the validation loss there."""
        from core.lineage import links, watch
        from core.observation import evaluation_steps
        from core.watch import Check, ending

        checks = () if self.watch is None else self.watch.criterion.grid(self.watch.start)
        end = min(step for step in (*evaluation_steps(self.config, self.chain), *checks) if step > self.step)
        self.train_to(end)
        val_loss = self._evaluate()
        if self.watch is not None and end in checks:
            train_loss, grad_norm = self._gradient()
            self.seen[end] = Check(val_loss=val_loss, train_loss=train_loss, grad_norm=grad_norm)
            step = ending(self.watch.criterion, self.watch.start, self.seen)
            if step is not None:
                self.ended, self.seen = (*self.ended, step), {}
                self.chain, self.watch = links(self.config, self.ended), watch(self.config, self.ended)
        return val_loss

    def train_to(self, end: int) -> None:
        """The updates up to a step of the same stretch."""
        from core.optim import lr_factor

        lr = self.config.train.lr
        link = next(link for link in self.chain if link.start <= self.step < link.end)
        while self.step < end:
            for tokens, truth in self._batches(self.step, min(BLOCK, end - self.step)):
                loss = self._loss(tokens, truth, link.loops)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type
                self.step += 1
                for group in self.optimizer.param_groups:
                    group["lr"] = lr * lr_factor(self.config, link, self.step)
                self.optimizer.step()

    def _evaluate(self) -> float:
        import torch

        link = next(link for link in self.chain if link.start < self.step <= link.end)
        with torch.no_grad():
            return self._loss(*self.validation, link.loops).item()

    def _gradient(self) -> tuple[float, float]:
        """Loss and norm of its gradient on the first training batch."""
        import torch

        link = next(link for link in self.chain if link.start < self.step <= link.end)
        self.optimizer.zero_grad()
        loss = self._loss(*self.fixed, link.loops)
        loss.backward()  # type: ignore[no-untyped-call]  # torch publishes no type
        norms = [p.grad.norm() for p in self.model.parameters() if p.grad is not None]
        return loss.item(), float(torch.stack(norms).norm())

    def _loss(self, tokens: Tensor, truth: Tensor, loops: int) -> Tensor:
        from tests.core.reference import plain_loss

        return plain_loss(self.model, tokens, truth, loops=loops, injection="none", loss_on="last")

    def _batches(self, start: int, count: int) -> list[tuple[Tensor, Tensor]]:
        import torch

        inputs, targets = map(torch.from_numpy, self.data.batches(start, count))
        return list(zip(inputs, targets, strict=True))


def tuned(configs: Sequence[TrialConfig], *, workers: int) -> Plain:
    """Runs trials under Ray Tune's grid search, on a Ray of its own that ends with it.

    Args:
        configs: of the trials, one or more.
        workers: CPUs of the Ray, and actors at once.
    """
    from sweeps.ray_executor import start

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # no tables on stdout
    start(workers=workers)
    import ray
    from ray import tune

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            actors = Path(folder) / "actors"
            actors.mkdir()
            ends: list[float] = []

            class Clock(tune.Callback):  # type: ignore[misc]  # Ray publishes no types
                def on_trial_complete(self, **_more: Any) -> None:
                    ends.append(time.time())

                def __reduce__(self) -> tuple[Any, ...]:
                    return object, ()

            found = tune.Tuner(
                _trainable(actors, min(workers, len(configs))),
                param_space={"trial": tune.grid_search([config.to_dict() for config in configs])},
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(
                    name="plain",
                    storage_path=folder,
                    verbose=0,
                    callbacks=[Clock()],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
            if found.num_errors or len(ends) != len(configs):
                raise RuntimeError(f"{len(configs) - len(ends)} plain trials did not end: {found.errors[:1]}")
            last = [result.metrics for result in found]
    finally:
        ray.shutdown()
    return Plain(
        seconds=max(ends) - min(metrics["begun"] for metrics in last),
        final_val_loss=statistics.fmean(metrics["val_loss"] for metrics in last),
        processes=len({metrics["pid"] for metrics in last}),
    )


def _trainable(actors: Path, expected: int) -> Any:
    """The class that Tune makes actors of; they begin together, when all are up."""
    from ray import tune

    class PlainTrainable(tune.Trainable):  # type: ignore[misc]  # Ray publishes no types
        def setup(self, config: dict[str, Any]) -> None:
            from core.numerics import pin_threads

            pin_threads()
            PlainTrial(trial_config(config["trial"])).train_to(1)  # imports, and brings kernels into memory
            (actors / str(os.getpid())).touch()
            deadline = time.monotonic() + ACTORS_SECONDS
            while len(list(actors.iterdir())) < expected:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"fewer than {expected} actors are up after {ACTORS_SECONDS:g} s")
                time.sleep(0.01)
            self.reset_config(config)

        def reset_config(self, new_config: Mapping[str, Any]) -> bool:
            self.begun = time.time()
            self.plain = PlainTrial(trial_config(new_config["trial"]))
            return True

        def step(self) -> dict[str, Any]:
            val_loss = self.plain.advance()
            return {"val_loss": val_loss, "done": self.plain.done, "begun": self.begun, "pid": os.getpid()}

    return PlainTrainable
