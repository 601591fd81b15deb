"""The transformer beside blocks of other networks, as in Table 8 of HR-NAS."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.base import Operation
from search_spaces.complexity import step_cost
from search_spaces.hrnas.plug import Beside, InvertedResidual, ShuffleUnit, SmallNetwork
from search_spaces.hrnas.transformer import LightTransformer

UNITS = [InvertedResidual, ShuffleUnit]


@pytest.mark.parametrize("unit", UNITS)
def test_a_transformer_is_added_to_a_block_in_one_line(unit: type[InvertedResidual] | type[ShuffleUnit]) -> None:
    x = torch.randn(2, 24, 9, 14)
    block = unit(24, 24).eval()
    beside = Beside(block, LightTransformer(24, 24, tokens=8)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(beside(x) - block(x), beside.transformer(x))
        assert beside(x).shape == x.shape


@pytest.mark.parametrize("unit", UNITS)
def test_networks_with_and_without_it_learn(unit: type[InvertedResidual] | type[ShuffleUnit]) -> None:
    """The transformer costs parameters, a few multiply-adds, and everything gets a gradient."""
    plain, with_it = (SmallNetwork(unit, 10, tokens, channels=(8, 16, 24, 32), blocks=2) for tokens in (0, 8))
    for network in (plain, with_it):
        nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.tensor([1, 2, 3, 4])).backward()
        assert all(weight.grad is not None for weight in network.parameters())
    costs = [
        step_cost(lambda _, n=network: n, Operation.of("network"), (1, 3, 224, 224)) for network in (plain, with_it)
    ]
    assert costs[0].shape == costs[1].shape == (1, 10)
    assert costs[1].params > costs[0].params
    assert costs[0].macs < costs[1].macs < 3 * costs[0].macs


def test_a_shuffle_unit_interleaves_what_passes_by() -> None:
    x = torch.randn(1, 8, 4, 4)
    with torch.inference_mode():
        y = ShuffleUnit(8, 8).eval()(x)
    assert torch.equal(y[:, ::2], x[:, :4])
