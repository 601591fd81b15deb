from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.data.registry import load
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import CamvidSettings
from search_spaces.tasks.segmentation import (
    confusion,
    cross_entropy,
    hardest_cross_entropy,
    iou_per_class,
    mean_iou,
    predict,
    upsample,
)


def pixels(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5), st.integers(1, 6))
def test_prediction_is_the_argmax_with_ties_to_the_first(seed: int, b: int, classes: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    few_values = torch.randint(-2, 3, (b, classes, h, w), generator=generator).float()  # so there are many ties
    for logits in (few_values, torch.randn((b, classes, h, w), generator=generator)):
        for size in ((h, w), (4 * h + 1, 3 * w)):
            assert torch.equal(predict(logits, size), interpolated(logits, size).argmax(1).to(torch.uint8))


def interpolated(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear between pixel centres, written for one axis after the other."""
    for dim, full in ((3, size[1]), (2, size[0])):
        low = logits.shape[dim]
        position = ((torch.arange(full, dtype=torch.float64) + 0.5) * low / full - 0.5).clamp(0, low - 1)
        before = position.floor()
        shape = [full if axis == dim else 1 for axis in range(4)]
        weight = (position - before).float().view(shape)
        first = logits.index_select(dim, before.long())
        second = logits.index_select(dim, (before.long() + 1).clamp(max=low - 1))
        logits = first + (second - first) * weight
    return logits


def test_prediction_interpolates_as_training_does() -> None:
    logits = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(interpolated(logits, (45, 61)), upsample(logits, (45, 61)))


def test_equal_logits_are_the_first_class() -> None:
    assert (predict(torch.zeros(2, 5, 3, 3), (24, 24)) == 0).all()


def test_an_images_classes_do_not_depend_on_its_batch() -> None:
    logits = torch.randn(5, 7, 6, 8, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([predict(one[None], (45, 61)) for one in logits])
    assert torch.equal(predict(logits, (45, 61)), alone)


def test_confusion_counts_labels_by_row() -> None:
    matrix = confusion(pixels(0, 1, 1, 2, 2, 2), pixels(0, 0, 1, 2, 1, IGNORE), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_iou_in_closed_form() -> None:
    matrix = confusion(pixels(0, 1, 1, 2, 2, 2), pixels(0, 0, 1, 2, 1, IGNORE), 3)
    assert iou_per_class(matrix).tolist() == [1 / 2, 1 / 3, 1 / 2]
    assert mean_iou(matrix) == pytest.approx(4 / 9)


def test_a_class_that_is_neither_labelled_nor_predicted_does_not_count() -> None:
    matrix = confusion(pixels(0, 0, 2), pixels(0, 0, 2), 4)
    assert iou_per_class(matrix).isnan().tolist() == [False, True, False, True]
    assert mean_iou(matrix) == 1


def test_a_class_that_is_only_predicted_counts_as_nothing_right() -> None:
    assert mean_iou(confusion(pixels(0, 1), pixels(0, 0), 3)) == pytest.approx((1 / 2 + 0) / 2)


def test_nothing_labelled_is_no_number() -> None:
    assert math.isnan(mean_iou(confusion(pixels(0, 1), pixels(IGNORE, IGNORE), 3)))


def test_matrices_of_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, label = torch.randint(0, 150, (2, 6, 20, 20), dtype=torch.uint8, generator=generator)
    label[label > 140] = IGNORE
    parts = [confusion(prediction[i : i + 2], label[i : i + 2], 150) for i in (0, 2, 4)]
    assert torch.equal(sum(parts, torch.zeros(150, 150, dtype=torch.int64)), confusion(prediction, label, 150))


def test_a_label_that_is_no_class_is_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="labels must be below 3 or 255"):
        confusion(pixels(0), pixels(3), 3)


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    logits = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (2, 6, 6), generator=torch.Generator().manual_seed(1))
    labels[0, :3] = IGNORE
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels, ignore_index=IGNORE))


def test_low_resolution_logits_are_upsampled_for_the_loss() -> None:
    logits = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (1, 12, 12), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(upsample(logits, (12, 12)), labels))


@pytest.mark.parametrize("loss", [cross_entropy, hardest_cross_entropy])
def test_nothing_labelled_is_no_loss_and_no_gradient(loss: object) -> None:
    assert callable(loss)
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((1, 2, 2), IGNORE))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_hardest_pixels_are_kept() -> None:
    confidence = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, -50.0])
    logits = torch.stack((confidence, torch.zeros(11)))[None, :, None]  # (1, 2, 1, 11)
    labels = torch.zeros((1, 1, 11), dtype=torch.int64)
    labels[..., -1] = IGNORE  # the hardest one by far
    expected = F.softplus(-confidence[:2]).mean()  # 20 % of ten
    torch.testing.assert_close(hardest_cross_entropy(logits, labels, 0.2), expected)
    torch.testing.assert_close(hardest_cross_entropy(logits, labels, 1.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_a_fraction_is_a_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"fraction must be in \(0, 1\], got {fraction}"):
        hardest_cross_entropy(torch.zeros(1, 2, 2, 2), torch.zeros((1, 2, 2), dtype=torch.int64), fraction)


@pytest.fixture(scope="module")
def camvid(camvid_root: Path) -> SegmentationData:
    return load(CamvidSettings(root=str(camvid_root)))


def test_always_road_on_camvid(camvid: SegmentationData) -> None:
    labels = camvid.validation.labels
    road = torch.full_like(labels, camvid.class_names.index("Road"))
    assert mean_iou(confusion(road, labels, camvid.n_classes)) == pytest.approx(0.027, abs=5e-4)


def test_the_commonest_class_of_each_position_on_camvid(camvid: SegmentationData) -> None:
    counts = torch.stack([(camvid.train.labels == index).sum(0) for index in range(camvid.n_classes)])
    commonest = counts.argmax(0).to(torch.uint8)
    for split, miou in ((camvid.validation, 0.167), (camvid.test, 0.172)):
        matrix = confusion(commonest.expand_as(split.labels), split.labels, camvid.n_classes)
        assert mean_iou(matrix) == pytest.approx(miou, abs=5e-4)
