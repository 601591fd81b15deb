"""Augmentation of training batches: flip, scale, crop and colour, all images of a batch at once.

Flip, scale and crop are one affine sampling of each image, so a pixel is interpolated once, and only where the crop
looks. Everything random is drawn from the generator that is passed in: its state is the whole state.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.data.images import normalise
from search_spaces.data.segmentation import IGNORE
from search_spaces.data.settings import AugmentationSettings


def augment(
    images: Tensor,
    labels: Tensor,
    settings: AugmentationSettings,
    rng: np.random.Generator,
    part: range | None = None,
    batch: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalised float32 images (b, 3, H, W) and int64 labels (b, H, W), H x W being the crop.

    images: uint8 (b, 3, h, w); labels: uint8 (b, h, w). Outside of an image pixels are 0, the mean colour, and
    labels `IGNORE`. At scale 1 the pixels of a crop are those of the image.

    They may be a `part` of a batch of `batch` images: numbers are drawn for all of these, so that an image becomes
    what it would in the whole. The numbers drawn per call depend on the size of the whole batch alone.
    """
    pixels, grid = augment_images(images, settings, rng, part, batch)
    shifted = labels.unsqueeze(1).float().sub_(IGNORE)  # outside, where samples are 0, then means IGNORE
    targets = F.grid_sample(shifted, grid, "nearest", "zeros", align_corners=False).squeeze(1).add_(IGNORE)
    return pixels, targets.long()


def augment_images(
    images: Tensor,
    settings: AugmentationSettings,
    rng: np.random.Generator,
    part: range | None = None,
    batch: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As `augment`, of images alone; and where each pixel of the crops looks, float32 (b, H, W, 2)."""
    batch = batch or len(images)
    part = part or range(batch)
    assert len(part) == len(images)
    size = settings.crop or (images.shape[2], images.shape[3])
    grid = _crops(images, size, settings, rng, part, batch)
    pixels = F.grid_sample(normalise(images), grid, "bilinear", "zeros", align_corners=False)
    return _coloured(pixels, settings.colour, rng, part, batch), grid


def _crops(
    images: Tensor,
    size: tuple[int, int],
    settings: AugmentationSettings,
    rng: np.random.Generator,
    part: range,
    batch: int,
) -> Tensor:
    """float32 (b, H, W, 2): where in an image, from -1 to 1 between its edges, each pixel of the crop looks.

    The crop's corner is a whole number of scaled pixels; where the scaled image is smaller than the crop it lies
    anywhere inside of it.
    """
    mirrored = (rng.random(batch) < settings.flip_probability)[part]
    scale = rng.uniform(*settings.scale, batch)[part]
    positions = []
    for extent, length in zip(images.shape[2:], size, strict=True):
        corner = np.rint(rng.random(batch)[part] * (extent * scale - length))
        positions.append((np.arange(length) + corner[:, None] + 0.5) / (extent * scale)[:, None] * 2 - 1)
    vertical, horizontal = positions
    horizontal = np.where(mirrored[:, None], -horizontal, horizontal)
    rows = torch.from_numpy(vertical.astype(np.float32)).to(images.device)[:, :, None].expand(-1, -1, size[1])
    columns = torch.from_numpy(horizontal.astype(np.float32)).to(images.device)[:, None, :].expand(-1, size[0], -1)
    return torch.stack((columns, rows), dim=3)


def _coloured(pixels: Tensor, strength: float, rng: np.random.Generator, part: range, batch: int) -> Tensor:
    """Normalised `pixels` (b, 3, H, W) with random saturation, contrast and brightness, drawn per image."""
    drawn = rng.uniform(-strength, strength, (3, batch, 1, 1, 1)).astype(np.float32)[:, part]
    if strength == 0:
        return pixels
    saturation, contrast, brightness = torch.from_numpy(drawn).to(pixels.device)
    grey = pixels.mean(1, keepdim=True)
    coloured: Tensor = ((pixels - grey) * (1 + saturation) + grey) * (1 + contrast) + brightness
    return coloured
