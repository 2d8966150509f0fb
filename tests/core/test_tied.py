"""The tied head of a large vocabulary is the plain product: values, gradients, and the same bits in any pack."""

from __future__ import annotations

import pytest
import torch

from core.tied import LARGE_VOCABULARY, tied_logits

V = LARGE_VOCABULARY + 4


def gradients(x: torch.Tensor, embedding: torch.Tensor, grad: torch.Tensor, *, math: bool) -> tuple[torch.Tensor, ...]:
    leaves = [t.clone().requires_grad_() for t in (x, embedding)]
    logits = tied_logits(*leaves, math=math)
    return logits, *torch.autograd.grad(logits, leaves, grad)


def drawn(lanes: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shapes = ((lanes, 24, 16), (lanes, V, 16), (lanes, 24, V))
    generator = torch.Generator().manual_seed(0)
    x, embedding, grad = (torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)
    return x, embedding, grad


def test_it_is_the_plain_product_and_its_gradient_lies_as_the_embedding_does():
    given = drawn(2, torch.float64)
    for ours, plain in zip(gradients(*given, math=False), gradients(*given, math=True), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    assert gradients(*given, math=False)[2].is_contiguous()


def test_bits_of_a_lane_do_not_depend_on_the_pack():
    given = drawn(3, torch.float32)
    whole = gradients(*given, math=False)
    for lane in range(3):
        alone = gradients(*(part[lane : lane + 1] for part in given), math=False)
        assert all(torch.equal(a[0], b[lane]) for a, b in zip(alone, whole, strict=True))


def test_a_second_derivative_is_refused_and_has_a_way():
    x, embedding, _ = drawn(1, torch.float64)
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="math_attention=True"):
        torch.autograd.grad(tied_logits(x, embedding, math=False).square().sum(), x, create_graph=True)
    (first,) = torch.autograd.grad(tied_logits(x, embedding, math=True).square().sum(), x, create_graph=True)
    torch.autograd.grad(first.sum(), x)


def test_autocast_goes_through_autograd():
    x, embedding, grad = drawn(1, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, *_ = gradients(x, embedding, grad.bfloat16(), math=False)
    assert logits.dtype == torch.bfloat16
