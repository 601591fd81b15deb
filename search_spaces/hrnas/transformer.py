"""The lightweight transformer: attention among a few tokens, each of which sees the whole feature.

    B batch, c input channels, c' output channels, H x W input size, n tokens of s x s pixels, d = s^2, p positional
    channels, m = n, or n + p where positions are tokens beside the decoder's queries

    projector (B, c, H, W) -> (B, n, s, s), encoder and decoder (B, n, d) -> (B, m, d), inverse projector (B, c', ...)

A token is a channel of the projector: its importance is the scale of the projector's BatchNorm, and removing it leaves
a transformer of n - 1 tokens, with leading slices of the same weights if it was the last one.

Resizing is bilinear without a filter, as in both: of a feature much larger than s x s most pixels are not looked at.

Source: HR-NAS, section 3.1 and Figure 2; the published form matches the authors' code in every parameter and
multiply-add.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.hrnas.positions import CHANNELS, position_map, position_sines
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.layers import ConvNorm, resize


class TokenAttention(nn.Module):
    """Scaled attention with one head: queries (B, m, d) and memory (B, m, d) -> (B, m, d)."""

    def __init__(self, tokens: int, dimensions: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.query = nn.Linear(dimensions, width, bias=False)
        self.key = nn.Linear(dimensions, width, bias=False)
        self.value = nn.Linear(dimensions, width, bias=False)
        self.out = nn.Linear(width, dimensions, bias=False)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        q, k, v = self.query(queries), self.key(memory), self.value(memory)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return self.out(mixed[:, 0])

    def product_macs(self, pixels: int) -> int:
        """q k' and the weighted sum of v: 2 m^2 width, whatever the pixels."""
        return 2 * self.tokens**2 * self.query.out_features

    def product_elements(self, pixels: int) -> int:
        """The attention weights: m^2."""
        return self.tokens**2


class TokenLayer(nn.Module):
    """Attention, then a feed-forward; each is added to what came in and normalised.

    queries, memory and beside (B, m, d) -> (B, m, d); `beside` is what the attended memory is added to.
    """

    def __init__(self, tokens: int, settings: TransformerSettings) -> None:
        super().__init__()
        d, paper = settings.size**2, settings.form == "paper"
        hidden = 4 * d if paper else d
        self.attention = TokenAttention(tokens, d, settings.width or d)
        self.norm1 = nn.LayerNorm(d)
        self.feed = nn.Sequential(nn.Linear(d, hidden, bias=paper), nn.ReLU(), nn.Linear(hidden, d, bias=paper))
        self.norm2 = nn.LayerNorm(d)

    def forward(self, queries: Tensor, memory: Tensor, beside: Tensor) -> Tensor:
        y = self.norm1(beside + self.attention(queries, memory))
        return self.norm2(y + self.feed(y))


class LightTransformer(nn.Module):
    """Adds a global view to any block: (B, c, H, W) -> (B, c', H / stride, W / stride), rounded up.

    It is to be added to the block's own result: `y = block(x) + transformer(x)`.

    Args:
        inputs: c.
        outputs: c'.
        tokens: n, at least 1.
        settings: the form; how many tokens there are at most does not matter here.
        stride: 1 or 2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        tokens: int,
        settings: TransformerSettings | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.settings = settings = settings or TransformerSettings()
        self.stride = stride
        positions = CHANNELS[settings.positions]
        beside = positions if settings.positions_in == "both" else 0
        if settings.positions == "learned":
            self.positions = nn.Parameter(torch.randn(positions, settings.size, settings.size))
        self.project = ConvNorm(positions + inputs, tokens, 1)
        self.encoder = TokenLayer(tokens, settings)
        self.queries = nn.Parameter(torch.randn(tokens, settings.size**2))
        self.decoder = TokenLayer(beside + tokens, settings)
        self.unproject = ConvNorm(beside + tokens, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        settings = self.settings
        square = (settings.size, settings.size)
        tokens = self._projected(x).flatten(2)
        memory = self.encoder(tokens, tokens, tokens)
        queries = self.queries.repeat(len(x), 1, 1)
        if settings.positions_in == "both":  # positions come first, so that fewer tokens take leading slices of weights
            beside = self._positions(square, x).flatten(2)
            memory, queries = (torch.cat([beside, rest], dim=1) for rest in (memory, queries))
        decoded = self.decoder(queries, memory, queries if settings.form == "paper" else memory)
        size = tuple((length + self.stride - 1) // self.stride for length in x.shape[-2:])  # ONNX divides towards 0
        return resize(self.unproject(decoded.unflatten(2, square)), (size[0], size[1]))

    def _projected(self, x: Tensor) -> Tensor:
        """The tokens as maps, (B, n, s, s)."""
        square = (self.settings.size, self.settings.size)
        if self.settings.form == "published":
            x = resize(x, square)
        full = (x.shape[-2], x.shape[-1])
        return resize(self.project(torch.cat([self._positions(full, x), x], dim=1)), square)

    def _positions(self, size: tuple[int, int], x: Tensor) -> Tensor:
        """The positional channels at a size, for each image: (B, p, *size)."""
        match self.settings.positions:
            case "map":
                channels = position_map(size, self.settings.form, x)
            case "sine":
                channels = position_sines(size, x)
            case "learned":
                channels = resize(self.positions[None], size)[0]
            case _:
                channels = x.new_empty(0, *size)
        return channels.expand(len(x), -1, -1, -1)
