"""Stem, aggregation, fusion and head: sizes that are no multiples of anything, and counts in closed form."""

from __future__ import annotations

import pytest
import torch

from search_spaces.hyctas.heads import BranchFusion, Fusion, Head, Merge, Stem4, Stem8

SIZES = [(64, 96), (75, 101), (33, 34), (1, 1)]


def up(length: int, stride: int) -> int:
    return -(-length // stride)


def params(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_stem_goes_to_strides_4_and_8_rounding_up(size: tuple[int, int]) -> None:
    stem4, stem8 = Stem4(6, 10).eval(), Stem8(10, 7).eval()
    at4 = stem4(torch.randn(2, 3, *size))
    at8 = stem8(at4)
    assert at4.shape == (2, 10, *(up(length, 4) for length in size))
    assert at8.shape == (2, 7, *(up(length, 8) for length in size))
    assert params(stem4) == 27 * 6 + 9 * 6 * 10 + 9 * 10 * 10 + 2 * (6 + 10 + 10)
    assert params(stem8) == 9 * 10 * 7 + 9 * 7 * 7 + 2 * (7 + 7)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_merging_gives_the_size_of_the_branchs_own_feature(size: tuple[int, int]) -> None:
    merge = Merge(deep=9, own=5, outputs=6).eval()
    deep = torch.randn(2, 9, *(up(length, 2) for length in size))
    assert merge(deep, torch.randn(2, 5, *size)).shape == (2, 6, *size)
    assert params(merge) == 9 * 6 + 9 * (6 + 5) * 6 + 2 * (6 + 6)


def test_both_fusions_keep_the_size_and_have_their_params() -> None:
    features = [torch.randn(2, channels, 5, 7) for channels in (4, 6, 3)]
    published, searching = Fusion(13, 8).eval(), BranchFusion({0: 4, 1: 6, 2: 3}, 8).eval()
    assert published(*features).shape == searching(*features).shape == (2, 8, 5, 7)
    assert params(published) == 13 * 8 + 2 * 8 * 8 + 3 * 2 * 8
    assert params(searching) == 13 * 8 + 2 * (8 * 8 + 8) + 2 * 8


def test_mixing_branch_by_branch_is_a_convolution_of_the_concatenation() -> None:
    features = [torch.randn(2, channels, 5, 7) for channels in (4, 6)]
    apart = BranchFusion({0: 4, 2: 6}, 8).eval()
    kernel = torch.cat([mix.weight for mix in apart.mix.values()], dim=1)
    mixed = torch.nn.functional.conv2d(torch.cat(features, dim=1), kernel)
    y = torch.relu(apart.norm(mixed))
    expected = y + y * torch.sigmoid(apart.gate(y.mean(dim=(2, 3), keepdim=True)))
    torch.testing.assert_close(apart(*features), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("strides", [(), (4,), (8, 4)], ids=str)
def test_the_head_predicts_at_the_stride_of_its_last_stem_feature(
    strides: tuple[int, ...], size: tuple[int, int]
) -> None:
    channels = {stride: 3 + stride for stride in strides}
    head = Head(10, 5, channels).eval()
    low = [torch.randn(2, channels[stride], *(up(length, stride) for length in size)) for stride in strides]
    fused = torch.randn(2, 10, *(up(length, 8) for length in size))
    stride = strides[-1] if strides else 8
    assert head(fused, *low).shape == (2, 5, *(up(length, stride) for length in size))


@pytest.mark.parametrize(("inputs", "middle"), [(256, 256), (257, 128), (384, 192)])
def test_wide_heads_halve_their_channels(inputs: int, middle: int) -> None:
    assert Head(inputs, 5, {}).classify.in_channels == middle


def test_a_missing_stem_feature_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match=r"got 0 stem features, not 1"):
        Head(8, 5, {4: 6})(torch.zeros(1, 8, 4, 4))
