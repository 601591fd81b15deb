"""Pairs of files decoded once into uint8 tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search_spaces.data.files import Labels, Pair, Pixels, checked_size, in_words, read_pair
from search_spaces.data.images import PADDING, image_digest, split_fingerprint
from search_spaces.data.segmentation import IGNORE, SegmentationSplit
from search_spaces.data.settings import DataError
from search_spaces.data.storage import FORMAT, THREADS, Storage, version_of


def decode(pairs: Sequence[Pair], labels: Labels, size: tuple[int, int] | None, storage: Storage) -> SegmentationSplit:
    """All pairs as tensors; with `size` (height, width) each one is fitted into it, else all must be of one size.

    An image of other proportions than `size` keeps its own and is padded, with `PADDING` and `IGNORE`.

    Raises:
        DataError: a file is unreadable, sizes differ, a label value is not allowed, the disk is too full.
    """
    sizes = [checked_size(pair) for pair in pairs]
    if size is None:
        size = sizes[0]
        for pair, found in zip(pairs, sizes, strict=True):
            if found != size:
                raise DataError(f"{pair.image} is {in_words(found)}, but {pairs[0].image} is {in_words(size)}: "
                                f"all images of a split must be of one size")  # fmt: skip
    shape = (len(pairs), *size)

    def described() -> str:
        versions = [version_of(path) for pair in pairs for path in (pair.image, pair.label)]
        return repr((FORMAT, shape, sorted(labels.classes.items()), versions))

    shapes = {"images": (len(pairs), 3, *size), "labels": shape}
    tensors, fingerprint = storage.filled(shapes, partial(_fill, pairs, labels), described)
    return SegmentationSplit(tensors["images"], tensors["labels"], tuple(pair.name for pair in pairs), fingerprint)


def _fill(pairs: Sequence[Pair], labels: Labels, tensors: Mapping[str, Tensor]) -> str:
    """Decodes every pair into its place; returns the fingerprint of the split."""
    images, targets = tensors["images"], tensors["labels"]
    size = (targets.shape[1], targets.shape[2])

    def one(index: int) -> bytes:
        image, label = read_pair(pairs[index], labels)
        if label.shape != size:
            image, label = _fitted(image, label, size)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
        images[index], targets[index] = torch.from_numpy(pixels), torch.from_numpy(label)
        return image_digest(pairs[index].name, pixels.tobytes(), label.tobytes())

    with ThreadPoolExecutor(THREADS) as threads:
        return split_fingerprint(size, list(threads.map(one, range(len(pairs)))))


def _fitted(image: Pixels, label: Pixels, size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Image (h, w, 3) and label (h, w) resized into `size`, proportions kept, padded to the right and below."""
    ratio = min(size[0] / label.shape[0], size[1] / label.shape[1])
    height, width = (max(1, round(ratio * length)) for length in label.shape)
    fitted_image = np.empty((*size, 3), np.uint8)
    fitted_image[:] = PADDING
    fitted_label = np.full(size, IGNORE, np.uint8)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    fitted_image[:height, :width] = np.asarray(resized)
    fitted_label[:height, :width] = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    return fitted_image, fitted_label
