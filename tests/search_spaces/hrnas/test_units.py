"""Search units: what they are, what they save, and what is left without some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.hrnas.architecture import HrnasArchitecture
from search_spaces.hrnas.blocks import SearchingBlock
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hrnas.transformer import LightTransformer, TokenAttention
from search_spaces.hrnas.units import Kept, UnitGroup, compacted, kept_units, random_of_macs, unit_groups, without
from search_spaces.supernet import Supernet
from tests.networks import awake, small_hrnas

IMAGE = (1, 3, 32, 64)


def whole(**settings: Any) -> tuple[HrnasSpace, HrnasArchitecture, tuple[UnitGroup, ...]]:
    space = small_hrnas(parts=None, branches=(3,), **settings)
    architecture = space.largest(np.random.default_rng(0))
    return space, architecture, unit_groups(space, architecture, IMAGE)


def some(groups: tuple[UnitGroup, ...], seed: int = 0) -> Kept:
    """About half of the units; of some groups none."""
    rng = np.random.default_rng(seed)
    return {one.key: np.flatnonzero(rng.random(one.count) < rng.choice([0, 0.5, 0.8])) for one in groups}


def test_every_unit_belongs_to_one_group() -> None:
    space, architecture, groups = whole()
    counts = {group.key: group.count for group in groups}
    expected = {
        (block, kind): count
        for block, units in enumerate(architecture.blocks)
        for kind, count in enumerate((*units.channels, units.tokens))
    }
    assert counts == expected
    weights = Supernet(space, torch.Generator()).to_numpy()
    assert all(weights[group.scale].shape == (group.count,) for group in groups)


def test_a_unit_saves_what_the_network_without_it_does_not_compute() -> None:
    space, architecture, groups = whole(transformer={"positions_in": "both"})
    macs = space.counter.count(space.lower(architecture), IMAGE).macs
    for group in groups[::3]:
        kept = {one.key: np.arange(one.count) for one in groups} | {group.key: np.arange(1, group.count)}
        left = space.counter.count(space.lower(without(architecture, kept)), IMAGE).macs
        assert group.saved_macs == macs - left


def test_a_token_saves_more_the_more_tokens_there_are() -> None:
    """Closed form of the authors' transformer: facts of `test_transformer`, differences in n."""
    space, _, groups = whole(family="published", transformer={"form": "published"})
    d = space.settings.transformer.size**2

    def macs(n: int, c: int, outputs: int) -> int:
        return d * n * (c + 2) + 2 * (4 * n * d**2 + 2 * n**2 * d + 2 * n * d**2) + d * n * outputs

    places = space.layout("branches-3").places
    tokens = [group for group in groups if group.kind == len(space.settings.kernels)]
    assert tokens
    for group in tokens:
        place, n = places[group.block], group.count
        assert group.saved_macs == macs(n, place.inputs, place.outputs) - macs(n - 1, place.inputs, place.outputs)


@pytest.mark.parametrize(
    "transformer",
    [{}, {"form": "published"}, {"positions": "learned", "positions_in": "both"}, {"positions": "none", "width": 5}],
)
def test_what_is_left_is_an_architecture_with_weights_of_its_size(transformer: dict[str, Any]) -> None:
    space, architecture, groups = whole(transformer=transformer)
    weights = Supernet(space, torch.Generator()).to_numpy()
    kept = some(groups)
    left = without(architecture, kept)
    assert space.architecture_from_json(left.to_json()) == left
    small = compacted(weights, groups, kept)
    for step in space.lower(left).steps:
        shared = space.shared_names(step.operation)
        for name, parameter in space.build(step.operation).named_parameters():
            assert small[shared(name)].shape == parameter.shape
    remaining = {group.key: group.count for group in unit_groups(space, left, IMAGE)}
    assert remaining == {key: len(units) for key, units in kept.items() if len(units)}


def test_units_go_where_the_scale_is_under_the_threshold() -> None:
    _, _, groups = whole()
    scales = {group.scale: np.full(group.count, 0.5) for group in groups}
    scales[groups[0].scale][:3] = [-0.4, 0.0, 0.0009]
    kept = kept_units(groups, scales, 0.001)
    assert list(kept[groups[0].key]) == [0, *range(3, groups[0].count)]
    assert all(len(kept[group.key]) == group.count for group in groups[1:])


