"""Pairs of image and label files: found, checked, decoded once into uint8 tensors.

Tensors above `memory_limit_bytes` are mapped from a file in the cache folder, which the processes of a machine share
and the system may drop from memory at any time: Cityscapes at 1024 x 2048 takes 25 GB of disk and little memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from search_spaces.data.segmentation import IGNORE, PADDING, SegmentationSplit, image_digest, split_fingerprint
from search_spaces.data.settings import DataError

MEMORY_LIMIT_BYTES = 4 * 2**30
"""Decoded bytes of a split up to which it is kept in memory."""
_THREADS = 4
_FORMAT = 1  # of cache files: part of their names

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Storage:
    """Where decoded splits are kept."""

    cache_folder: Path
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES

    @classmethod
    def default(cls) -> Storage:
        """`ARCHIPELAGO_CACHE`, else `XDG_CACHE_HOME`/archipelago, else ~/.cache/archipelago."""
        if own := os.environ.get("ARCHIPELAGO_CACHE"):
            return cls(Path(own))
        return cls(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archipelago")


@dataclass(frozen=True)
class Pair:
    """An image and its label on disk."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Labels:
    """What the pixel values of label files mean."""

    classes: Mapping[int, int]
    """Class index of a pixel value, or `IGNORE`. Other values are errors."""
    allowed: str
    """The allowed values, in words."""

    def table(self) -> tuple[Pixels, NDArray[np.bool_]]:
        """(256,) class per value, and (256,) whether the value is allowed."""
        classes, allowed = np.full(256, IGNORE, np.uint8), np.zeros(256, bool)
        for value, index in self.classes.items():
            classes[value], allowed[value] = index, True
        return classes, allowed


def pairs_in(images: Path, labels: Path, image_pattern: str, label_pattern: str) -> list[Pair]:
    """The pairs under two folders, by name: what `*` stands for in the patterns, sub-folders included.

    Raises:
        DataError: a folder is missing or empty, an image has no label, a label has no image.
    """
    found_images, found_labels = _named(images, image_pattern), _named(labels, label_pattern)
    if not found_images:
        raise DataError(f"{images} holds no image {image_pattern}: put the images there, or mend data.root")
    for name in sorted(found_images.keys() ^ found_labels.keys()):
        if name in found_images:
            missing = labels / label_pattern.replace("*", name)
            raise DataError(f"{found_images[name]} has no label: add {missing}, or remove the image")
        missing = images / image_pattern.replace("*", name)
        raise DataError(f"{found_labels[name]} has no image: add {missing}, or remove the label")
    return [Pair(name, found_images[name], found_labels[name]) for name in sorted(found_images)]


def hold_out(pairs: Sequence[Pair], n_images: int, seed: int, where: Path) -> tuple[list[Pair], list[Pair]]:
    """`pairs` parted into (kept, held out), both in order; `n_images` are held out, the same for the same seed.

    Raises:
        DataError: nothing would be left to train on.
    """
    if n_images >= len(pairs):
        raise DataError(f"data.validation_images must be < {len(pairs)}, the images in {where}, got {n_images}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    held = set(rng.permutation(len(pairs))[:n_images].tolist())
    return [p for i, p in enumerate(pairs) if i not in held], [p for i, p in enumerate(pairs) if i in held]


def decode(pairs: Sequence[Pair], labels: Labels, size: tuple[int, int] | None, storage: Storage) -> SegmentationSplit:
    """All pairs as tensors; with `size` (height, width) each one is fitted into it, else all must be of one size.

    An image of other proportions than `size` keeps its own and is padded, with `PADDING` and `IGNORE`.

    Raises:
        DataError: a file is unreadable, sizes differ, a label value is not allowed, the disk is too full.
    """
    sizes = [_checked_size(pair) for pair in pairs]
    if size is None:
        size = sizes[0]
        for pair, found in zip(pairs, sizes, strict=True):
            if found != size:
                raise DataError(f"{pair.image} is {_words(found)}, but {pairs[0].image} is {_words(size)}: all images "
                                f"of a split must be of one size")  # fmt: skip
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
    table, allowed = labels.table()

    def one(index: int) -> bytes:
        pair = pairs[index]
        image, values = _read(pair.image, "RGB"), _read(pair.label, None)
        label = table[values]
        if not allowed[values].all():
            wrong = sorted(set(np.unique(values[~allowed[values]]).tolist()))
            raise DataError(f"{pair.label} holds the label value {wrong[0]}; allowed are {labels.allowed}")
        if label.shape != size:
            image, label = _fitted(image, label, size)
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1))
        images[index], targets[index] = torch.from_numpy(pixels), torch.from_numpy(label)
        return image_digest(pair.name, pixels.tobytes(), label.tobytes())

    return split_fingerprint(size, _in_threads(one, range(len(pairs))))


def _in_threads(one: Callable[[int], bytes], indices: Iterable[int]) -> list[bytes]:
    with ThreadPoolExecutor(_THREADS) as threads:  # Pillow decodes without the interpreter's lock
        return list(threads.map(one, indices))


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


def _read(path: Path, mode: str | None) -> Pixels:
    """The pixels of an image file, (h, w, 3) for mode RGB, else (h, w) values."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode) if mode else image)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}): copy it again, or remove the pair") from error


def _checked_size(pair: Pair) -> tuple[int, int]:
    """(height, width) of a pair, from the files' headers."""
    image_size, _ = _header(pair.image)
    label_size, mode = _header(pair.label)
    if mode not in ("L", "P"):
        raise DataError(f"{pair.label} has pixels of mode {mode}; a label has one byte per pixel, mode L or P")
    if image_size != label_size:
        raise DataError(f"{pair.label} is {_words(label_size)}, its image {pair.image} is {_words(image_size)}: "
                        f"label and image must be of one size")  # fmt: skip
    return image_size


def _header(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}): copy it again, or remove the pair") from error


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} pixels high and {size[1]} wide"


def _named(folder: Path, pattern: str) -> dict[str, Path]:
    """Files under `folder` by what `*` stands for in `pattern`, with sub-folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: mend data.root, or set ARCHIPELAGO_DATA")
    suffix = pattern.removeprefix("*")
    paths = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix().removesuffix(suffix): path for path in paths}
