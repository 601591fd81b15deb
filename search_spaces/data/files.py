"""Pairs of image and label files: found by their names, and read with what may be wrong said in words."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.data.segmentation import IGNORE
from search_spaces.data.settings import DataError

Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
"""Of image files: Pillow's other readers are kept out of the way of strangers' files."""
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26
"""Of an image file: 89 million."""


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


def read_pair(pair: Pair, labels: Labels) -> tuple[Pixels, Pixels]:
    """The image (h, w, 3) and the class of each of its pixels (h, w).

    Raises:
        DataError: a file is unreadable, or a label value is not allowed.
    """
    image, values = read_pixels(pair.image, "RGB"), read_pixels(pair.label, None)
    classes, allowed = labels.table()
    if not allowed[values].all():
        wrong = values[~allowed[values]].min()
        raise DataError(f"{pair.label} holds the label value {wrong}, allowed are {labels.allowed}: mend the label")
    return image, classes[values]


def checked_size(pair: Pair) -> tuple[int, int]:
    """(height, width) of a pair, from the files' headers.

    Raises:
        DataError: a file is no image, image and label differ in size, the label has more than a byte per pixel.
    """
    image_size, _ = _header(pair.image)
    label_size, mode = _header(pair.label)
    if mode not in ("L", "P"):
        raise DataError(
            f"{pair.label} has pixels of mode {mode}; a label must have one byte per pixel, mode L or P: save it so"
        )
    if image_size != label_size:
        raise DataError(f"{pair.label} is {in_words(label_size)}, its image {pair.image} is {in_words(image_size)}: "
                        f"label and image must be of one size")  # fmt: skip
    return image_size


def in_words(size: tuple[int, int]) -> str:
    return f"{size[0]} pixels high and {size[1]} wide"


def read_pixels(path: Path, mode: str | None) -> Pixels:
    """The pixels of an image file, (h, w, 3) for mode RGB, else (h, w) values."""
    with _opened(path) as image:
        return np.asarray(image.convert(mode) if mode else image)


def _header(path: Path) -> tuple[tuple[int, int], str]:
    with _opened(path) as image:
        return (image.height, image.width), image.mode


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image file; what is wrong with it, and what comes to light in the block, is said in words."""
    try:
        with Image.open(path, formats=FORMATS) as image:  # which for so many pixels warns, and for twice as many raises
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path} says that it has more than {MOST_PIXELS} pixels, which is taken for an attack: make "
                        "it smaller, or remove it") from None  # fmt: skip
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}): copy it again, or remove it") from error


def _named(folder: Path, pattern: str) -> dict[str, Path]:
    """Files under `folder` by what `*` stands for in `pattern`, with sub-folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: mend data.root, or set ARCHIPELAGO_DATA")
    suffix = pattern.removeprefix("*")
    paths = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix().removesuffix(suffix): path for path in paths}
