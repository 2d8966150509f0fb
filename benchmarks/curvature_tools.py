"""The public tools that curvature.py stands beside: PyHessian, curvlinops and hessian-eigenthings.

Each is given the ordinary nn.Module of tests/core/reference.py in a form that it can use, and a ladder of settings,
from its default to slower and more exact ones. All have attention by its formula, since the fused kernel has no second
derivative. What would hold a tool back and is not its own work is put right for its best settings:

- PyHessian divides by norm + 1e-6, so that its eigenvalues are low by 2e-6 of themselves: multiplied back;
- curvlinops differentiates `jacrev` forwards, which is wrong under torch's own LayerNorm: the layer written out;
- hessian-eigenthings drops reorthogonalisation beyond 50 steps: kept; and its finite differences, at two gradients a
  product the cheapest of its ways, are taken in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.checkpoint import TrialState
from core.config import TrialConfig
from core.lineage import links
from tests.core.reference import PlainModel

Eigenvalues = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model and its probe batch, for those who take an nn.Module."""

    config: TrialConfig
    state: TrialState
    inputs: Tensor
    """`[n, T]`."""
    targets: Tensor
    """`[n, T]`."""
    seed: int
    """Of the tool's own random vectors."""

    @property
    def flat(self) -> Tensor:
        """The targets `[n · T]`, beside the logits `[n · T, V]`."""
        return self.targets.flatten()

    def module(self, dtype: torch.dtype, *, written_norm: bool = False) -> PlainGPT:
        """The model in this precision."""
        return PlainGPT(self.config, self.state, dtype, written_norm=written_norm)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a tool."""

    tool: str
    name: str
    rung: str
    """Settings of one rung are climbed from cheap to exact; a rung is left where the strictest target is reached."""
    run: Callable[[Subject], tuple[Eigenvalues, int | None]]
    """The eigenvalues it finds, and how many products it took."""
    default: bool = False


class WrittenNorm(nn.Module):
    """A LayerNorm as its formula."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`, normalised over the last axis."""
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias


class PlainGPT(nn.Module):
    """Logits `[n · T, V]` of the plain model, whose mean cross-entropy is the loss."""

    def __init__(self, config: TrialConfig, state: TrialState, dtype: torch.dtype, *, written_norm: bool) -> None:
        super().__init__()
        self.model = PlainModel(config).to(dtype)
        self.model.take({name: p.to(dtype) for name, p in state.parameters.items()})
        if written_norm:
            for owner in [self.model, *self.model.blocks]:
                for name, child in list(owner.named_children()):
                    if isinstance(child, nn.LayerNorm):
                        setattr(owner, name, WrittenNorm(child))
        self.loops = links(config)[0].loops
        self.steps = 0
        """Times that the gradients were cleared: PyHessian does so before every product."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of `[n, T]` tokens."""
        with sdpa_kernel(SDPBackend.MATH):
            (logits,) = self.model(tokens, loops=self.loops, injection="none", every=False)
        return logits.flatten(0, 1)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients, and counts it."""
        self.steps += 1
        super().zero_grad(set_to_none)


def pyhessian(subject: Subject, count: int, dtype: torch.dtype, **limits: float) -> tuple[Eigenvalues, int]:
    """Power iteration with deflation."""
    from pyhessian import hessian

    torch.manual_seed(subject.seed)
    torch.set_default_dtype(dtype)
    try:
        model = subject.module(dtype)
        data = subject.inputs, subject.flat
        found, _ = hessian(model, F.cross_entropy, data=data, cuda=False).eigenvalues(top_n=count, **limits)
        for parameter in model.parameters():
            parameter.grad = None  # it keeps the graph of the gradient in a cycle
    finally:
        torch.set_default_dtype(torch.float32)
    return np.asarray(found, dtype=np.float64) * (1 + 1e-6) ** 2, model.steps


def curvlinops(
    subject: Subject, count: int, dtype: torch.dtype, *, written: bool, check: bool = True, **limits: float
) -> tuple[Eigenvalues, int]:
    """Its Hessian as a scipy operator under ARPACK's eigsh, as its manual does it."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    torch.manual_seed(subject.seed)
    model = subject.module(dtype, written_norm=written)
    data = [(subject.inputs, subject.flat)]
    hessian = HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        data,
        check_deterministic=check,
        num_data=subject.targets.numel(),
        batch_size_fn=lambda tokens: tokens.numel(),
    ).to_scipy()
    products = itertools.count()

    def product(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        next(products)
        return hessian @ vector

    start = np.random.default_rng(subject.seed).standard_normal(hessian.shape[0]).astype(hessian.dtype)
    counted = LinearOperator(hessian.shape, matvec=product, dtype=hessian.dtype)
    found = eigsh(counted, k=count, which="LM", return_eigenvectors=False, v0=start, **limits)
    return np.asarray(found, dtype=np.float64), next(products)


def eigenthings(
    subject: Subject, count: int, dtype: torch.dtype, *, method: str = "autograd", **limits: int | bool
) -> tuple[Eigenvalues, int]:
    """Lanczos over double backward built anew for each product, or over central differences of the gradient."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    model = subject.module(dtype)
    data = [(subject.inputs, subject.flat)]
    operator = HessianOperator(model, data, supervised_loss(F.cross_entropy), method=method)
    found = lanczos(operator, k=count, which="LM", seed=subject.seed, **limits)
    return found.eigenvalues.double().numpy(), found.iterations


def public_settings(count: int) -> list[Setting]:
    """The ladders of the three tools, for so many eigenvalues."""
    short, long = torch.float32, torch.float64
    settings = [
        Setting(
            tool="PyHessian", name="default", rung="default", default=True, run=lambda s: pyhessian(s, count, short)
        ),
        Setting(
            tool="PyHessian",
            name="float64, 300 iterations, tol 1e-10",
            rung="float64",
            run=lambda s: pyhessian(s, count, long, maxIter=300, tol=1e-10),
        ),
        Setting(
            tool="curvlinops",
            name="default + eigsh default",
            rung="default",
            default=True,
            run=lambda s: curvlinops(s, count, short, written=False),
        ),
    ]
    for dtype, name, basis in ((short, "float32", 41), (short, "float32", 80), (long, "float64", 41)):
        for tol in (1e-1, 1e-2, 1e-3, 1e-5):
            settings.append(
                Setting(
                    tool="curvlinops",
                    name=f"written norm, {name}, basis {basis}, tol {tol:g}",
                    rung=f"{name} {basis}",
                    run=lambda s, dtype=dtype, basis=basis, tol=tol: curvlinops(
                        s, count, dtype, written=True, check=False, ncv=basis, tol=tol
                    ),
                )
            )
    settings += [
        Setting(
            tool="hessian-eigenthings",
            name="default",
            rung="default",
            default=True,
            run=lambda s: eigenthings(s, count, short),
        ),
        Setting(
            tool="… by differences",
            name="default",
            rung="default",
            default=True,
            run=lambda s: eigenthings(s, count, short, method="finite_difference"),
        ),
    ]
    ways = (
        ("hessian-eigenthings", "float32", short, "autograd"),
        ("hessian-eigenthings", "float64", long, "autograd"),
        ("… by differences", "float64", long, "finite_difference"),
    )
    for tool, way, dtype, method in ways:
        for steps in (60, 70, 80, 90, 100, 120, 150, 200):
            settings.append(
                Setting(
                    tool=tool,
                    name=f"{way}, {steps} steps",
                    rung=way,
                    run=lambda s, dtype=dtype, method=method, steps=steps: eigenthings(
                        s, count, dtype, method=method, max_iter=steps, reorthogonalize=True
                    ),
                )
            )
    return settings


def double_backward(subject: Subject) -> Tensor:
    """The Hessian row by row, from one kept graph of the gradient: what one writes in plain PyTorch."""
    model = subject.module(torch.float64)
    parameters = list(model.parameters())
    loss = F.cross_entropy(model(subject.inputs), subject.flat)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in gradient]
    return torch.stack([torch.cat([piece.flatten() for piece in row]) for row in rows])


def curvlinops_dense(subject: Subject, columns: int = 64) -> Tensor:
    """The Hessian as curvlinops' products with unit vectors, so many under one vmap."""
    from curvlinops import HessianLinearOperator

    model = subject.module(torch.float64)
    hessian = HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(subject.inputs, subject.flat)],
        check_deterministic=False,
        num_data=subject.flat.numel(),
        batch_size_fn=lambda tokens: tokens.numel(),
    )
    units = torch.eye(hessian.shape[0], dtype=torch.float64)
    return torch.cat([hessian @ units[:, low : low + columns] for low in range(0, len(units), columns)], 1)
