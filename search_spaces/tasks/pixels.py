"""Semantic segmentation as a task: what training and evaluation take of `segmentation` and `counting`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from search_spaces.data.augment import augment
from search_spaces.data.segmentation import IGNORE
from search_spaces.data.settings import AugmentationSettings
from search_spaces.tasks.base import Counter
from search_spaces.tasks.counting import PixelCounter
from search_spaces.tasks.segmentation import cross_entropy, hardest_cross_entropy, iou_per_class, mean_iou, subsample
from search_spaces.training.settings import OptimisationSettings


class Segmentation:
    """Implements `Task`; labels: (b, H, W), a class or `IGNORE`; counts: int64 (C, C), a confusion matrix."""

    def augment(
        self, images: Tensor, labels: Tensor, settings: AugmentationSettings, rng: np.random.Generator, part: range,
        batch: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return augment(images, labels, settings, rng, part, batch)

    def targets(self, labels: Tensor, settings: OptimisationSettings) -> tuple[Tensor, Tensor]:
        seen = subsample(labels, settings.loss_stride)
        return seen, (seen != IGNORE).sum()

    def loss(
        self, logits: Tensor, auxiliary: Sequence[Tensor], targets: Tensor, settings: OptimisationSettings
    ) -> Tensor:
        """Cross-entropy, of the hardest pixels if so set; of auxiliary outputs always of all."""
        share = settings.hardest_fraction
        loss = cross_entropy(logits, targets) if share is None else hardest_cross_entropy(logits, targets, share)
        for extra in auxiliary:
            loss = loss + settings.auxiliary_weight * cross_entropy(extra, targets)
        return loss

    def counter(self, labels: Tensor, classes: int) -> Counter:
        return PixelCounter(labels, classes)

    def metrics(self, counts: Tensor, class_names: Sequence[str]) -> dict[str, float]:
        """miou, and iou/CLASS of each class that is labelled or predicted at all."""
        per_class = zip(class_names, iou_per_class(counts).tolist(), strict=True)
        return {"miou": mean_iou(counts), **{f"iou/{name}": value for name, value in per_class if np.isfinite(value)}}