def test_channels_of_scale_zero_leave_the_network_as_it_was() -> None:
    """But for rounding. Their biases are not zero: the BatchNorm behind them takes constants away."""
    space, architecture, groups = whole(transformer={"tokens": 0})
    supernet = awake(Supernet(space, torch.Generator().manual_seed(0)))
    kept = {key: units if len(units) else np.arange(1) for key, units in some(groups).items()}
    weights = supernet.to_numpy()
    for group in groups:
        gone = np.setdiff1d(np.arange(group.count), kept[group.key])
        weights[group.scale][gone] = 0
    supernet.load_numpy(weights)
    left = without(architecture, kept)
    small = {name: torch.from_numpy(array) for name, array in compacted(weights, groups, kept).items()}
    images = torch.randn(4, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    ((before,),) = supernet([space.lower(architecture)], images)
    for name, tensor in small.items():
        supernet.weights[name.replace(".", ":")].data = tensor
    ((after,),) = supernet([space.lower(left)], images)
    assert (
        space.counter.count(space.lower(left), IMAGE).macs < space.counter.count(space.lower(architecture), IMAGE).macs
    )
    assert torch.allclose(before, after, atol=1e-4 * before.abs().max().item())


def shrunk(block: SearchingBlock, channels: dict[int, int], tokens: int, kept: dict[str, np.ndarray]) -> SearchingBlock:
    """The block with the units of `kept`, by the beginning of their parameters' names; buffers go with them."""
    settings = TransformerSettings(size=3)
    small = SearchingBlock(6, 6, 1, channels, tokens, settings).eval()
    state = block.state_dict()
    for name, tensor in small.state_dict().items():
        for prefix, units in kept.items():
            if name.startswith(prefix) and tensor.shape != state[name].shape:
                axis = next(axis for axis, size in enumerate(tensor.shape) if size != state[name].shape[axis])
                state[name] = state[name].index_select(axis, torch.from_numpy(units))
    small.load_state_dict(state)
    return small


def random_block(tokens: int = 0) -> SearchingBlock:
    """With random scales, biases and statistics."""
    torch.manual_seed(0)
    block = SearchingBlock(6, 6, 1, {3: 8, 5: 8}, tokens, TransformerSettings(size=3)).eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.uniform_(0.1, 1)
    return block


@torch.no_grad()
def test_a_removed_channel_takes_away_what_it_added_and_nothing_else() -> None:
    block, x = random_block(), torch.randn(2, 6, 9, 7)
    kept, gone = np.array([0, 2, 3, 6, 7]), [1, 4, 5]
    path = block.paths["5"]
    hidden = path.depthwise(path.expand(x))
    added = torch.einsum("oi,bihw->bohw", path.reduce.weight[:, gone, 0, 0], hidden[:, gone])
    norm = block.norm
    assert norm is not None
    assert norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    after = shrunk(block, {3: 8, 5: 5}, 0, {"paths.5": kept})(x)
    assert added.abs().max() > 0.1
    assert torch.allclose(block(x) - after, added * factor.view(-1, 1, 1, 1)[:, 0], atol=1e-5)


class Blind(nn.Module):
    """Attention that does not look at some of the tokens."""

    def __init__(self, attention: TokenAttention, gone: list[int]) -> None:
        super().__init__()
        self.attention, self.gone = attention, gone

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        one = self.attention
        weights = one.query(queries) @ one.key(memory).transpose(1, 2) / one.query.out_features**0.5
        weights[:, :, self.gone] = -torch.inf
        return one.out(weights.softmax(2) @ one.value(memory))  # type: ignore[no-any-return]


@torch.no_grad()
def test_a_removed_token_is_as_one_that_nobody_looks_at() -> None:
    block, x = random_block(tokens=5), torch.randn(2, 6, 9, 7)
    kept, gone = np.array([0, 1, 3]), [2, 4]
    after = shrunk(block, {3: 8, 5: 8}, 3, {"transformer": kept})(x)
    transformer = block.transformer
    assert isinstance(transformer, LightTransformer)
    assert not torch.allclose(block(x), after, atol=1e-3)
    for layer in (transformer.encoder, transformer.decoder):
        layer.attention = Blind(layer.attention, gone)  # type: ignore[assignment]
    transformer.unproject.conv.weight[:, gone] = 0
    assert torch.allclose(block(x), after, atol=1e-5)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_random_networks_have_the_wanted_size(share: float) -> None:
    space, architecture, _ = whole()
    most = space.counter.count(space.lower(architecture), IMAGE).macs
    found = {seed: random_of_macs(space, int(share * most), IMAGE, np.random.default_rng(seed)) for seed in (1, 2)}
    assert found[1] != found[2]
    assert found[1] == random_of_macs(space, int(share * most), IMAGE, np.random.default_rng(1))
    for network in found.values():
        assert space.architecture_from_json(network.to_json()) == network
        assert space.counter.count(space.lower(network), IMAGE).macs == pytest.approx(share * most, rel=0.04)
