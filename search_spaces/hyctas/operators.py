"""The five operators that a cell chooses from, each a plain module without its final ReLU.

    B batch, I input channels, O output channels, H x W input size, H' x W' = H x W / stride (rounded up)

Every operator maps (B, I, H, W) to (B, O, H', W'). Submodules named `kernel3` and `kernel1` are the first 3x3 and 1x1
convolutions from I to O: in the searching family all operators of a cell share their weights.

Source: HyCTAS, sections 3.2 and 3.3, and the operator table of the authors' retraining code, which the published
family matches in every parameter and multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.drop_path import DropsPaths
from search_spaces.layers import ConvNorm, half, resize

OPERATORS = ("skip", "conv", "light", "light2", "attention")
"""The operators by index, as in the authors' encoding (skip, conv, conv_downup, conv_2x_downup, sa)."""


class Skip(nn.Module):
    """A 1x1 convolution: what is left of a cell that does nothing else. Stride 1 only."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        assert stride == 1, "a skip cannot go down: see the space's constraints"
        super().__init__()
        self.kernel1 = ConvNorm(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel1(x)


class Conv(nn.Module):
    """One 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.kernel3 = ConvNorm(inputs, outputs, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel3(x)


class LightConv(nn.Module):
    """The light-weight convolution: a zoomed 3x3 (half size and back) beside a 1x1 at full size.

    At stride 2 it stays at half size and has no 1x1 beside it.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.kernel3 = ConvNorm(inputs, outputs, 3)
        self.kernel1 = ConvNorm(inputs, outputs, 1) if stride == 1 else None

    def zoomed(self, x: Tensor) -> Tensor:
        return self.kernel3(x)

    def forward(self, x: Tensor) -> Tensor:
        y = self.zoomed(resize(x, half(x.shape)))
        if self.kernel1 is None:
            return y
        return resize(y, (x.shape[-2], x.shape[-1])) + self.kernel1(x)


class LightConv2(LightConv):
    """The light-weight convolution with two zoomed 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.second3 = ConvNorm(outputs, outputs, 3)

    def zoomed(self, x: Tensor) -> Tensor:
        return self.second3(F.relu(self.kernel3(x)))


class PixelAttention(nn.Module):
    """Attention among all pixels, added to its input: y = x + gamma * softmax(q k') v, one head, unscaled.

    q and k have O // 8 channels (at least 1), v has O; gamma is learned and starts at 0, so that the module starts as
    identity. Memory is quadratic in the pixels. Source: the authors' retraining code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.query = nn.Conv2d(channels, narrow, 1)
        self.key = nn.Conv2d(channels, narrow, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        return x + self.gamma * (value @ weights.transpose(1, 2)).view_as(x)

    def product_macs(self, pixels: int) -> int:
        """q k' and the weighted sum of v: P^2 (O // 8 + O)."""
        return pixels**2 * (self.query.out_channels + self.value.out_channels)

    def product_elements(self, pixels: int) -> int:
        """The attention weights: P^2."""
        return pixels**2


class PublishedAttention(nn.Module):
    """The attention cell of the authors' retraining code: quadratic at full width, with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(inputs, outputs, 1, relu=True)
        self.attention = PixelAttention(outputs)
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.norm = nn.BatchNorm2d(outputs)
        self.expand = ConvNorm(outputs, outputs, 1)
        same = inputs == outputs and stride == 1
        kernel = 1 if stride == 1 else 3
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, kernel, stride, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.pool(self.attention(self.reduce(x)))))
        return self.expand(y) + self.shortcut(x)


class MultiHeadAttention(nn.Module):
    """Scaled attention among all pixels, added to its input: (B, d, H, W) -> the same.

    The matrix of attention weights is never held where torch has a fused kernel: memory is linear in the pixels.
    Query, key and value are convolutions of their own, so that each keeps its role in a leading slice of the weights.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)  # softmax cancels a bias of keys
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        split = (batch, self.heads, channels // self.heads, height * width)
        # three of (B, heads, HW, d / heads)
        q, k, v = (conv(x).view(split).mT.contiguous() for conv in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + mixed.transpose(2, 3).reshape(batch, channels, height, width)

    def product_macs(self, pixels: int) -> int:
        """q k' and the weighted sum of v: 2 P^2 d."""
        return 2 * pixels**2 * self.query.in_channels

    def product_elements(self, pixels: int) -> int:
        """None: a fused kernel keeps its inputs alone."""
        return 0


class BottleneckAttention(nn.Module):
    """The memory-efficient self-attention of the paper: a bottleneck without FFN beside a bypass convolution.

    A 1x1 reduces I channels to d = O / 2 (at least 8), multi-head attention mixes the pixels of the half-size map, a
    1x1 expands to O, and the result goes back to full size; the bypass (1x1, or 3x3 where the path goes down) keeps
    what the bottleneck drops. At stride 2 it stays at half size. Source: HyCTAS, section 3.3. The paper gives no
    sizes, these are ours; half size is what the authors' head gives its attention.
    """

    HEADS = 2

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        width = max(8, outputs // 2 // self.HEADS * self.HEADS)
        self.reduce = ConvNorm(inputs, width, 1, relu=True)
        self.attention = MultiHeadAttention(width, self.HEADS)
        self.expand = ConvNorm(width, outputs, 1)
        if stride == 1:
            self.kernel1 = ConvNorm(inputs, outputs, 1)
        else:
            self.kernel3 = ConvNorm(inputs, outputs, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.attention(resize(self.reduce(x), half(x.shape))))
        if hasattr(self, "kernel1"):
            return resize(y, (x.shape[-2], x.shape[-1])) + self.kernel1(x)
        return y + self.kernel3(x)


Body = Callable[[int, int, int], nn.Module]
"""Builds an operator from input channels, output channels and stride."""

BODIES: dict[str, dict[str, Body]] = {
    "published": {
        "skip": Skip,
        "conv": Conv,
        "light": LightConv,
        "light2": LightConv2,
        "attention": PublishedAttention,
    },
    "searching": {
        "skip": Skip,
        "conv": Conv,
        "light": LightConv,
        "light2": LightConv2,
        "attention": BottleneckAttention,
    },
}
"""The operators of each family."""


class Cell(nn.Module, DropsPaths):
    """An operator, then ReLU; with an identity path, the channels that input and output share are added before it.

    The identity path costs no parameters and no multiply-adds. It lets a shared cell pass on what came in whichever
    operator is chosen, which is what makes random subnets trainable at small budgets; and drop path can leave the
    operator out.
    """

    def __init__(self, body: nn.Module, identity: bool) -> None:
        super().__init__()
        self.body = body
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.identity:
            extra = y.shape[1] - x.shape[1]
            y = self.drop(y) + (x[:, : y.shape[1]] if extra <= 0 else F.pad(x, (0, 0, 0, 0, 0, extra)))
        return F.relu(y)
