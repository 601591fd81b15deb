"""Image classification: loss, and how often the label is the highest logit or among the highest five.

Shapes: b images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from search_spaces.data.augment import augment_images
from search_spaces.data.settings import AugmentationSettings
from search_spaces.tasks.base import Counter
from search_spaces.training.settings import OptimisationSettings

TOP = (1, 5)
"""Among how many of the highest logits the label is looked for."""


class Classification:
    """Implements `Task`; labels and targets: int64 (b,)."""

    def augment(
        self, images: Tensor, labels: Tensor, settings: AugmentationSettings, rng: np.random.Generator, part: range,
        batch: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return augment_images(images, settings, rng, part, batch)[0], labels

    def targets(self, labels: Tensor, settings: OptimisationSettings) -> tuple[Tensor, Tensor]:
        return labels, labels.new_tensor(len(labels))

    def loss(
        self, logits: Tensor, auxiliary: Sequence[Tensor], targets: Tensor, settings: OptimisationSettings
    ) -> Tensor:
        """Cross-entropy, of a label that shares `settings.label_smoothing` with all classes."""
        loss = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        for extra in auxiliary:
            loss = loss + settings.auxiliary_weight * F.cross_entropy(extra, targets)
        return loss

    def counter(self, labels: Tensor, classes: int) -> Counter:
        return RankCounter(labels)

    def metrics(self, counts: Tensor, class_names: Sequence[str]) -> dict[str, float]:
        """accuracy and top5, of the counts of a `RankCounter`."""
        images, *hits = counts.tolist()
        return {
            name: hit / images if images else float("nan") for name, hit in zip(("accuracy", "top5"), hits, strict=True)
        }


class RankCounter:
    """Counts images, and those whose label is among the highest logits.

    labels: int64 (b,).
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def count(self, logits: Tensor) -> Tensor:
        """int64 (1 + len(TOP),): the images, and how many labels are among the highest logits, by `TOP`.

        logits: (b, C). Of equal logits the first is the higher one; with fewer classes than are looked at all count.
        """
        rank = ranks(logits, self.labels)
        return rank.new_tensor([len(rank), *(int((rank < top).sum()) for top in TOP)])


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """int64 (b,): how many classes are higher than the label's. logits: (b, C); labels: int64 (b,)."""
    own = logits.gather(1, labels[:, None])
    earlier = F.one_hot(labels, logits.shape[1]).cumsum(1) == 0
    return ((logits > own) | ((logits == own) & earlier)).sum(1)
