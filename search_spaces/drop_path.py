"""Drop path: in training, whole residual branches are left out at random, an image at a time.

Source: stochastic depth (Huang et al., ECCV 2016); with a rate that rises linearly over training, the scheduled drop
path of NASNet (Zoph et al., CVPR 2018), with which HyCTAS retrains.
"""

from __future__ import annotations

import torch
from torch import Tensor


class DropsPaths:
    """What a module inherits whose result is added to its input. Off unless a trainer sets a rate."""

    drop_rate: float = 0.0
    """Probability that an image's result is left out."""
    drop_generator: torch.Generator | None = None
    """What draws the images, on their device."""

    def drop(self, y: Tensor) -> Tensor:
        """y: (batch, ...), of which a share of `drop_rate` is zero now and the rest grows, so that the mean stays."""
        if self.drop_rate == 0:
            return y
        kept = 1 - self.drop_rate
        draws = torch.rand(len(y), *[1] * (y.dim() - 1), device=y.device, generator=self.drop_generator)
        return y * ((draws < kept).to(y.dtype) / kept)
