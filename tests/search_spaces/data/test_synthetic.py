from __future__ import annotations

import time

import pytest
import torch

from search_spaces.data.registry import load
from search_spaces.data.scenes import CLASSES
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import SyntheticSettings


@pytest.fixture(scope="module")
def data() -> SegmentationData:
    return load(SyntheticSettings(train_images=40, validation_images=10, test_images=10))


def test_a_seed_gives_the_same_pixels_on_any_machine(data: SegmentationData) -> None:
    assert data.train.fingerprint == "4a57518db135431b"
    assert data.validation.fingerprint == "660731eadae753ad"


def test_splits_and_seeds_differ_and_the_first_images_do_not_depend_on_the_count(data: SegmentationData) -> None:
    fewer = load(SyntheticSettings(train_images=3, validation_images=3, test_images=3))
    other = load(SyntheticSettings(train_images=3, validation_images=3, test_images=3, seed=1))
    assert torch.equal(fewer.train.images, data.train.images[:3])
    for first, second in ((fewer.train, other.train), (fewer.train, fewer.validation), (fewer.validation, fewer.test)):
        assert (first.images != second.images).any(dim=(1, 2, 3)).all()


def test_all_classes_are_there_and_small_things_are_rare(data: SegmentationData) -> None:
    counts = data.train.labels.flatten().bincount(minlength=256)
    shares = {name: counts[index].item() / counts.sum().item() for index, name in enumerate(CLASSES)}
    assert all(0.003 < share < 0.35 for share in shares.values()), shares
    assert shares["pole"] + shares["sign"] < 0.05
    assert 0 < counts[IGNORE].item() / counts.sum().item() < 0.05
    assert counts[len(CLASSES) : IGNORE].sum() == 0


def test_road_and_pavement_look_alike(data: SegmentationData) -> None:
    """What tells them apart is where they are: their mean colours differ by less than half of the colours' spread."""
    images = data.train.images.permute(1, 0, 2, 3).float()
    road, pavement = (images[:, data.train.labels == CLASSES.index(name)] for name in ("road", "pavement"))
    assert (road.mean(1) - pavement.mean(1)).abs().max() < 0.5 * road.std(1).min()


def test_other_sizes_are_drawn(data: SegmentationData) -> None:
    small = load(SyntheticSettings(height_px=32, width_px=64, train_images=2, validation_images=1, test_images=1))
    assert small.train.images.shape == (2, 3, 32, 64)
    assert small.train.images.is_contiguous()
    assert data.train.size == (96, 128)


def test_drawing_is_fast() -> None:
    start = time.process_time()
    load(SyntheticSettings(train_images=20, validation_images=1, test_images=1))
    assert time.process_time() - start < 2  # 0.15 s where it was written
