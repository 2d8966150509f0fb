"""What a probe works out: exact Hessians, algorithms in step, kinds of weights; and that a lane's bits are its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import core.probes
from core import spectrum
from core.architecture import parameter_shapes
from core.config import TrialConfig
from core.hessian import Products, StackedHessian
from core.probes import Probe, eigen
from core.quantities import MATRICES
from tests.core.probing import MODELS, config, probe, seeds, state


def columns(at: Probe, lane: int) -> Tensor:
    """The Hessian of a lane `[P, P]`, one product a column, by itself."""
    hessian = at.hessian([lane])
    units = torch.eye(at.size, dtype=torch.float64)
    return torch.stack([hessian.product(unit.unsqueeze(0))[0] for unit in units], dim=1)


def groups_of(monkeypatch: pytest.MonkeyPatch, at: Probe, lanes: int) -> None:
    """Makes so many lanes fill a group."""
    one = core.probes.GROUP_ELEMENTS["cpu"] // at.group
    monkeypatch.setattr(core.probes, "GROUP_ELEMENTS", {"cpu": one * lanes})
    assert at.group == lanes


# --- groups --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["products", "nodes"])
def test_a_group_holds_no_more_krylov_bases_than_fit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of 8 P bytes a product, as many as a run of either kind may take; one lane always goes."""
    settings = {"products": 8, "nodes": 4} | {name: 1000}
    at = probe(seeds(config("toy", **settings), 2))
    assert at.group > 3
    for lanes in (1, 3):
        monkeypatch.setattr(core.probes, "BASIS_BYTES", lanes * 8 * at.size * 1000)
        assert at.group == lanes
    monkeypatch.setattr(core.probes, "BASIS_BYTES", 1)
    assert at.group == 1


# --- some of the lanes ----------------------------------------------------------------------------------------------


def test_some_lanes_are_probed_where_they_are_or_at_other_states() -> None:
    configs = seeds(config("toy"), 3)
    at = probe(configs)
    picked = at.pick([2, 0, 2])
    assert torch.equal(picked.gradient, at.gradient[[2, 0, 2]])
    assert picked.lanes == 3
    moved = [state(configs[lane], noise=0.1) for lane in (1, 0)]
    elsewhere = at.pick([1, 0], moved)
    assert torch.equal(elsewhere.gradient, probe([configs[1], configs[0]], moved).gradient)
    assert not torch.equal(elsewhere.gradient, at.gradient[[1, 0]])


def test_what_is_found_of_each_lane_several_times_is_given_by_lane() -> None:
    at = probe(seeds(config("toy"), 2))

    def run(lane: int, index: int) -> Products[tuple[int, int, Tensor]]:
        return lane, index, (yield at.direction(lane, index))

    found = at.drive_each(3, run)
    assert [[(lane, index) for lane, index, _ in some] for some in found] == [
        [(k, i) for i in range(3)] for k in (0, 1)
    ]
    for lane, index, product in found[1]:
        assert torch.equal(product, at.hessian([lane]).product(at.direction(lane, index).unsqueeze(0))[0])


# --- exact spectra -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_dense_hessian_is_that_of_its_products(name: str) -> None:
    at = probe(seeds(config(name), 2))
    expected = columns(at, 1)
    assert torch.equal(at.dense(1), (expected + expected.mT) / 2)


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_its_bits_do_not_depend_on_the_chunks_of_its_columns(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    """Chunks of one, a last chunk that is not full, and one chunk for all."""
    base = config("coda")
    expected = probe([base]).dense(0)
    at = probe([base])
    assert at.size % 7
    groups_of(monkeypatch, at, group)
    assert torch.equal(at.dense(0), expected)


def test_the_exact_spectrum_is_that_of_the_dense_hessian() -> None:
    at = probe(seeds(config("layer-mlp"), 2))
    assert len(at.exact) == 2
    for lane, found in enumerate(at.exact):
        assert torch.equal(found.hessian, at.dense(lane))
        assert torch.equal(found.values, torch.linalg.eigvalsh(found.hessian))
        rebuilt = found.vectors * found.values @ found.vectors.mT
        torch.testing.assert_close(rebuilt, found.hessian, rtol=0, atol=1e-13 * float(found.values.abs().max()))


def test_the_null_space_is_that_of_the_symmetries() -> None:
    """Logits that all rise by the same give the same loss: the head has one such direction per unit of width."""
    at = probe([config({"width": 4, "loops": 1, "position": "none"})])
    found = at.exact[0]
    null = found.values.abs() <= spectrum.null(found.values.numpy())
    shift = torch.zeros(4, at.size, dtype=torch.float64)
    for row, place in enumerate(at.kinds["head"].view(4, 5)):
        shift[row, place] = 1.0
    assert float((found.hessian @ shift.mT).abs().max()) < 1e-15
    assert int(null.sum()) >= 4
    space = found.vectors[:, null]
    torch.testing.assert_close(space @ (space.mT @ shift.mT), shift.mT, rtol=0, atol=1e-9)


def test_eigenvalues_ascend() -> None:
    found = eigen(torch.diag(torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64)))
    assert found.values.tolist() == [-4.0, 0.0, 3.0]


