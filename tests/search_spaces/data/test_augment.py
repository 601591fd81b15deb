from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.data.augment import augment
from search_spaces.data.images import normalise
from search_spaces.data.segmentation import IGNORE
from search_spaces.data.settings import AugmentationSettings

PLAIN = AugmentationSettings(flip_probability=0, scale=(1, 1))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 24, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 11, (4, 24, 32), dtype=torch.uint8, generator=generator)


def test_nothing_to_do_is_normalisation(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    pixels, targets = augment(images, labels, PLAIN, np.random.default_rng(0))
    assert torch.equal(targets, labels.long())
    torch.testing.assert_close(pixels, normalise(images), atol=1e-4, rtol=0)


def test_normalise_is_the_formula() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    expected = torch.tensor([[-0.5, 0.0, -2.0], [0.5, 4.0, 2.0]]).view(2, 3, 1, 1)
    assert torch.equal(normalise(images, (0.5, 0.0, 0.5), (1.0, 0.25, 0.25)), expected)


def test_a_flip_mirrors_image_and_label(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    settings = PLAIN.model_copy(update={"flip_probability": 1.0})
    pixels, targets = augment(images, labels, settings, np.random.default_rng(0))
    assert torch.equal(targets, labels.flip(2).long())
    torch.testing.assert_close(pixels, normalise(images).flip(3), atol=1e-4, rtol=0)


def test_a_crop_is_a_window_of_the_image(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    settings = PLAIN.model_copy(update={"crop": (8, 16)})
    pixels, targets = augment(images, labels, settings, np.random.default_rng(3))
    whole = normalise(images)
    for index in range(4):
        windows = labels[index].long().unfold(0, 8, 1).unfold(1, 16, 1)  # (17, 17, 8, 16)
        row, column = (windows == targets[index]).all(dim=(2, 3)).nonzero()[0].tolist()
        window = whole[index, :, row : row + 8, column : column + 16]
        torch.testing.assert_close(pixels[index], window, atol=1e-4, rtol=0)


def test_outside_of_the_image_is_ignored_and_of_the_mean_colour(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    settings = PLAIN.model_copy(update={"crop": (32, 48)})
    pixels, targets = augment(images, labels, settings, np.random.default_rng(0))
    inside = targets != IGNORE
    assert (inside.sum(dim=(1, 2)) == 24 * 32).all()
    assert torch.equal(targets[inside], labels.flatten().long())
    assert pixels.permute(0, 2, 3, 1)[~inside].abs().max() < 1e-4


def test_scale_makes_things_larger() -> None:
    labels = torch.zeros((1, 32, 32), dtype=torch.uint8)
    labels[0, 12:20, 12:20] = 1
    images = labels[:, None].expand(-1, 3, -1, -1) * 255
    settings = PLAIN.model_copy(update={"scale": (2.0, 2.0), "crop": (64, 64)})
    pixels, targets = augment(images, labels, settings, np.random.default_rng(0))
    assert (targets == 1).sum() == 16 * 16
    assert (targets == IGNORE).sum() == 0
    assert (pixels[:, 0] > 0).sum() == 16 * 16


def test_the_generator_is_the_whole_state(batch: tuple[Tensor, Tensor]) -> None:
    settings = AugmentationSettings(crop=(16, 16), scale=(0.5, 2), colour=0.4)
    rng = np.random.default_rng(7)
    augment(*batch, settings, rng)
    state = rng.bit_generator.state
    pixels, targets = augment(*batch, settings, rng)
    resumed = np.random.default_rng()
    resumed.bit_generator.state = state
    again, targets_again = augment(*batch, settings, resumed)
    assert torch.equal(pixels, again)
    assert torch.equal(targets, targets_again)
    later, _ = augment(*batch, settings, rng)
    assert not torch.equal(pixels, later)


def test_colour_changes_pixels_and_no_label(batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    plain, _ = augment(images, labels, PLAIN, np.random.default_rng(0))
    coloured, targets = augment(images, labels, PLAIN.model_copy(update={"colour": 0.3}), np.random.default_rng(0))
    assert torch.equal(targets, labels.long())
    assert ((plain - coloured).abs().amax(dim=(1, 2, 3)) > 0.05).all()
    assert (plain - coloured).abs().max() < 2.5


@given(st.integers(0, 3), st.integers(1, 4), st.integers(0, 100))
def test_a_part_of_a_batch_becomes_what_it_would_in_the_whole(first: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (4, 3, 12, 16), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 11, (4, 12, 16), dtype=torch.uint8, generator=generator)
    settings = AugmentationSettings(crop=(8, 8), scale=(0.5, 2), colour=0.3)
    part = range(first, min(4, first + count))
    pixels, targets = augment(images, labels, settings, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    some, some_targets = augment(images[list(part)], labels[list(part)], settings, rng, part, 4)
    assert torch.equal(some, pixels[list(part)])
    assert torch.equal(some_targets, targets[list(part)])
