"""The carriers of classification data: a class for every image.

Shapes: n images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from search_spaces.data.images import ImageData, ImageSplit
from search_spaces.settings import TaskName


@dataclass(frozen=True, eq=False)
class ClassificationSplit(ImageSplit):
    """labels: int64 (n,), a class index."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert (self.labels.dim(), self.labels.dtype) == (1, torch.int64)


@dataclass(frozen=True, eq=False)
class ClassificationData(ImageData):
    """Splits are `ClassificationSplit`s."""

    task: ClassVar[TaskName] = "classification"
