from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.data.segmentation import IGNORE
from search_spaces.tasks.counting import PixelCounter
from search_spaces.tasks.segmentation import confusion, predict


def upsampled_counts(logits: Tensor, labels: Tensor) -> Tensor:
    prediction = predict(logits, (labels.shape[1], labels.shape[2]))
    return confusion(prediction, labels, logits.shape[1])


def random_labels(generator: torch.Generator, b: int, classes: int, h: int, w: int) -> Tensor:
    labels = torch.randint(0, classes + 1, (b, h, w), generator=generator)
    return torch.where(labels == classes, IGNORE, labels).to(torch.uint8)


def smooth(generator: torch.Generator, b: int, classes: int, h: int, w: int) -> Tensor:
    """Logits with large areas of one class."""
    coarse = torch.randn((b, classes, 2, 3), generator=generator)
    return torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear")


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 12), sizes, sizes, sizes)
def test_counts_are_those_of_upsampling_every_pixel(
    seed: int, b: int, classes: int, low: tuple[int, int], factor: tuple[int, int], more: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    full = [size * times + extra - 1 for size, times, extra in zip(low, factor, more, strict=True)]
    labels = random_labels(generator, b, classes, *full)
    counter = PixelCounter(labels, classes)
    few_values = torch.randint(-2, 3, (b, classes, *low), generator=generator).float()  # so there are many ties
    for logits in (
        few_values,
        torch.randn((b, classes, *low), generator=generator),
        smooth(generator, b, classes, *low),
    ):
        assert torch.equal(counter.count(logits), upsampled_counts(logits, labels))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_counts_do_not_depend_on_the_size_of_the_logits(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, logits = random_labels(generator, 2, 5, 180, 240), smooth(generator, 2, 5, 23, 30)
    nearly = logits + torch.randn(logits.shape, generator=generator) * 1e-6  # corners that lead by a rounding error
    for one in (logits, nearly, (logits > 0).float()):
        assert torch.equal(PixelCounter(labels, 5).count(one * scale), upsampled_counts(one * scale, labels))


def test_many_classes_and_cells_are_counted_in_parts() -> None:
    generator = torch.Generator().manual_seed(1)
    labels, logits = random_labels(generator, 1, 150, 512, 512), torch.randn((1, 150, 128, 128), generator=generator)
    assert torch.equal(PixelCounter(labels, 150).count(logits), upsampled_counts(logits, labels))


def test_equal_logits_are_the_first_class() -> None:
    counts = PixelCounter(torch.ones(1, 8, 8, dtype=torch.uint8), 3).count(torch.zeros(1, 3, 2, 2))
    assert counts.tolist() == [[0, 0, 0], [64, 0, 0], [0, 0, 0]]


def test_layout_and_precision_of_the_logits_change_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    labels, logits = random_labels(generator, 2, 4, 32, 48), torch.randn((2, 4, 8, 12), generator=generator)
    halved = logits.bfloat16()
    counter = PixelCounter(labels, 4)
    expected = counter.count(halved.float())
    assert torch.equal(counter.count(halved.contiguous(memory_format=torch.channels_last)), expected)
