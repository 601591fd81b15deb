"""Shapes, parameters and multiply-adds of the operators, in closed form; what identity paths and attention do.

i, o input and output channels, P input pixels, s stride
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.base import Operation
from search_spaces.complexity import step_cost
from search_spaces.hyctas.operators import BODIES, OPERATORS, Cell, MultiHeadAttention, PixelAttention, Skip, half

Formula = Callable[[int, int, int], tuple[int, int]]
"""i, o, P -> params, multiply-adds."""


def attention(i: int, o: int, P: int, s: int) -> tuple[int, int]:
    q = max(1, o // 8)
    params = i * o + 2 * o + 2 * (o * q + q) + o * o + o + 1 + 2 * o + o * o + 2 * o
    macs = i * o * P + P * o * (2 * q + o) + P * P * (q + o) + o * o * P // s**2
    if s == 2:
        return params + 9 * i * o + 2 * o, macs + 9 * i * o * P // 4
    return (params, macs) if i == o else (params + i * o + 2 * o, macs + i * o * P)


TABLE: dict[tuple[str, int], Formula] = {
    ("skip", 1): lambda i, o, P: (i * o + 2 * o, i * o * P),
    ("conv", 1): lambda i, o, P: (9 * i * o + 2 * o, 9 * i * o * P),
    ("conv", 2): lambda i, o, P: (9 * i * o + 2 * o, 9 * i * o * P // 4),
    ("light", 1): lambda i, o, P: (10 * i * o + 4 * o, 13 * i * o * P // 4),
    ("light", 2): lambda i, o, P: (9 * i * o + 2 * o, 9 * i * o * P // 4),
    ("light2", 1): lambda i, o, P: (10 * i * o + 9 * o * o + 6 * o, 9 * (i * o + o * o) * P // 4 + i * o * P),
    ("light2", 2): lambda i, o, P: (9 * i * o + 9 * o * o + 4 * o, 9 * (i * o + o * o) * P // 4),
    ("attention", 1): lambda i, o, P: attention(i, o, P, 1),
    ("attention", 2): lambda i, o, P: attention(i, o, P, 2),
}
"""Source: the operator table of the HyCTAS authors' retraining code."""


def test_the_operators_are_in_the_authors_order() -> None:
    assert OPERATORS == ("skip", "conv", "light", "light2", "attention")


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (11, 21), (24, 8), (5, 3)])
@pytest.mark.parametrize(("operator", "stride"), TABLE)
def test_published_operators_cost_what_the_table_says(operator: str, stride: int, inputs: int, outputs: int) -> None:
    height, width = 8, 12
    cell = Cell(BODIES["published"][operator](inputs, outputs, stride), identity=False).eval()
    expected = TABLE[operator, stride](inputs, outputs, height * width)
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        cell(torch.zeros(1, inputs, height, width))
    assert (sum(p.numel() for p in cell.parameters()), flops.get_total_flops() // 2) == expected
    cost = step_cost(lambda _: cell, Operation.of("cell"), (1, inputs, height, width))
    assert (cost.params, cost.macs) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 7), (9, 4), (8, 8)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("family", BODIES)
def test_every_size_is_kept_or_halved_rounding_up(
    family: str, operator: str, stride: int, size: tuple[int, int]
) -> None:
    if (operator, stride) == ("skip", 2):
        with pytest.raises(AssertionError, match="a skip cannot go down"):
            Skip(4, 4, 2)
        return
    cell = Cell(BODIES[family][operator](6, 10, stride), identity=stride == 1).eval()
    result = cell(torch.randn(2, 6, *size))
    assert result.shape == (2, 10, *(size if stride == 1 else half(torch.Size(size))))
    assert (result >= 0).all()
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_of_both_families_but_attention_are_the_same(operator: str) -> None:
    same = BODIES["published"][operator] is BODIES["searching"][operator]
    assert same == (operator != "attention")


def silent(body: nn.Module) -> nn.Module:
    """The operator with every scale and shift at 0: it gives zeros."""
    for layer in body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return body.eval()


@pytest.mark.parametrize("outputs", [4, 6, 9])
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_identity_path_passes_on_the_channels_that_both_have(operator: str, outputs: int) -> None:
    x = torch.randn(2, 6, 5, 7)
    body = silent(BODIES["searching"][operator](6, outputs, 1))
    result = Cell(body, identity=True)(x)
    shared = min(6, outputs)
    assert torch.equal(result[:, :shared], x[:, :shared].relu())
    assert not result[:, shared:].any()
    assert not Cell(body, identity=False)(x).any()


def test_pixel_attention_starts_as_identity_and_mixes_all_pixels() -> None:
    x = torch.randn(1, 16, 3, 5)
    module = PixelAttention(16)
    assert torch.equal(module(x), x)
    nn.init.ones_(module.gamma)
    for conv in (module.query, module.key):  # even attention: the mean of all values
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    torch.testing.assert_close(module(x), x + module.value(x).mean(dim=(2, 3), keepdim=True))


def test_multi_head_attention_is_the_textbooks() -> None:
    channels, heads, x = 8, 2, torch.randn(2, 8, 3, 5)
    module = MultiHeadAttention(channels, heads)
    q, k, v = (conv(x).view(2, heads, channels // heads, 15) for conv in (module.query, module.key, module.value))
    weights = torch.softmax(torch.einsum("bhdi,bhdj->bhij", q, k) / (channels // heads) ** 0.5, dim=-1)
    mixed = torch.einsum("bhij,bhdj->bhdi", weights, v).reshape(x.shape)
    torch.testing.assert_close(module(x), x + mixed, atol=1e-5, rtol=1e-5)


def test_attention_keeps_its_roles_in_a_leading_slice_of_the_weights() -> None:
    """A wide one whose values are nothing gives, at any narrower width, nothing beside its input."""
    wide = MultiHeadAttention(12, 2).state_dict()
    wide = {name: torch.zeros_like(value) if name.startswith("value") else value for name, value in wide.items()}
    narrow = MultiHeadAttention(8, 2)
    sizes = {name: tuple(map(slice, value.shape)) for name, value in narrow.state_dict().items()}
    narrow.load_state_dict({name: value[sizes[name]] for name, value in wide.items()})
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(narrow(x), x)


def test_activations_of_quadratic_attention_count_its_weights() -> None:
    pixels = 4 * 6
    published = step_cost(lambda _: PixelAttention(16), Operation.of("attention"), (1, 16, 4, 6))
    assert published.activation_elements == pixels * (2 + 2 + 16) + pixels**2
    efficient = step_cost(lambda _: MultiHeadAttention(16, 2), Operation.of("attention"), (1, 16, 4, 6))
    assert efficient.activation_elements == pixels * 3 * 16
