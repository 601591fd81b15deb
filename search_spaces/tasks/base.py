"""What a task gives to training and to evaluation: batches, loss, and counts that become metrics.

b images of a batch, C classes, H x W pixels; targets and counts are tensors of a shape of the task's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from search_spaces.data.settings import AugmentationSettings
from search_spaces.training.settings import OptimisationSettings


class Counter(Protocol):
    """Counts outputs against the same labels again and again."""

    def count(self, logits: Tensor) -> Tensor:
        """int64 counts, which add up over batches, of a network's output, float and finite."""


class Task(Protocol):
    """Loss and metrics of one kind of labels."""

    def augment(
        self, images: Tensor, labels: Tensor, settings: AugmentationSettings, rng: np.random.Generator, part: range,
        batch: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Normalised float32 images (b, 3, H, W) and their labels, of a `part` of a batch of `batch` images.

        images: uint8 (b, 3, h, w). The numbers drawn depend on the size of the whole batch alone.
        """

    def targets(self, labels: Tensor, settings: OptimisationSettings) -> tuple[Tensor, Tensor]:
        """What the loss looks at, and how many labels that are, int64 ()."""

    def loss(
        self, logits: Tensor, auxiliary: Sequence[Tensor], targets: Tensor, settings: OptimisationSettings
    ) -> Tensor:
        """The mean loss over the targets, a scalar, with that of the auxiliary outputs."""

    def counter(self, labels: Tensor, classes: int) -> Counter:
        """What counts outputs against the labels of a batch."""

    def metrics(self, counts: Tensor, class_names: Sequence[str]) -> dict[str, float]:
        """The task's metrics, see `METRICS_OF`, NaN where nothing was counted; and those of each class by class."""
