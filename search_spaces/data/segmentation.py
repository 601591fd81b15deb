"""The carriers of segmentation data: a class for every pixel of an image.

Shapes: n images, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from search_spaces.data.images import ImageData, ImageSplit
from search_spaces.settings import TaskName

IGNORE = 255
"""The label of pixels that no loss and no score looks at, in every data set of ours."""


@dataclass(frozen=True, eq=False)
class SegmentationSplit(ImageSplit):
    """labels: uint8 (n, h, w), a class index, or `IGNORE`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.labels.dtype == torch.uint8
        shape = [len(self), *self.size]
        assert list(self.labels.shape) == shape, f"images {self.images.shape}, labels {self.labels.shape}"


@dataclass(frozen=True, eq=False)
class SegmentationData(ImageData):
    """Splits are `SegmentationSplit`s."""

    task: ClassVar[TaskName] = "segmentation"
    ignore_index: int = IGNORE