def test_exact_within_the_limit_only() -> None:
    size = probe([config("toy")]).size
    assert probe([config("toy", exact=size)]).is_exact
    assert not probe([config("toy", exact=size - 1)]).is_exact


# --- the loss that is differentiated -------------------------------------------------------------------------------


def test_it_is_the_mean_over_the_probe() -> None:
    """The Hessian on n sequences is the mean of their own, where they are split unevenly too: sequences weigh alike."""
    base = config("layer-mlp", probe=6)
    whole = probe([base])

    def part(first: int, last: int) -> Probe:
        return replace(whole, inputs=whole.inputs[:, first:last], targets=whole.targets[:, first:last])

    expected, scale = whole.dense(0), float(whole.dense(0).abs().max())
    single = sum(part(index, index + 1).dense(0) for index in range(6)) / 6
    assert float((single - expected).abs().max()) < 1e-13 * scale
    uneven = (4 * part(0, 4).dense(0) + 2 * part(4, 6).dense(0)) / 6
    assert float((uneven - expected).abs().max()) < 1e-13 * scale
    unweighted = (part(0, 4).dense(0) + part(4, 6).dense(0)) / 2
    assert float((unweighted - expected).abs().max()) > 1e-3 * scale


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_sequences_and_the_names_of_tokens_do_not_matter(name: str) -> None:
    at = probe([config(name)])
    expected = at.dense(0)
    scale = float(expected.abs().max())
    order = [3, 0, 5, 1, 4, 2]
    shuffled = replace(at, inputs=at.inputs[:, order], targets=at.targets[:, order])
    assert float((shuffled.dense(0) - expected).abs().max()) < 1e-13 * scale

    # The alphabet in another order, the embedding's rows and the head's columns with it.
    names = torch.tensor([2, 4, 0, 1, 3])
    old = at.states[0].parameters
    rows = {"embedding": old["embedding"].clone()}
    rows["embedding"][names] = old["embedding"]
    if "head" in old:
        rows["head"] = old["head"].clone()
        rows["head"][:, names] = old["head"]
    moved = replace(at.states[0], parameters={**old, **rows})
    renamed = replace(at, states=[moved], inputs=names[at.inputs], targets=names[at.targets])
    size = at.arch.vocabulary * at.arch.width
    index = torch.arange(at.size)
    index[:size] = names.repeat_interleave(at.arch.width) * at.arch.width + torch.arange(at.arch.width).repeat(5)
    if "head" in old:
        index[-size:] = at.size - size + (torch.arange(at.arch.width).view(-1, 1) * 5 + names).view(-1)
    assert float((renamed.dense(0)[index][:, index] - expected).abs().max()) < 1e-13 * scale


def test_a_scaled_loss_has_scaled_curvature() -> None:
    """By a power of two, bit for bit."""
    at = probe([config("layer-mlp")])
    v = at.direction(0, "v").unsqueeze(0)
    once, four = (StackedHessian(lambda params, by=by: by * at.loss(params), at.params).product(v) for by in (1, 4))
    assert torch.equal(four, 4 * once)


