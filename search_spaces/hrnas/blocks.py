"""What HR-NAS networks are made of: stem, searching blocks, and what brings branches together.

    B batch, c input channels, c' output channels, H x W input size

A unit of a searching block is a hidden channel of one kernel size, or a token. The importance of a channel is the scale
of the BatchNorm after its depthwise convolution: where scale and bias are 0 it adds nothing, and can be removed.

Source: HR-NAS, section 3.2 and Figure 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.drop_path import DropsPaths
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.hrnas.transformer import LightTransformer
from search_spaces.layers import ConvNorm, resize


class Stem(nn.Sequential):
    """Image (B, 3, H, W) -> (B, outputs, H/4, W/4)."""

    def __init__(self, middle: int, outputs: int) -> None:
        super().__init__(ConvNorm(3, middle, 3, stride=2, relu=True), ConvNorm(middle, outputs, 3, stride=2, relu=True))


class MixPath(nn.Sequential):
    """The hidden channels of one kernel size: 1x1 from c to `channels`, depthwise, 1x1 to c'."""

    def __init__(self, inputs: int, outputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(inputs, channels, 1, relu=True)
        self.depthwise = ConvNorm(channels, channels, kernel, stride, relu=True, groups=channels)
        self.reduce = nn.Conv2d(channels, outputs, 1, bias=False)


class SearchingBlock(nn.Module, DropsPaths):
    """MixConv and a transformer beside a residual path: (B, c, H, W) -> (B, c', H / stride, W / stride).

    The sum of the kernel sizes' 1x1 convolutions equals one over their concatenation (eq. 5). The residual path is the
    identity where it can be, else a 1x1 convolution with as many groups as both sides can be cut into; it is what is
    left of a block without units.

    Args:
        inputs: c.
        outputs: c'.
        stride: 1 or 2.
        channels: hidden channels by kernel size; 0: there is no such convolution.
        tokens: of the transformer; 0: there is none.
        transformer: its form.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        channels: Mapping[int, int],
        tokens: int,
        transformer: TransformerSettings,
    ) -> None:
        super().__init__()
        self.identity = stride == 1 and inputs == outputs
        if not self.identity:
            groups = math.gcd(inputs, outputs)
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)
        self.paths = nn.ModuleDict(
            {
                str(kernel): MixPath(inputs, outputs, count, kernel, stride)
                for kernel, count in channels.items()
                if count
            }
        )
        self.norm = nn.BatchNorm2d(outputs) if self.paths else None
        self.transformer = LightTransformer(inputs, outputs, tokens, transformer, stride) if tokens else None

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.identity else self.shortcut(x)
        if self.norm is not None:
            mixed = self.norm(reduce(torch.add, [path(x) for path in self.paths.values()]))
            y = y + (self.drop(mixed) if self.identity else mixed)
        if self.transformer is not None:
            y = y + self.transformer(x)
        return y


class Sum(nn.Module):
    """Where branches meet in a fusion: the features at the first one's size, added up, then ReLU."""

    def forward(self, *features: Tensor) -> Tensor:
        size = (features[0].shape[-2], features[0].shape[-1])
        return F.relu(reduce(torch.add, [resize(feature, size) for feature in features]))


class Concatenation(nn.Module):
    """The branches' features at the size of `like` (B, C, H, W), one after the other: (B, sum of c, H, W)."""

    def forward(self, like: Tensor, *features: Tensor) -> Tensor:
        size = (like.shape[-2], like.shape[-1])
        return torch.cat([resize(feature, size) for feature in features], dim=1)


class Classifier(nn.Module):
    """Class logits (B, classes, H, W) at the size of `like` (B, C, H, W) from the branches' features.

    Each branch is classified at its own size, and the logits are resized and added up. That is the paper's 1x1
    convolution over the resized and concatenated features, to rounding: both are linear, pixel weights sum to one. It
    takes an eighth of the multiply-adds, and all numbers of branches share it.
    """

    def __init__(self, inputs: Mapping[int, int], classes: int) -> None:
        super().__init__()
        self.branch = nn.ModuleDict({str(name): nn.Conv2d(c, classes, 1, bias=False) for name, c in inputs.items()})
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, like: Tensor, *features: Tensor) -> Tensor:
        size = (like.shape[-2], like.shape[-1])
        logits = [conv(feature) for conv, feature in zip(self.branch.values(), features, strict=True)]
        return reduce(torch.add, [resize(one, size) for one in logits]) + self.bias.view(1, -1, 1, 1)


class ImageClassifier(nn.Module):
    """Class logits (B, classes) of an image from the branches' features: the means of their pixels, classified.

    That is the mean of the resized and concatenated features' pixels, and one linear layer, to rounding, wherever each
    branch has half as many pixels as the one before: resizing by a whole factor keeps the mean.
    """

    def __init__(self, inputs: Mapping[int, int], classes: int) -> None:
        super().__init__()
        self.branch = nn.ModuleDict({str(name): nn.Linear(c, classes, bias=False) for name, c in inputs.items()})
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, *features: Tensor) -> Tensor:
        means = [feature.mean((2, 3)) for feature in features]
        logits = [linear(mean) for linear, mean in zip(self.branch.values(), means, strict=True)]
        return reduce(torch.add, logits) + self.bias
