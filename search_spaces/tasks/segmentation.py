"""Semantic segmentation: loss, prediction and mIoU.

Shapes: b images, C classes, h x w logits (low resolution), H x W labels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.data.segmentation import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """The mean cross-entropy over labelled pixels, a scalar; 0 with zero gradients when nothing is labelled.

    logits: float (b, C, h, w), upsampled bilinearly to the labels' size; labels: int64 (b, H, W).
    """
    losses = pixel_losses(logits, labels, ignore_index)
    return losses.sum() / (labels != ignore_index).sum().clamp(min=1)


def hardest_cross_entropy(logits: Tensor, labels: Tensor, fraction: float = 0.2, ignore_index: int = IGNORE) -> Tensor:
    """The mean cross-entropy over the hardest `fraction` of the batch's labelled pixels (rounded up), a scalar.

    Shapes as `cross_entropy`. Source: Panoptic-DeepLab (hard pixel mining, top 20 %), as HyCTAS trains; there the
    fraction is of all pixels, here of the labelled ones, so unlabelled regions do not soften it.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
    losses = pixel_losses(logits, labels, ignore_index)[labels != ignore_index]
    if not len(losses):
        return losses.sum()
    return losses.topk(math.ceil(fraction * len(losses)), sorted=False).values.mean()


def pixel_losses(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """float (b, H, W): the cross-entropy of each pixel, 0 where it is ignored. Shapes as `cross_entropy`."""
    upsampled = upsample(logits, (labels.shape[-2], labels.shape[-1]))
    return F.cross_entropy(upsampled, labels, ignore_index=ignore_index, reduction="none")


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """float (b, C, H, W): `logits` (b, C, h, w) at `size` (H, W), bilinear between pixel centres."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (b, H, W): the class of the highest logit at `size`, the first one of equals; logits: (b, C, h, w)."""
    return upsample(logits, size).argmax(1).to(torch.uint8)


def confusion(prediction: Tensor, label: Tensor, n_classes: int, ignore_index: int = IGNORE) -> Tensor:
    """int64 (C, C): pixels by label (row) and prediction (column); ignored ones are not counted.

    prediction, label: uint8 of one shape.
    """
    index = label.clamp(max=n_classes).short() * n_classes + prediction
    counts = torch.bincount(index.flatten(), minlength=n_classes * (n_classes + 1))
    return counts[: n_classes**2].view(n_classes, n_classes)


def iou_per_class(confusion: Tensor) -> Tensor:
    """float64 (C,): intersection over union of each class; NaN where it is neither labelled nor predicted."""
    matrix = confusion.double()
    hit = matrix.diagonal()
    return hit / (matrix.sum(0) + matrix.sum(1) - hit)


def mean_iou(confusion: Tensor) -> float:
    """The mean IoU over the classes that are labelled or predicted at all; NaN when there is none."""
    return iou_per_class(confusion).nanmean().item()
