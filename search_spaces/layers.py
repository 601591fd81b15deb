"""Layers that networks of several spaces are made of.

B batch, C channels, H x W size
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution without bias, then BatchNorm, then ReLU if asked for."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = False, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        if relu:
            self.relu = nn.ReLU()


def half(size: torch.Size) -> tuple[int, int]:
    """Height and width halved, rounded up: what a stride of 2 gives."""
    return (size[-2] + 1) // 2, (size[-1] + 1) // 2


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x: (B, C, H, W), resampled bilinearly to (B, C, *size); itself if it has that size."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
