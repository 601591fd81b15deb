"""The lightweight transformer: shapes, positions, counts, and what a token is worth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.base import Operation
from search_spaces.complexity import step_cost
from search_spaces.hrnas.positions import position_map, position_sines
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.hrnas.transformer import LightTransformer

ALL = [
    {"form": form, "positions": positions, "positions_in": where}
    for form in ("paper", "published")
    for positions in ("none", "map", "sine", "learned")
    for where in ("encoder", "both")
]


def small(outputs: int = 3, tokens: int = 5, stride: int = 1, **settings: Any) -> LightTransformer:
    return LightTransformer(3, outputs, tokens, TransformerSettings(size=4, **settings), stride)


def image(height: int = 11, width: int = 18) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: "-".join(settings.values()))
def test_macs_and_params_are_what_torch_counts(settings: dict[str, Any]) -> None:
    transformer = small(outputs=7, stride=2, **settings).eval()
    with FlopCounterMode(display=False) as flops, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        result = transformer(image())
    cost = step_cost(lambda _: transformer, Operation.of("transformer"), (2, 3, 11, 18))
    assert result.shape == cost.shape == (2, 7, 6, 9)
    assert 2 * cost.macs == flops.get_total_flops()
    assert cost.params == sum(parameter.numel() for parameter in transformer.parameters())


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: "-".join(settings.values()))
def test_every_parameter_learns(settings: dict[str, Any]) -> None:
    transformer = small(**settings)
    (transformer(image()) * image()).sum().backward()
    gradients = {name: parameter.grad for name, parameter in transformer.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 1e-7 for gradient in gradients.values())


def test_paper_form_projects_at_full_size_and_has_the_papers_feed_forward() -> None:
    d, n, c, h, w = 64, 8, 18, 32, 40
    transformer = LightTransformer(c, c, n)
    cost = step_cost(lambda _: transformer, Operation.of("transformer"), (1, c, h, w))
    attention, feed = 4 * n * d * d + 2 * n * n * d, 8 * n * d * d  # section 3.1: O(4nds^2 + 2n^2d), O(8ns^4)
    assert cost.macs == h * w * n * (c + 2) + 2 * (attention + feed) + d * n * c
    norms, biases = 2 * 2 * d, 4 * d + d
    assert cost.params == n * (c + 2) + 2 * n + 2 * (12 * d * d + norms + biases) + n * d + n * c + 2 * c


def test_width_is_that_of_attention() -> None:
    wide, narrow = (
        step_cost(lambda _, width=width: small(width=width), Operation.of("t"), (1, 3, 8, 8)) for width in (16, 4)
    )
    assert wide.params - narrow.params == 2 * 4 * 16 * (16 - 4)
    assert wide.macs - narrow.macs == 2 * (4 * 5 * 16 + 2 * 5 * 5) * (16 - 4)


def test_maps_are_rows_and_columns() -> None:
    rows, columns = position_map((2, 4), "paper", torch.zeros(1))
    assert rows.tolist() == [[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]]
    assert columns.tolist() == [[0, 0.25, 0.5, 0.75]] * 2
    normed = position_map((8, 6), "published", torch.zeros(1)).double()
    torch.testing.assert_close(normed.mean(dim=(1, 2)), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(normed.std(dim=(1, 2), correction=0), torch.ones(2).double(), atol=1e-6, rtol=0)


def test_sines_tell_all_pixels_apart() -> None:
    waves = position_sines((16, 16), torch.zeros(1)).flatten(1)
    distances = torch.cdist(waves.T, waves.T) + torch.eye(256)
    assert waves.shape == (32, 256)
    assert distances.min() > 0.1
    assert waves.abs().max() <= 1


@pytest.mark.parametrize("form", ["paper", "published"])
@pytest.mark.parametrize("positions", ["none", "map", "sine", "learned"])
def test_only_positions_tell_pixels_of_a_plain_image_apart(form: str, positions: str) -> None:
    transformer = small(form=form, positions=positions).eval()
    seen: list[Tensor] = []
    transformer.project.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    with torch.inference_mode():
        transformer(torch.ones(1, 3, 8, 8))
    spread = float(seen[0].std(dim=(2, 3)).mean())
    assert spread < 1e-6 if positions == "none" else spread > 0.01


def test_every_pixel_sees_every_corner() -> None:
    transformer = small(tokens=6).eval()
    other = image()
    other[:, :, :4, :6] += 50
    with torch.inference_mode():
        change = (transformer(other) - transformer(image())).abs()
    assert (change[:, :, -1, -1] > 0).all()


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: "-".join(settings.values()))
def test_fewer_tokens_take_leading_slices_of_weights(settings: dict[str, Any]) -> None:
    """And every parameter but those of projections and queries is the same."""
    many, few = small(tokens=7, **settings).state_dict(), small(tokens=4, **settings).state_dict()
    own = {"project", "queries", "unproject"}
    for name, weight in few.items():
        differs = weight.shape != many[name].shape
        assert not differs or name.split(".")[0] in own
        if differs:
            assert all(a <= b for a, b in zip(weight.shape, many[name].shape, strict=True))
