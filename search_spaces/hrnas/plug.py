"""The lightweight transformer in other networks: one line beside any block.

    block = Beside(InvertedResidual(24, 24), LightTransformer(24, 24, tokens=8))

Small networks of inverted residual blocks and of shuffle units, with and without it. Source: HR-NAS, Table 8;
MobileNetV2 (Sandler et al., CVPR 2018), ShuffleNetV2 (Ma et al., ECCV 2018), here with a stage of stride 8, 16 and 32
each and a linear classifier.

    B batch, C channels, H x W size
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces.hrnas.transformer import LightTransformer
from search_spaces.layers import ConvNorm


class Beside(nn.Module):
    """A block and a transformer over the same input, added up."""

    def __init__(self, block: nn.Module, transformer: LightTransformer) -> None:
        super().__init__()
        self.block, self.transformer = block, transformer

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.transformer(x)


class InvertedResidual(nn.Module):
    """The block of MobileNetV2: 1x1 to `expansion` times as many channels, depthwise 3x3, 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.identity = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            ConvNorm(inputs, hidden, 1, relu=True),
            ConvNorm(hidden, hidden, 3, stride, relu=True, groups=hidden),
            ConvNorm(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.identity else y


class ShuffleUnit(nn.Module):
    """The unit of ShuffleNetV2: half of the channels pass by, then both halves are interleaved.

    At stride 2 both halves have a depthwise convolution over the whole input. `outputs` must be even; at stride 1 it is
    the number of inputs too.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        assert stride == 2 or inputs == outputs, "at stride 1 half of the inputs pass by"
        half, entering = outputs // 2, inputs if stride == 2 else inputs // 2
        self.stride = stride
        self.main = nn.Sequential(
            ConvNorm(entering, half, 1, relu=True),
            ConvNorm(half, half, 3, stride, groups=half),
            ConvNorm(half, half, 1, relu=True),
        )
        if stride == 2:
            self.other = nn.Sequential(
                ConvNorm(inputs, inputs, 3, stride, groups=inputs), ConvNorm(inputs, half, 1, relu=True)
            )

    def forward(self, x: Tensor) -> Tensor:
        passing, entering = (self.other(x), x) if self.stride == 2 else x.chunk(2, dim=1)
        return torch.stack([passing, self.main(entering)], dim=2).flatten(1, 2)


class SmallNetwork(nn.Sequential):
    """Image (B, 3, H, W) -> class logits (B, classes): a stem to stride 4, three stages, the mean of all pixels.

    Args:
        unit: `InvertedResidual` or `ShuffleUnit`.
        classes: how many.
        tokens: of a transformer beside every block; 0: there is none.
        channels: of the stem and the stages.
        blocks: in each stage, the first of which goes down.
    """

    def __init__(
        self,
        unit: type[InvertedResidual] | type[ShuffleUnit],
        classes: int,
        tokens: int = 0,
        channels: tuple[int, ...] = (24, 48, 96, 192),
        blocks: int = 3,
    ) -> None:
        layers: list[nn.Module] = [ConvNorm(3, channels[0], 3, 2, relu=True), nn.MaxPool2d(3, 2, 1)]
        for stage, outputs in enumerate(channels[1:]):
            for index in range(blocks):
                inputs, stride = (outputs, 1) if index else (channels[stage], 2)
                block: nn.Module = unit(inputs, outputs, stride)
                if tokens:
                    block = Beside(block, LightTransformer(inputs, outputs, tokens, stride=stride))
                layers.append(block)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
