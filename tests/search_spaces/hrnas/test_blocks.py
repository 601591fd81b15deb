"""Searching blocks: what is left of them, and units that add nothing and go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from search_spaces.base import Operation
from search_spaces.complexity import step_cost
from search_spaces.hrnas.blocks import Classifier, Concatenation, ImageClassifier, SearchingBlock, Sum
from search_spaces.hrnas.settings import TransformerSettings

SMALL = TransformerSettings(size=4)


def block(outputs: int = 6, stride: int = 1, channels: dict[int, int] | None = None, tokens: int = 0) -> SearchingBlock:
    counts = {3: 8, 5: 4, 7: 2} if channels is None else channels
    return SearchingBlock(6, outputs, stride, counts, tokens, SMALL).eval()


def feature(height: int = 9, width: int = 14) -> Tensor:
    return torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("channels", [{}, {3: 0, 5: 4}, {3: 8, 5: 4, 7: 2}], ids=str)
@pytest.mark.parametrize(("outputs", "stride"), [(6, 1), (9, 1), (6, 2), (9, 2)])
def test_shapes_with_any_units(outputs: int, stride: int, channels: dict[int, int], tokens: int) -> None:
    with torch.inference_mode():
        result = block(outputs, stride, channels, tokens)(feature())
    assert result.shape == (2, outputs, *((9, 14) if stride == 1 else (5, 7)))


def test_a_block_without_units_is_its_residual_path() -> None:
    empty = block(channels={3: 0, 5: 0, 7: 0})
    assert not list(empty.parameters())
    assert torch.equal(empty(feature()), feature())
    down = block(outputs=9, stride=2, channels={})
    (kernel,) = down.parameters()
    assert kernel.shape == (9, 2, 1, 1)  # 6 and 9 channels have 3 groups
    assert torch.equal(down(feature()), nn.functional.conv2d(feature(), kernel, stride=2, groups=3))


def test_sum_over_kernel_sizes_is_a_convolution_of_their_concatenation() -> None:
    mixed = block()
    inner = {name: path.depthwise(path.expand(feature())) for name, path in mixed.paths.items()}
    kernel = torch.cat([path.reduce.weight for path in mixed.paths.values()], dim=1)
    together = nn.functional.conv2d(torch.cat(list(inner.values()), dim=1), kernel)
    torch.testing.assert_close(mixed(feature()), feature() + mixed.norm(together))  # type: ignore[misc]


def test_channel_of_no_importance_adds_nothing_and_can_go() -> None:
    """The one whose BatchNorm after the depthwise convolution has scale and bias 0."""
    wide, narrow = block(), block(channels={3: 7, 5: 4, 7: 2})
    with torch.inference_mode():
        norm = wide.paths["3"].depthwise.norm
        norm.weight[7], norm.bias[7] = 0, 0
        state = {name: tensor.shape for name, tensor in narrow.state_dict().items()}
        narrow.load_state_dict(
            {name: t[tuple(slice(size) for size in state[name])] for name, t in wide.state_dict().items()}
        )
        torch.testing.assert_close(narrow(feature()), wide(feature()), atol=1e-6, rtol=0)


def test_multiply_adds_of_the_mixed_path() -> None:
    cost = step_cost(lambda _: block(outputs=9, stride=2), Operation.of("block"), (1, 6, 8, 8))
    expand, depthwise, reduce = 64 * 6 * 14, 16 * (9 * 8 + 25 * 4 + 49 * 2), 16 * 14 * 9
    shortcut = 16 * 9 * 2
    assert cost.macs == expand + depthwise + reduce + shortcut


def test_branches_meet_at_the_first_ones_size() -> None:
    low = torch.full((2, 6, 5, 7), 2.0)
    torch.testing.assert_close(Sum()(feature(), low), nn.functional.relu(feature() + 2))
    assert Concatenation()(torch.zeros(1, 1, 18, 28), feature(), low).shape == (2, 12, 18, 28)


def test_classifying_branches_apart_is_classifying_their_concatenation() -> None:
    classifier, like = Classifier({1: 6, 3: 6}, classes=4), torch.zeros(2, 1, 18, 28)
    nn.init.uniform_(classifier.bias)
    low = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    kernel = torch.cat([conv.weight for conv in classifier.branch.values()], dim=1)
    together = nn.functional.conv2d(Concatenation()(like, feature(), low), kernel, classifier.bias)
    torch.testing.assert_close(classifier(like, feature(), low), together)


def test_an_image_is_classified_by_the_mean_of_all_branches_concatenated() -> None:
    sizes = {0: (4, 16, 24), 1: (6, 8, 12), 3: (9, 2, 3)}
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, *size, generator=generator) for size in sizes.values()]
    classifier = ImageClassifier({name: size[0] for name, size in sizes.items()}, 5)
    nn.init.normal_(classifier.bias)
    together = Concatenation()(features[0], *features)
    weight = torch.cat([branch.weight for branch in classifier.branch.values()], dim=1)  # type: ignore[misc]
    expected = nn.functional.linear(together.mean((2, 3)), weight, classifier.bias)
    torch.testing.assert_close(classifier(*features), expected)
