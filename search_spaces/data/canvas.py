"""A canvas with the camera of a street scene: where things of the world appear, and how they are painted.

Lengths are in camera heights. `depth` is how large a camera height appears, as a fraction of its size at the image's
lower edge: 1 there, 0 at the horizon.

Shapes: h x w pixels; y (h, 1) and x (1, w) are their centres; colours are (3, 1, 1) in 0 to 255, textures (3, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = Callable[[Floats, Floats], Mask]
"""Which part of its box a thing covers, given y and x from -1 to 1 over the box."""


class Canvas:
    """Pixels (3, h, w) and labels (h, w) under one horizon, haze and generator."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.pixels = np.zeros((3, height, width), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.y: Floats = np.arange(height, dtype=np.float32)[:, None] + 0.5
        self.x: Floats = np.arange(width, dtype=np.float32)[None, :] + 0.5
        self.horizon = height * self.between(0.35, 0.5)
        self.vanishing = width * self.between(0.3, 0.7)
        self.unit = height - self.horizon
        """Pixels of a camera height at depth 1."""
        self.camera = 0.0
        """How far to the right of the road's middle the camera is."""
        self.sky = rgb(150, 175, 205) + self.between(-25, 35)
        self.haze = self.between(0, 0.6)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def on_side(self, low: float, high: float) -> float:
        return self.between(low, high) * (1 if self.rng.random() < 0.5 else -1)

    def noise(self, strength: int) -> Floats:
        """(h, w): whole numbers, uniform from -strength to strength."""
        return self.rng.integers(-strength, strength + 1, (self.height, self.width), np.int16).astype(np.float32)

    def colour(self) -> Floats:
        return rgb(*(self.between(15, 110) for _ in range(3))) + self.between(15, 110)

    def column(self, across: float, depth: float) -> float:
        """Where something `across` camera heights to the right of the road's middle appears."""
        return self.vanishing + (across - self.camera) * self.unit * depth

    def hazy(self, colour: Floats, depth: float | Floats) -> Floats:
        """A colour (3, ...) as seen from a distance."""
        far = np.maximum(0, 0.6 - np.asarray(depth, np.float32)) * self.haze
        seen: Floats = colour + (self.sky - colour) * far
        return seen

    def paint(self, mask: Mask, label: int, colour: Floats) -> None:
        """Sets what `mask`, (h, w) or (h, 1), covers."""
        np.copyto(self.pixels, colour, where=mask)
        np.copyto(self.labels, label, where=mask)

    def place(
        self, across: float, depth: float, wide: float, low: float, high: float, label: int, colour: Floats,
        shape: Shape,
    ) -> None:  # fmt: skip
        """Paints a thing that stands upright, from `low` to `high` above the ground, at least two pixels in size."""
        scale, middle = self.unit * depth, self.column(across, depth)
        half = max(wide * scale / 2, 1.0)
        left, right, bottom = middle - half, middle + half, self.horizon + scale * (1 - low)
        top = min(self.horizon + scale * (1 - high), bottom - 2)
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        columns = slice(max(0, round(left)), max(0, round(right)))
        y = (2 * self.y[rows] - top - bottom) / (bottom - top)
        x = (2 * self.x[:, columns] - left - right) / (right - left)
        mask = shape(y, x)
        seen = self.hazy(colour[:, rows, columns] if colour.shape[1] > 1 else colour, depth)
        np.copyto(self.pixels[:, rows, columns], seen, where=mask)
        np.copyto(self.labels[rows, columns], label, where=mask)


def rgb(*values: float) -> Floats:
    """(3, 1, 1), from red, green and blue, or from one grey."""
    return np.array(values if len(values) == 3 else values * 3, np.float32).reshape(3, 1, 1)


def fraction(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """What follows the decimal point, in [0, 1)."""
    rest: NDArray[np.floating[Any]] = values - np.floor(values)
    return rest


def whole_box(y: Floats, x: Floats) -> Mask:
    return np.ones((1, 1), bool)


def ellipse(y: Floats, x: Floats) -> Mask:
    return x * x + y * y <= 1


def tapered(y: Floats, x: Floats) -> Mask:
    return np.abs(x) <= 0.85 + 0.15 * y


def both_ends(y: Floats, x: Floats) -> Mask:
    return np.abs(x) > 0.6


def two_legs(y: Floats, x: Floats) -> Mask:
    return np.abs(x) > 0.2 * (1 + y)
