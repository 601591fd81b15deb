"""What surrounds the cells: the stem before them, aggregation, fusion and the segmentation head after them.

    B batch, C channels; a feature "at stride s" has size (B, C, H / s, W / s), rounded up

Source: the authors' retraining code; the published family matches it in every parameter and multiply-add.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.hyctas.operators import LightConv2, PixelAttention
from search_spaces.layers import ConvNorm, half, resize

PROJECTED_CHANNELS = {(): (), (4,): (48,), (8, 4): (64, 32)}
"""Channels to which a head projects the stem features that it merges in, by their strides."""


class Stem4(nn.Sequential):
    """Image (B, 3, H, W) -> the stride-4 feature (B, outputs, H/4, W/4)."""

    def __init__(self, middle: int, outputs: int) -> None:
        super().__init__(
            ConvNorm(3, middle, 3, stride=2),
            ConvNorm(middle, outputs, 3, stride=2, relu=True),
            ConvNorm(outputs, outputs, 3, relu=True),
        )


class Stem8(nn.Sequential):
    """The stride-4 feature -> the stride-8 feature (B, outputs, H/8, W/8)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            ConvNorm(inputs, outputs, 3, stride=2, relu=True),
            ConvNorm(outputs, outputs, 3, relu=True),
        )


class Merge(nn.Module):
    """A deep feature brought up one stride and merged with the branch's own last feature there.

    deep (B, deep, h, w), own (B, own, 2h, 2w) -> (B, outputs, 2h, 2w). The deep feature's channels come first.
    """

    def __init__(self, deep: int, own: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(deep, outputs, 1)
        self.merge = ConvNorm(outputs + own, outputs, 3)

    def forward(self, deep: Tensor, own: Tensor) -> Tensor:
        up = resize(self.reduce(deep), (own.shape[-2], own.shape[-1]))
        return self.merge(torch.cat([up, own], dim=1))


class Fusion(nn.Module):
    """The branches' features (B, C_i, h, w) -> (B, outputs, h, w), channels weighed by the whole image's mean.

    y = ReLU(BN(1x1(concat))), then y + y * sigmoid(BN(1x1(ReLU(BN(1x1(mean(y))))))).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = ConvNorm(inputs, outputs, 1, relu=True)
        self.gate = nn.Sequential(ConvNorm(outputs, outputs, 1, relu=True), ConvNorm(outputs, outputs, 1))

    def forward(self, *features: Tensor) -> Tensor:
        y = self.mix(torch.cat(features, dim=1))
        return y + y * torch.sigmoid(self.gate(y.mean(dim=(2, 3), keepdim=True)))


class BranchFusion(nn.Module):
    """The searching family's fusion: (B, C_i, h, w) -> (B, outputs, h, w), one 1x1 convolution a branch, summed.

    The sum equals a convolution of the concatenation; apart, each branch's part is shared by all combinations of
    ends. The gate's convolutions have a bias instead of BatchNorm, whose statistics over one value an image would
    be as noisy as the batch is small.
    """

    def __init__(self, inputs: dict[int, int], outputs: int) -> None:
        super().__init__()
        self.mix = nn.ModuleDict({str(end): nn.Conv2d(c, outputs, 1, bias=False) for end, c in inputs.items()})
        self.norm = nn.BatchNorm2d(outputs)
        self.gate = nn.Sequential(nn.Conv2d(outputs, outputs, 1), nn.ReLU(), nn.Conv2d(outputs, outputs, 1))

    def forward(self, *features: Tensor) -> Tensor:
        mixed = [mix(feature) for mix, feature in zip(self.mix.values(), features, strict=True)]
        y = F.relu(self.norm(reduce(torch.add, mixed)))
        return y + y * torch.sigmoid(self.gate(y.mean(dim=(2, 3), keepdim=True)))


class HeadAttention(nn.Module):
    """Attention at half size, expanded again and added to its input: (B, C, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels, 1, relu=True)
        self.attention = PixelAttention(channels)
        self.norm = nn.BatchNorm2d(channels)
        self.expand = ConvNorm(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.attention(resize(self.reduce(x), half(x.shape)))))
        return F.relu(self.expand(resize(y, (x.shape[-2], x.shape[-1]))) + x)


class Head(nn.Module):
    """The fused stride-8 feature (B, inputs, h, w) -> class logits (B, classes, h', w').

    `low_level` has the channels of the stem features that are merged in, by their strides: none (logits at stride
    8), the stride-4 feature (logits at stride 4), or the stride-8 and then the stride-4 feature.
    """

    def __init__(self, inputs: int, classes: int, low_level: dict[int, int]) -> None:
        super().__init__()
        middle = inputs if inputs <= 256 else inputs // 2
        projected = PROJECTED_CHANNELS[tuple(low_level)]
        self.attention = HeadAttention(inputs)
        self.project = nn.ModuleList(map(lambda i, o: ConvNorm(i, o, 1), low_level.values(), projected))
        widths = [inputs] + [middle] * (len(projected) - 1)
        extras = projected or (0,)
        self.refine = nn.ModuleList(
            LightConv2(width + extra, middle, stride=1) for width, extra in zip(widths, extras, strict=True)
        )
        self.conv = ConvNorm(middle, middle, 3, relu=True)
        self.classify = nn.Conv2d(middle, classes, 1)

    def forward(self, x: Tensor, *low_level: Tensor) -> Tensor:
        assert len(low_level) == len(self.project), f"got {len(low_level)} stem features, not {len(self.project)}"
        y = self.attention(x)
        for index, refine in enumerate(self.refine):
            if low_level:
                low = self.project[index](low_level[index])
                y = torch.cat([resize(y, (low.shape[-2], low.shape[-1])), low], dim=1)
            y = F.relu(refine(y))
        logits: Tensor = self.classify(self.conv(y))
        return logits
