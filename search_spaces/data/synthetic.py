"""Synthetic street scenes as a data set: nothing to download, the same pixels on any machine."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from search_spaces.data.images import image_digest, split_fingerprint
from search_spaces.data.scenes import CLASSES, draw_scene
from search_spaces.data.segmentation import SegmentationData, SegmentationSplit
from search_spaces.data.settings import SyntheticSettings
from search_spaces.data.storage import Storage

_SPLITS = ("train", "validation", "test")


def load_synthetic(settings: SyntheticSettings, _: Storage) -> SegmentationData:
    """Scenes of `search_spaces.data.scenes`; each is drawn from a child seed of its own, so none is in two splits."""
    return SegmentationData(
        train=_drawn("train", settings.train_images, settings),
        validation=_drawn("validation", settings.validation_images, settings),
        load_test=partial(_drawn, "test", settings.test_images, settings),
        class_names=CLASSES,
    )


def _drawn(split: str, n_images: int, settings: SyntheticSettings) -> SegmentationSplit:
    size = (settings.height_px, settings.width_px)
    images = torch.empty((n_images, 3, *size), dtype=torch.uint8)
    labels = torch.empty((n_images, *size), dtype=torch.uint8)
    names, digests = [], []
    for index in range(n_images):
        seed = np.random.SeedSequence(settings.seed, spawn_key=(_SPLITS.index(split), index))
        image, label = draw_scene(np.random.default_rng(seed), *size)
        images[index], labels[index] = torch.from_numpy(image), torch.from_numpy(label)
        names.append(f"{split}-{index:05d}")
        digests.append(image_digest(names[-1], image.tobytes(), label.tobytes()))
    return SegmentationSplit(images, labels, tuple(names), split_fingerprint(size, digests))
