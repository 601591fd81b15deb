"""Images in a folder for each class, as ImageNet has them: `train/CLASS/*.jpg`, `val/CLASS/*.jpg`.

Classes are the names of the sub-folders of `train`, sorted; all splits must have the same ones. Images are of any size:
each is resized, proportions kept, until it covers the size that is asked for, and its middle is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from search_spaces.data.classification import ClassificationData, ClassificationSplit
from search_spaces.data.files import Pixels, read_pixels
from search_spaces.data.images import image_digest, split_fingerprint
from search_spaces.data.settings import DataError, FolderSettings, expand_root
from search_spaces.data.storage import FORMAT, THREADS, Storage, version_of

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
"""Of image files, in small letters; other files are passed by."""


@dataclass(frozen=True)
class LabelledFile:
    """An image on disk and the index of its class."""

    name: str
    path: Path
    label: int


def load_folder(settings: FolderSettings, storage: Storage) -> ClassificationData:
    """The images below `root`; the search's validation is a folder, or a part of `train` that is held out.

    Raises:
        DataError: a folder is missing or empty, splits have different classes, an image cannot be read.
    """
    root = expand_root(settings.root)
    classes = classes_in(root / "train")
    train = files_in(root / "train", classes)
    test = files_in(root / settings.test, classes)
    if settings.validation is None:
        train, validation = held_out(train, settings.validation_share, settings.holdout_seed, root / "train")
    else:
        validation = files_in(root / settings.validation, classes)
    return ClassificationData(
        train=decode_files(train, settings.size, storage),
        validation=decode_files(validation, settings.size, storage),
        load_test=partial(decode_files, test, settings.size, storage),
        class_names=classes,
    )


def classes_in(folder: Path) -> tuple[str, ...]:
    """The names of the folders in `folder`, sorted.

    Raises:
        DataError: there is no such folder, or no folder in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: mend data.root, or set ARCHIPELAGO_DATA")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise DataError(f"{folder} holds no folders: it must hold one for each class, with the images of the class")
    return tuple(found)


def files_in(folder: Path, classes: Sequence[str]) -> list[LabelledFile]:
    """The images of a split, class by class, sorted.

    Raises:
        DataError: the split has other classes, or one of them has no image.
    """
    if different := sorted(set(classes_in(folder)) ^ set(classes)):
        has, other = ("has", "train lacks it") if different[0] not in classes else ("lacks", "train has it")
        raise DataError(f"{folder} {has} the class {different[0]}, {other}: all splits must have the same classes")
    files = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in ENDINGS)
        if not paths:
            raise DataError(f"{folder / name} holds no image ({', '.join(ENDINGS)}): add some, or remove the class")
        files += [LabelledFile(path.relative_to(folder).as_posix(), path, label) for path in paths]
    return files


def held_out(
    files: Sequence[LabelledFile], share: float, seed: int, where: Path
) -> tuple[list[LabelledFile], list[LabelledFile]]:
    """`files` parted into (kept, held out), both in order, with the same share of each class.

    Raises:
        DataError: a class would have nothing left to train on.
    """
    held = hold_out_places([file.label for file in files], share, seed)
    for label in {file.label for file in files}:
        places = {place for place, file in enumerate(files) if file.label == label}
        if places <= held:
            name = files[min(places)].name.partition("/")[0]
            raise DataError(f"{where / name} holds one image, of which none would be left to train on: add some")
    return [f for i, f in enumerate(files) if i not in held], [f for i, f in enumerate(files) if i in held]


def hold_out_places(labels: Sequence[int], share: float, seed: int) -> set[int]:
    """Which places are held out: of each label that share, rounded, and one at least; the same for the same seed."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    known, held = np.asarray(labels), set()
    for label in np.unique(known):
        places = np.flatnonzero(known == label)
        held |= set(rng.permutation(places)[: max(1, round(share * len(places)))].tolist())
    return held


def decode_files(files: Sequence[LabelledFile], size: tuple[int, int], storage: Storage) -> ClassificationSplit:
    """All images as one tensor.

    Raises:
        DataError: a file is unreadable, or the disk too full.
    """

    def described() -> str:
        return repr((FORMAT, "middle", size, [(version_of(file.path), file.label) for file in files]))

    tensors, fingerprint = storage.filled({"images": (len(files), 3, *size)}, partial(_fill, files, size), described)
    labels = torch.tensor([file.label for file in files])
    return ClassificationSplit(tensors["images"], labels, tuple(file.name for file in files), fingerprint)


def _fill(files: Sequence[LabelledFile], size: tuple[int, int], tensors: Mapping[str, Tensor]) -> str:
    """Decodes every file into its place; returns the fingerprint of the split."""

    def one(index: int) -> bytes:
        file = files[index]
        pixels = np.ascontiguousarray(_middle(read_pixels(file.path, "RGB"), size).transpose(2, 0, 1))
        tensors["images"][index] = torch.from_numpy(pixels)
        return image_digest(file.name, pixels.tobytes(), file.label.to_bytes(8, "little"))

    with ThreadPoolExecutor(THREADS) as threads:
        return split_fingerprint(size, list(threads.map(one, range(len(files)))))


def _middle(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Image (h, w, 3) resized so that it covers `size`, and cut to its middle."""
    if image.shape[:2] == size:
        return image
    ratio = max(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(full, round(ratio * length)) for full, length in zip(size, image.shape[:2], strict=True))
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]
