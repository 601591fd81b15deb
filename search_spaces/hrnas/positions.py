"""Positional channels: what tells an attention among pixels where they are.

p channels, h x w pixels
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from search_spaces.hrnas.settings import Form, Positions

CHANNELS: dict[Positions, int] = {"none": 0, "map": 2, "sine": 32, "learned": 32}
"""p by kind. The paper gives none for sines and learned ones, these are ours."""
LONGEST = 10_000
"""The longest wave of the sines, over the shortest."""


def position_map(size: tuple[int, int], form: Form, like: Tensor) -> Tensor:
    """Row and column of each pixel, (2, h, w), with type and device of `like`.

    paper: i / h and j / w. published: with mean 0 and deviation 1. Source: HR-NAS, eq. 2; the authors' code.
    """
    rows, columns = (_steps(length, form, like) for length in size)
    return torch.stack([rows[:, None].expand(size), columns[None, :].expand(size)])


def _steps(length: int, form: Form, like: Tensor) -> Tensor:
    steps = torch.arange(length, dtype=like.dtype, device=like.device)
    if form == "paper":
        return steps / length
    deviation = math.sqrt((length**2 - 1) / 12)
    return (steps - (length - 1) / 2) / (deviation or 1.0)


def position_sines(size: tuple[int, int], like: Tensor) -> Tensor:
    """Sines and cosines of row and column at several wavelengths, (p, h, w), with type and device of `like`.

    Source: Carion et al., ECCV 2020 (normalised to one turn), after Vaswani et al., 2017.
    """
    count = CHANNELS["sine"] // 4
    frequencies = LONGEST ** (-torch.arange(count, device=like.device) / count)
    angles = 2 * math.pi * position_map(size, "paper", frequencies)[:, None] * frequencies[:, None, None]
    waves = torch.stack([angles.sin(), angles.cos()], dim=2)  # (2, count, 2, h, w)
    return waves.flatten(0, 2).to(like.dtype)
