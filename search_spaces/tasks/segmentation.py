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


def subsample(labels: Tensor, stride: int) -> Tensor:
    """(b, H / stride, W / stride): every stride-th label down and across, from the middle of each square."""
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """float (b, C, H, W): `logits` (b, C, h, w) at `size` (H, W), bilinear between pixel centres."""
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def neighbours(full: int, low: int) -> tuple[Tensor, Tensor]:
    """Of each of `full` pixel centres the last of `low` centres before it, int64 -1 .. low - 1, and the weight of the
    one after it, float32 in [0, 1). Beyond the first and the last centre the value stays what it is there."""
    position = (torch.arange(full, dtype=torch.float64) + 0.5) * low / full - 0.5
    before = position.floor()
    return before.long(), (position - before).float()


def _interpolated(values: Tensor, full: int, dim: int) -> Tensor:
    """`values` at `full` positions along `dim`: low + (high - low) * weight, each operation rounded on its own."""
    size = values.shape[dim]
    before, weight = (one.to(values.device) for one in neighbours(full, size))
    low, high = (values.index_select(dim, end.clamp(0, size - 1)) for end in (before, before + 1))
    shape = [full if axis == dim % values.dim() else 1 for axis in range(values.dim())]
    return high.sub_(low).mul_(weight.view(shape)).add_(low)


def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (b, H, W): the class of the highest logit at `size` (H, W), the first one of equals.

    logits: (b, C, h, w), C <= 255; interpolated in float32 between pixel centres, first across, then down. One image is
    upsampled at a time, so b does not count for memory, and an image's classes do not depend on its batch.
    """
    b, n_classes, *_ = logits.shape
    assert n_classes <= 255, f"classes must fit into uint8, got {n_classes}"
    prediction = torch.empty((b, *size), dtype=torch.uint8, device=logits.device)
    planes = logits.float().contiguous()  # channels last, resampling and maximum take three times as long
    for image, out in zip(planes, prediction, strict=True):
        _first_highest(_interpolated(_interpolated(image, size[1], -1), size[0], -2), out)
    return prediction


def _first_highest(planes: Tensor, out: Tensor) -> None:
    """`planes.argmax(0)` of (C, H, W), written into `out`, uint8 (H, W).

    On a CPU argmax over the first axis goes pixel by pixel: a running maximum over whole planes is ten times faster.
    """
    if planes.device.type != "cpu":
        out.copy_(planes.argmax(0))
        return
    out.zero_()
    highest = planes[0].clone()
    for index, plane in enumerate(planes[1:], start=1):
        higher = torch.gt(plane, highest).view(torch.uint8)
        torch.maximum(out, higher.mul_(index), out=out)  # a later class has the larger index
        torch.maximum(highest, plane, out=highest)


def confusion(prediction: Tensor, label: Tensor, n_classes: int, ignore_index: int = IGNORE) -> Tensor:
    """int64 (C, C): how many pixels of each label (row) have each prediction (column); ignored ones are not counted.

    prediction, label: uint8 of one shape; labels are below C, or `ignore_index`, which is at least C.
    """
    assert prediction.shape == label.shape
    assert ignore_index >= n_classes
    row = label.clamp(max=n_classes).int()  # ignored pixels get a row of their own
    counts = torch.bincount((row.mul_(n_classes).add_(prediction)).flatten(), minlength=n_classes * (n_classes + 1))
    matrix = counts.view(n_classes + 1, n_classes)
    assert matrix[-1].sum() == (label == ignore_index).sum(), f"labels must be below {n_classes} or {ignore_index}"
    return matrix[:-1]


def iou_per_class(confusion: Tensor) -> Tensor:
    """float64 (C,): intersection over union of each class; NaN where it is neither labelled nor predicted."""
    matrix = confusion.double()
    hit = matrix.diagonal()
    return hit / (matrix.sum(0) + matrix.sum(1) - hit)


def mean_iou(confusion: Tensor) -> float:
    """The mean IoU over the classes that are labelled or predicted at all; NaN when there is none."""
    return iou_per_class(confusion).nanmean().item()
