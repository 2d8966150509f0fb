"""Loops by length, truncated back-propagation and masks: values, gradients, FLOPs and identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.architecture import architecture, init_parameters
from core.config import TrialConfig, trial_config
from core.draws import loop_draws
from core.errors import InputError
from core.flops import expected_flops, flops_alone, link_flops, step_flops
from core.lengths import batch_lengths, loops_by_length
from core.lineage import acting_keys, links, stages, trial_id
from core.model import loss
from core.task_data import task_data
from core.tasks import IGNORE
from tests.core import probing
from tests.core.packs import run
from tests.core.reference import PlainModel, case, plain_loss


def batch(config: TrialConfig, step: int = 0) -> tuple[Tensor, Tensor]:
    inputs, targets = task_data(config).batches(step, 1)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def weights(config: TrialConfig) -> dict[str, Tensor]:
    return {n: p.unsqueeze(0).requires_grad_() for n, p in init_parameters(config, torch.float64).items()}


def plain(config: TrialConfig) -> PlainModel:
    model = PlainModel(config).double()
    model.take(init_parameters(config, torch.float64))
    return model


@pytest.mark.parametrize("name", ["by_length", "by_length_deep"])
def test_each_sequence_is_looped_as_its_length_says(name: str) -> None:
    config = case(name)
    link, model = links(config)[0], config.model
    inputs, targets = batch(config, step=9)
    lengths = batch_lengths(config.task, config.train.batch, 9)
    looped = loops_by_length(lengths, link)
    assert looped == [min(max(1, n + model.loops_offset), model.loops) for n in lengths.tolist()]
    assert len(set(looped)) > 1
    params = weights(config)
    terms = {"injection": model.injection, "backprop": link.backprop}
    found = loss(params, inputs, targets, architecture(config), loops=model.loops, by_sequence=looped, **terms)
    grads = torch.autograd.grad(found.sum(), list(params.values()))
    reference = plain(config)
    expected = plain_loss(reference, inputs[0], targets[0], loops=looped, loss_on="last", **terms)
    expected.backward()
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)
    wanted = reference.gradients()
    for parameter, got in zip(params, grads, strict=True):
        torch.testing.assert_close(got[0], wanted[parameter], rtol=1e-9, atol=1e-13, msg=parameter)


def test_truncated_gradients_are_those_of_a_detached_stream_and_the_loss_is_the_same() -> None:
    config = case("backprop")
    inputs, targets = batch(config)
    arch, params = architecture(config), weights(config)
    values, grads = {}, {}
    for backprop in (0, 1, 2, 3, 5):
        found = loss(params, inputs, targets, arch, loops=3, injection="add", backprop=backprop)
        values[backprop] = found.item()
        grads[backprop] = dict(zip(params, torch.autograd.grad(found.sum(), list(params.values())), strict=True))
        reference = plain(config)
        plain_loss(
            reference, inputs[0], targets[0], loops=3, injection="add", loss_on="last", backprop=backprop
        ).backward()
        for parameter, wanted in reference.gradients().items():
            torch.testing.assert_close(grads[backprop][parameter][0], wanted, rtol=1e-9, atol=1e-13, msg=parameter)
    assert len(set(values.values())) == 1
    assert all(torch.equal(grads[0][name], grads[whole][name]) for name in params for whole in (3, 5))
    assert not torch.equal(grads[1]["blocks.0.query"], grads[2]["blocks.0.query"])


def test_lanes_of_different_loops_share_their_last_ones() -> None:
    config = case("drawn_backprop")
    arch = architecture(config)
    inputs, targets = (t.expand(4, -1, -1) for t in batch(config)[0:2])
    params = {n: p.expand(4, *p.shape[1:]).detach().requires_grad_() for n, p in weights(config).items()}
    drawn = [2, 5, 1, 3]
    found = loss(params, inputs, targets, arch, loops=drawn, injection="add", backprop=2)
    grads = dict(zip(params, torch.autograd.grad(found.sum(), list(params.values())), strict=True))
    for lane, loops in enumerate(drawn):
        reference = plain(config)
        plain_loss(
            reference, inputs[lane], targets[lane], loops=loops, injection="add", loss_on="last", backprop=2
        ).backward()
        for parameter, wanted in reference.gradients().items():
            torch.testing.assert_close(grads[parameter][lane], wanted, rtol=1e-9, atol=1e-13, msg=parameter)


def test_what_is_masked_is_not_in_the_loss() -> None:
    config = case("masked")
    inputs, targets = batch(config)
    assert (targets == IGNORE).any()
    params = weights(config)
    found = loss(params, inputs, targets, architecture(config), loops=3)
    expected = plain_loss(plain(config), inputs[0], targets[0], loops=3, injection="none", loss_on="last")
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["masked", "by_length_deep"])
def test_evaluation_counts_predicted_tokens_and_whole_answers(name: str) -> None:
    """Against a count by hand, sequence by sequence."""
    config = case(name)
    (result,) = run([config])
    row = result.metrics[-1]
    model = PlainModel(config).float()
    model.take(result.state.parameters)
    validation = task_data(config).validation()
    losses, right, whole = [], [], []
    for inputs, targets, length in zip(validation.inputs, validation.targets, validation.lengths, strict=True):
        loops = config.model.loops
        if config.model.loops_by == "length":
            loops = min(max(1, int(length) + config.model.loops_offset), loops)
        (logits,) = model(torch.from_numpy(inputs)[None], loops=loops, injection=config.model.injection, every=False)
        logs, truth = torch.log_softmax(logits[0].double(), -1), torch.from_numpy(targets)
        places = torch.nonzero(truth != IGNORE).flatten()
        losses.append((-logs[places, truth[places]]).detach().numpy())
        right.append((logits[0, places].argmax(-1) == truth[places]).numpy())
        whole.append(bool(right[-1].all()))
    assert row["val_loss"] == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)
    assert row["val_accuracy"] == pytest.approx(np.concatenate(right).mean(), abs=1e-9)
    assert row["val_exact"] == pytest.approx(np.mean(whole), abs=1e-9)
    for stratum, members in validation.strata.items():
        some = np.flatnonzero(members)
        assert row[f"val_exact_{stratum}"] == pytest.approx(np.mean([whole[i] for i in some]), abs=1e-9)
        assert row[f"val_loss_{stratum}"] == pytest.approx(np.concatenate([losses[i] for i in some]).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["by_length", "by_length_deep"])
def test_curvature_is_that_of_sequences_looped_by_their_lengths(name: str) -> None:
    """Against a dense Hessian of the plain model, sequence by sequence in the order of the validation set."""
    model = case(name).model
    tiny = {"width": 4, "heads": 2, "loops_offset": model.loops_offset, "loops": 3, "loops_by": "length"}
    task = {"kind": "parity", "train_length": (1, 3), "test_length": (1, 4), "val_size": 12}
    trial = probing.config(
        tiny | {"timestep": model.timestep, "injection": model.injection},
        task=task,
        quantities=("lambda_max", "trace", "spectrum", "gradient_alignment", "loop_parts", "block_lambda_max"),
    )
    (rows,) = probing.measured([trial])
    validation = task_data(trial).validation()
    inputs, targets = (torch.from_numpy(a[:6]) for a in (validation.inputs, validation.targets))
    looped = [min(max(1, n + model.loops_offset), 3) for n in validation.lengths[:6].tolist()]
    reference = PlainModel(trial).double()
    reference.take(probing.state(trial).parameters)
    with sdpa_kernel(SDPBackend.MATH):
        value = plain_loss(reference, inputs, targets, loops=looped, injection=model.injection, loss_on="last")
    flat = list(reference.parameters())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, flat, create_graph=True)])
    dense = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(g_i, flat, retain_graph=True)]) for g_i in gradient]
    )
    expected = torch.linalg.eigvalsh(dense)
    assert rows.curvature["lambda_max"] == pytest.approx(float(expected[-1]), rel=1e-9)
    assert rows.curvature["trace"] == pytest.approx(float(dense.trace()), rel=1e-9)
    assert rows.spectra[0]["eigenvalues"] == pytest.approx(expected.tolist(), abs=1e-9 * float(expected[-1]))
    assert rows.curvature["same_loop_trace"] is None
    assert "looped by length" in rows.curvature["method"]["same_loop_trace"]
    packed = probing.measured([replace(trial, seed=seed) for seed in (4, 0, 2)])
    assert packed[1] == rows


# --- what it costs ---------------------------------------------------------------------------------------------------


def by_hand(config: TrialConfig) -> Iterator[int]:
    """FLOPs update by update: each loop of a sequence costs its forward pass, the last ones three times as much."""
    model, train = config.model, config.train
    batches = [step_flops(config, loops=loops) for loops in (1, 2)]
    one_loop = (batches[1] - batches[0]) // 3  # forward pass of a batch through the looped blocks
    around = batches[0] - 3 * one_loop
    for link in links(config):
        for step in range(link.start, link.end):
            if link.draw is not None:
                loops = loop_draws(config.seed, mean=link.loops, sigma=link.draw, start=step, count=1).tolist()
            elif link.offset is not None:
                loops = loops_by_length(batch_lengths(config.task, train.batch, step), link)
            else:
                loops = [link.loops]
            cut = model.backprop_loops or max(loops)
            yield around + sum(one_loop * (r + 2 * min(r, cut)) for r in loops) // len(loops)


@pytest.mark.parametrize("name", ["by_length", "by_length_deep", "by_length_shift", "backprop", "drawn_backprop"])
def test_flops_are_the_sum_over_updates_and_sequences(name: str) -> None:
    config = case(name)
    assert flops_alone(config) == sum(by_hand(config))
    last = links(config)[-1]
    stretches = [(last.start, last.start + 3), (last.start + 3, last.end)]
    assert sum(link_flops(config, last, *s) for s in stretches) == link_flops(config, last, last.start, last.end)


def test_flops_of_a_long_training_are_those_of_its_parts() -> None:
    config = case("by_length_deep", steps=10_000)
    (link,) = links(config)
    assert link_flops(config, link, 0, 10_000) == sum(
        link_flops(config, link, s, s + 2500) for s in range(0, 10_000, 2500)
    )


# --- what it is ------------------------------------------------------------------------------------------------------


def test_loops_by_length_are_another_trial_and_act_where_a_stage_loops() -> None:
    config = case("by_length")
    fixed = replace(config, model=replace(config.model, loops_by="fixed"))
    assert trial_id(fixed) != trial_id(config)
    assert "model.loops_offset" in acting_keys(config)
    assert "model.loops_offset" not in acting_keys(fixed)
    single = replace(config.schedule, kind="single")
    assert trial_id(replace(config, schedule=single)) == trial_id(replace(fixed, schedule=single))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": {"loops_by": "length"}}, 'model.loops_by: "length" needs a task whose problems have lengths'),
        (
            {
                "task": {"kind": "parity"},
                "model": {"loops_by": "length"},
                "schedule": {"draw": "poisson-lognormal"},
            },
            'model.loops_by: "length" leaves nothing to draw',
        ),
        ({"model": {"backprop_loops": 2}}, 'model.backprop_loops: needs injection = "add"'),
        (
            {"model": {"backprop_loops": 2, "injection": "add", "loss_on": "all"}},
            'model.backprop_loops: goes with loss_on = "last" only',
        ),
        (
            {"task": {"kind": "parity"}, "model": {"loops_by": "length", "loss_on": "all"}},
            'model.loops_by: goes with loss_on = "last" only',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("(", r"\(")):
        trial_config(values)


@pytest.mark.parametrize("name", ["by_length", "by_length_deep", "by_length_shift", "backprop"])
def test_what_a_control_is_matched_to_is_what_the_trial_costs(name: str) -> None:
    config = case(name)
    assert expected_flops(config, stages(config)) == flops_alone(config)
