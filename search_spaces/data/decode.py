"""Pairs of files decoded once into uint8 tensors.

Tensors above a memory limit are mapped from files in the cache folder, which the processes of a machine share and the
system may drop from memory at any time: Cityscapes at 1024 x 2048 takes 25 GB of disk and little memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search_spaces.data.files import Labels, Pair, Pixels, checked_size, in_words, read_pair
from search_spaces.data.images import PADDING, image_digest, split_fingerprint
from search_spaces.data.segmentation import IGNORE, SegmentationSplit
from search_spaces.data.settings import DataError

_THREADS = 4
_FORMAT = 1  # of cache files: part of their names


@dataclass(frozen=True)
class Storage:
    """Where decoded splits are kept."""

    cache_folder: Path
    memory_limit_bytes: int = 4 * 2**30
    """Decoded bytes of a split up to which it is kept in memory."""

    @classmethod
    def default(cls) -> Storage:
        """`ARCHIPELAGO_CACHE`, else `XDG_CACHE_HOME`/archipelago, else ~/.cache/archipelago."""
        if own := os.environ.get("ARCHIPELAGO_CACHE"):
            return cls(Path(own))
        return cls(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archipelago")


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
    names = tuple(pair.name for pair in pairs)
    if 4 * len(pairs) * size[0] * size[1] <= storage.memory_limit_bytes:
        images, targets = torch.empty((len(pairs), 3, *size), dtype=torch.uint8), torch.empty(shape, dtype=torch.uint8)
        return SegmentationSplit(images, targets, names, _fill(images, targets, pairs, labels))
    folder = _cached(pairs, labels, shape, storage)
    images, targets = _mapped(folder, shape, shared=False)
    return SegmentationSplit(images, targets, names, (folder / "fingerprint").read_text())


def _cached(pairs: Sequence[Pair], labels: Labels, shape: tuple[int, int, int], storage: Storage) -> Path:
    """The cache folder of the decoded pairs, filled unless it was; another process may fill it at the same time."""
    paths = [path for pair in pairs for path in (pair.image, pair.label)]
    versions = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    described = repr((_FORMAT, shape, sorted(labels.classes.items()), versions))
    folder = storage.cache_folder / "decoded" / hashlib.sha256(described.encode()).hexdigest()[:32]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 4 * int(np.prod(shape)), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(f"{folder.parent} has {free / 1e9:.1f} GB free, the decoded images need {needed / 1e9:.1f} GB: "
                        f"set ARCHIPELAGO_CACHE to a folder with room, or use smaller images")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unfinished = Path(scratch) / "split"
        unfinished.mkdir()
        images, targets = _mapped(unfinished, shape, shared=True)
        (unfinished / "fingerprint").write_text(_fill(images, targets, pairs, labels))
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same pixels
                raise
    return folder


def _mapped(folder: Path, shape: tuple[int, int, int], shared: bool) -> tuple[Tensor, Tensor]:
    n, height, width = shape
    pixels = n * height * width
    images = torch.from_file(str(folder / "images"), shared=shared, size=3 * pixels, dtype=torch.uint8)
    labels = torch.from_file(str(folder / "labels"), shared=shared, size=pixels, dtype=torch.uint8)
    return images.view(n, 3, height, width), labels.view(shape)


def _fill(images: Tensor, targets: Tensor, pairs: Sequence[Pair], labels: Labels) -> str:
    """Decodes every pair into its place; returns the fingerprint of the split."""
    size = (targets.shape[1], targets.shape[2])

    def one(index: int) -> bytes:
        image, label = read_pair(pairs[index], labels)
        if label.shape != size:
            image, label = _fitted(image, label, size)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
        images[index], targets[index] = torch.from_numpy(pixels), torch.from_numpy(label)
        return image_digest(pairs[index].name, pixels.tobytes(), label.tobytes())

    with ThreadPoolExecutor(_THREADS) as threads:  # Pillow decodes without the interpreter's lock
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