def test_lanes_may_be_asked_in_any_order_and_several_times() -> None:
    at = probe(seeds(config("toy"), 3))
    pick = [2, 0, 2]
    losses = at.loss({name: p[pick] for name, p in at.params.items()}, lanes=pick)
    assert torch.equal(losses, at.loss(at.params)[pick])
    hessian = at.hessian(pick)
    vectors = torch.stack([at.direction(lane, index) for index, lane in enumerate(pick)])
    for index, lane in enumerate(pick):
        assert torch.equal(hessian.product(vectors)[index], at.hessian([lane]).product(vectors[index : index + 1])[0])


def test_graphs_are_kept_where_each_lane_comes_once() -> None:
    at = probe(seeds(config("toy"), 2))
    assert at.hessian([0, 1]) is at.hessian([0, 1])
    assert at.hessian([1, 0]) is not at.hessian([0, 1])
    assert at.hessian([0, 0]) is not at.hessian([0, 0])


# --- algorithms in step --------------------------------------------------------------------------------------------


def powers(start: Tensor, count: int) -> Products[list[Tensor]]:
    """Powers of the Hessian on a vector, each scaled to length one."""
    found, x = [], start
    for _ in range(count):
        x = yield x
        x = x / torch.linalg.vector_norm(x)
        found.append(x)
    return found


