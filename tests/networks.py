"""Small network spaces, weights and scenes that tests of several packages share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search_spaces.apart import ApartSpace
from search_spaces.base import NetworkSpace
from search_spaces.data.classification import ClassificationData, ClassificationSplit
from search_spaces.data.segmentation import SegmentationData
from search_spaces.data.settings import SyntheticSettings
from search_spaces.data.synthetic import load_synthetic
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hyctas.architecture import HyctasArchitecture
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.settings import TaskName
from search_spaces.supernet import Supernet, Weights, shared_name


@cache
def scenes() -> SegmentationData:
    """24 training and 8 validation scenes of 32 x 64 pixels, drawn in a moment."""
    sizes = {"height_px": 32, "width_px": 64, "train_images": 24, "validation_images": 8, "test_images": 1}
    return load_synthetic(SyntheticSettings(**sizes), lambda path: None)  # type: ignore[arg-type]  # unused


def small_space(layers: int = 4, filters: int = 2, **settings: object) -> HyctasSpace:
    """A HyCTAS space of small networks for the classes of `scenes`."""
    return HyctasSpace(HyctasSettings(layers=layers, filters=filters, **settings), scenes().n_classes)  # type: ignore[arg-type]


def small_hrnas(task: TaskName = "segmentation", **settings: Any) -> HrnasSpace:
    """An HR-NAS space of small networks for the classes of `scenes`, with islands of one and of three branches."""
    modules = [
        {"blocks": [1], "channels": [4]},
        {"blocks": [1, 2], "channels": [6, 8]},
        {"blocks": [1, 1, 1], "channels": [6, 8, 12]},
    ]
    small = {"branches": (1, 3), "stem": (3, 4), "modules": modules, "expansion": 2}
    transformer = {"tokens": 5, "size": 3, **settings.pop("transformer", {})}
    document = {**small, **settings, "transformer": transformer}
    return HrnasSpace(HrnasSettings(**document), scenes().n_classes, task=task)


def plain_images(count: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 images (count, 3, *size), noise around the colour of their class, and the class of each, red to blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    colours = 100 + 100 * np.eye(3)[labels]
    noise = rng.integers(-60, 56, (count, 3, *size))
    return torch.from_numpy((colours[:, :, None, None] + noise).astype(np.uint8)), torch.from_numpy(labels)


def plain_split(count: int, seed: int = 0) -> ClassificationSplit:
    images, labels = plain_images(count, seed=seed)
    return ClassificationSplit(images, labels, tuple(f"{seed}-{index}" for index in range(count)), f"{seed:016x}")


@cache
def colours() -> ClassificationData:
    """24 training and 9 validation images of three classes, which a few steps of training tell apart."""
    return ClassificationData(plain_split(24), plain_split(9, 1), partial(plain_split, 6, 2), ("red", "green", "blue"))


def apart(whole: Callable[..., NetworkSpace[Any]], branches: tuple[int, ...], **settings: Any) -> ApartSpace:
    """A space whose islands share no weights, of those that `whole(branches=..., ...)` makes."""
    space = whole(branches=branches, **settings)
    parts = zip(space.islands, branches, strict=True)
    return ApartSpace(space, {island: whole(branches=(count,), **settings) for island, count in parts})


def awake(supernet: Supernet) -> Supernet:
    """The supernet as after some training: what starts at a constant is random, gates of attention are open."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, weight in supernet.weights.items():
            if weight.dim() == 1:
                low = 0.5 if shared_name(key).endswith(("weight", "gamma")) else -0.5
                weight.uniform_(low, low + 1, generator=generator)
    return supernet


def small_weights(space: NetworkSpace[Any]) -> Weights:
    """Weights of a supernet that is awake, read-only as workers of a node see them."""
    weights = awake(Supernet(space, torch.Generator().manual_seed(0))).to_numpy()
    for array in weights.values():
        array.flags.writeable = False
    return weights


def by_ends(space: NetworkSpace[HyctasArchitecture], seed: int = 0) -> dict[tuple[int, ...], HyctasArchitecture]:
    """A random architecture for each combination of ends that the space has."""
    rng = np.random.default_rng(seed)
    samples = (space.decode(island, space.sample(island, rng)) for island in space.islands for _ in range(40))
    return {architecture.ends: architecture for architecture in samples}
