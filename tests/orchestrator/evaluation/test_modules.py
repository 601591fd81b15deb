"""Modules of steps: views of the shared weights, statistics of their own, kernels scaled when they are used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.evaluation.modules import FoldedConv, StepModules, fold_norms
from search_spaces.base import Operation
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.layers import ConvNorm
from search_spaces.supernet import Weights, cut
from tests.networks import by_ends


@pytest.fixture(scope="module")
def operations(space: HyctasSpace) -> list[Operation]:
    return [step.operation for one in by_ends(space).values() for step in space.lower(one).steps]


def test_parameters_are_read_where_the_weights_are(
    space: HyctasSpace, weights: Weights, operations: list[Operation]
) -> None:
    places = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in weights.values()]
    modules = StepModules(space, weights)
    for operation in operations:
        module, copied = modules.new(operation), cut(space, operation, weights)
        for (name, parameter), (_, expected) in zip(module.named_parameters(), copied.named_parameters(), strict=True):
            assert any(low <= parameter.data_ptr() < high for low, high in places), name
            assert torch.equal(parameter, expected), name


def test_two_steps_of_one_operation_have_statistics_of_their_own(
    space: HyctasSpace, weights: Weights, operations: list[Operation]
) -> None:
    modules = StepModules(space, weights)
    one, other = modules.new(operations[0]).train(), modules.new(operations[0]).train()
    before = {name: buffer.clone() for name, buffer in other.named_buffers()}
    with torch.inference_mode():
        one(torch.rand(4, 3, 16, 16))
    fold_norms(one.eval(), in_place=False)
    assert all(torch.equal(buffer, before[name]) for name, buffer in other.named_buffers())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in other.modules())
    fresh = modules.new(operations[0])
    assert all(torch.equal(buffer, before[name]) for name, buffer in fresh.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_kernel_scaled_when_used_gives_the_bits_of_a_folded_one(dtype: torch.dtype, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    block = ConvNorm(5, 7, 3, stride=2)
    block.conv = nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=bias)
    for tensor in (*block.parameters(), block.norm.running_mean):
        nn.init.uniform_(tensor, -1, 1, generator=generator)
    nn.init.uniform_(block.norm.running_var, 0.5, 2, generator=generator)
    block.conv.to(dtype)
    block.eval()
    x = torch.randn((2, 5, 9, 11), generator=generator).to(dtype)
    with torch.inference_mode():
        scaled = FoldedConv(block.conv, block.norm)(x)
        fold_norms(block)
        assert torch.equal(scaled, block(x))
