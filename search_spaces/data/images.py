"""The carriers of image data: splits of uint8 tensors, and how pixels become a network's input.

Shapes: n images, h x w pixels, b images in a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces.settings import TaskName

MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in [0, 1]. Source: ImageNet, as the field's pretrained networks use it."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in [0, 1]. Source: as `MEAN`."""
PADDING = tuple(round(255 * value) for value in MEAN)
"""The colour outside an image: zero after normalisation."""


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images with their labels, decoded once. Tensors may be mapped from a file: never write into them."""

    images: Tensor
    """uint8 (n, 3, h, w), red, green, blue."""
    labels: Tensor
    """(n, ...): what the data set's task is to predict."""
    names: tuple[str, ...]
    """(n,) distinct names, in the order of the tensors."""
    fingerprint: str
    """16 hex digits over names, pixels and labels: equal splits, equal scores."""

    def __post_init__(self) -> None:
        n, channels, *_ = self.images.shape
        assert (channels, self.images.dtype) == (3, torch.uint8)
        assert len(self.labels) == n, f"images {self.images.shape}, labels {self.labels.shape}"
        assert len(set(self.names)) == n, f"{n} images have {len(set(self.names))} distinct names"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.images.shape[2:]
        return height, width


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: what is trained on, what the search looks at, and what it never sees before the end."""

    task: ClassVar[TaskName]
    """What its labels are for."""
    train: ImageSplit
    validation: ImageSplit
    """Scores candidates during a search. Shares no image with `test`."""
    load_test: Callable[[], ImageSplit]
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = MEAN
    """Of red, green and blue in [0, 1]; see `normalise`."""
    std: tuple[float, float, float] = STD

    @cached_property
    def test(self) -> ImageSplit:
        """For the final numbers; decoded when first asked for."""
        return self.load_test()

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def normalise(self, images: Tensor) -> Tensor:
        """float32 (b, 3, h, w), zero mean and unit deviation per channel, of uint8 `images` (b, 3, h, w)."""
        return normalise(images, self.mean, self.std)


def normalise(images: Tensor, mean: tuple[float, float, float] = MEAN, std: tuple[float, float, float] = STD) -> Tensor:
    """float32 (b, 3, h, w): `(images / 255 - mean) / std` of uint8 `images` (b, 3, h, w), on their device."""
    columns = torch.tensor([mean, std], dtype=torch.float64) * 255
    shift, scale = columns.float().to(images.device)[:, :, None, None]
    return images.float().sub_(shift).div_(scale)


def image_digest(name: str, image: bytes, label: bytes) -> bytes:
    """SHA-256 over one image's name, its decoded pixels and its label."""
    hasher = hashlib.sha256(f"{name}\0{len(image)}\0".encode())
    hasher.update(image)
    hasher.update(label)
    return hasher.digest()


def split_fingerprint(size: tuple[int, int], digests: list[bytes]) -> str:
    """16 hex digits over the (height, width) and the images' digests, in order."""
    hasher = hashlib.sha256(f"{size[0]}x{size[1]}\0".encode())
    for digest in digests:
        hasher.update(digest)
    return hasher.hexdigest()[:16]