@pytest.mark.parametrize("group", [1, 2, 3, 100])
def test_several_algorithms_run_on_one_lane(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    """However many a group holds, in any order, each for as long as it takes: what they find has the same bits."""
    at = probe(seeds(config("toy"), 3))
    runs = [(0, 3), (2, 1), (0, 2), (1, 5), (2, 4), (0, 1), (0, 3)]
    alone = [
        at.drive([(lane, powers(at.direction(lane, "run", index), count))])[0]
        for index, (lane, count) in enumerate(runs)
    ]
    groups_of(monkeypatch, at, group)
    together = at.drive(
        [(lane, powers(at.direction(lane, "run", index), count)) for index, (lane, count) in enumerate(runs)]
    )
    for expected, found, (_, count) in zip(alone, together, runs, strict=True):
        assert len(found) == count
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert at.drive([]) == []


def test_a_group_is_bounded_by_what_its_graph_holds() -> None:
    sizes = [
        probe([config({"width": 8, "loops": loops}, task={"val_size": count}, probe=count)]).group
        for loops, count in ((1, 64), (2, 64), (1, 128))
    ]
    assert sizes[0] // 2 == sizes[1] == sizes[2] > 1
    huge = config({"width": 256, "loops": 8}, task={"val_size": 64, "length": 32}, probe=64)
    assert probe([huge]).group == 1


# --- directions ----------------------------------------------------------------------------------------------------


def test_directions_are_unit_vectors_of_their_lane_and_name() -> None:
    at = probe(seeds(config("toy"), 3))
    found = [at.direction(lane, *names) for lane in range(3) for names in (("start",), ("start", 1), ("other",))]
    for index, direction in enumerate(found):
        assert direction.dtype == torch.float64
        assert float(torch.linalg.vector_norm(direction)) == pytest.approx(1.0, abs=1e-15)
        assert all(abs(float(direction @ other)) < 0.5 for other in found[:index])
    assert torch.equal(at.direction(1, "start"), probe([at.configs[1]]).direction(0, "start"))
    assert torch.equal(at.direction(1, "start"), at.direction(1, "start"))


# --- kinds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_kinds_hold_every_weight_once(name: str) -> None:
    at = probe([config(name)])
    kinds = at.kinds
    assert set(kinds) <= set(MATRICES)
    assert torch.equal(torch.cat(list(kinds.values())).sort().values, torch.arange(at.size))
    for kind, places in kinds.items():
        assert torch.equal(places, places.sort().values), kind


def test_a_kind_holds_all_its_parameters_in_all_blocks() -> None:
    more = {"norm": "layer", "mlp_ratio": 1.5, "timestep": "sinusoidal"}
    at = probe([config({"width": 2, "loops": 1, "depth": 2, "prelude": 1} | more)])
    assert set(at.kinds) == set(MATRICES)
    marked = {name: torch.full_like(p[0], index).view(-1) for index, (name, p) in enumerate(at.params.items())}
    vector, names = torch.cat(list(marked.values())), list(marked)
    expected = {
        "embedding": ["embedding"],
        "position": ["position"],
        "timestep": ["timestep"],
        "head": ["head"],
        "mlp": [f"{block}.mlp_{side}" for block in at.arch.blocks for side in ("in", "out")],
        "norm": [name for name in names if name.endswith((".gain", ".bias"))],
    } | {part: [f"{block}.{part}" for block in at.arch.blocks] for part in ("query", "key", "value", "out")}
    assert list(parameter_shapes(at.arch)) == names
    for kind, members in expected.items():
        assert {names[int(mark)] for mark in vector[at.kinds[kind]]} == set(members)
        assert len(at.kinds[kind]) == sum(at.params[name][0].numel() for name in members)


# --- packs ---------------------------------------------------------------------------------------------------------


def shape(draw: random.Random) -> TrialConfig:
    """A trial of some shape: no axis is a multiple of anything, and every term of the model acts in some."""
    heads, each = draw.choice([1, 1, 2, 3]), draw.randint(1, 6)
    return config(
        {
            "width": heads * each,
            "heads": heads,
            "depth": draw.choice([1, 1, 2]),
            "loops": draw.randint(1, 3),
            "prelude": draw.choice([0, 0, 1]),
            "coda": draw.choice([0, 0, 1]),
            "mlp_ratio": draw.choice([0.0, 0.0, 1 / 3, 1.4, 2.0]),
            "attention": draw.choice(["softmax", "linear"]),
            "norm": draw.choice(["none", "layer", "rms"]),
            "position": draw.choice(["learned", "none", *(["rotary"] if each % 2 == 0 else [])]),
            "injection": draw.choice(["none", "add"]),
            "output": draw.choice(["untied", "tied"]),
            "loss_on": draw.choice(["last", "all"]),
        },
        task={"states": draw.choice([2, 3, 5, 7, 8, 70]), "length": draw.choice([2, 3, 4, 7, 9, 16])},
        probe=draw.choice([1, 1, 2, 3, 5, 8]),
    )


def products(configs: list[TrialConfig], order: list[int]) -> list[tuple[bytes, ...]]:
    """By lane, the bits of its loss, gradient and one product, in a pack of these trials in this order."""
    at = probe([configs[lane] for lane in order], [state(configs[lane], noise=0.1) for lane in order])
    hessian = at.hessian(range(len(order)))
    vectors = torch.stack([at.direction(lane, "fuzz") for lane in range(len(order))])
    parts = (hessian.losses, hessian.gradient(), hessian.product(vectors))
    return [tuple(part[lane].numpy().tobytes() for part in parts) for lane in range(len(order))]


@pytest.mark.parametrize(
    "draws", [range(20), range(20, 40), (72, 203, 267, 339)], ids=["0-19", "20-39", "found in longer runs"]
)
def test_a_lane_has_its_own_bits_in_any_pack_of_any_shape(draws: Sequence[int]) -> None:
    for seed in draws:
        draw = random.Random(seed)
        configs = seeds(shape(draw), 5)
        five = products(configs, draw.sample(range(5), 5))
        order = draw.sample(range(5), 3)
        three, lane = products(configs, order), draw.randrange(3)
        (alone,) = products(configs, [order[lane]])
        again = random.Random(seed)
        shape(again)
        placed = again.sample(range(5), 5)
        assert [five[placed.index(member)] for member in order] == three, f"seed {seed}: 3 of 5, {configs[0].model}"
        assert alone == three[lane], f"seed {seed}: alone, {configs[0].model}"


@pytest.mark.parametrize(
    ("model", "sequences"),
    [
        # matrices with an axis of one
        ({"width": 1, "loops": 3, "mlp_ratio": 1.4, "attention": "linear", "prelude": 1, "coda": 1}, 5),
        ({"width": 6, "loops": 3, "norm": "layer", "attention": "linear", "output": "tied"}, 1),  # one sequence
        ({"width": 5, "loops": 3, "norm": "layer", "prelude": 1}, 1),
    ],
)
def test_a_lane_whose_products_differ_alone_is_not_alone(model: dict[str, Any], sequences: int) -> None:
    configs = seeds(config(model, task={"states": 7, "length": 16}, probe=sequences), 3)
    whole = products(configs, [0, 1, 2])
    assert [products(configs, [lane])[0] for lane in range(3)] == whole
    assert products(configs, [2, 1]) == [whole[2], whole[1]]
