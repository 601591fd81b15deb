"""Small data sets with drawn pixels, in the layouts of the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CAMVID_CLASSES = ("Sky", "Road", "Car")
CAMVID_IGNORED = 3


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int, height: int = 16, width: int = 24) -> NDArray[np.uint8]:
    """(height, width, 3), a plain colour for each quarter, so that JPEG changes it little."""
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return quarters.repeat(height // 2, 0).repeat(width // 2, 1)


def quarters(values: Sequence[int], height: int = 16, width: int = 24) -> NDArray[np.uint8]:
    """(height, width): the four values, row by row."""
    return np.array(values, np.uint8).reshape(2, 2).repeat(height // 2, 0).repeat(width // 2, 1)


def write_camvid(root: Path, counts: Sequence[int] = (4, 2, 2)) -> Path:
    """Names begin with seqA or seqB, in turn."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.json").write_text(json.dumps({"classes": CAMVID_CLASSES, "ignore_index": CAMVID_IGNORED}))
    for offset, (split, count) in enumerate(zip(("train", "val", "test"), counts, strict=True)):
        for index in range(count):
            name = f"seq{'AB'[index % 2]}_{split}_{index}"
            save(root / split / "images" / f"{name}.jpg", picture(10 * offset + index))
            save(root / split / "labels" / f"{name}.png", quarters((0, 1, 2, CAMVID_IGNORED)))
    return root


def write_cityscapes(root: Path, label_kind: str, values: Sequence[int]) -> Path:
    for split, cities in {"train": ("aachen", "bremen"), "val": ("munster",)}.items():
        for city in cities:
            for index in range(3):
                name = f"{city}_{index:06d}_000019"
                save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture(index))
                folder = root / "gtFine" / split / city
                save(folder / f"{name}_gtFine_{label_kind}.png", quarters(values))
                save(folder / f"{name}_gtFine_color.png", picture(index))
    return root


def write_ade20k(root: Path, sizes: Sequence[tuple[int, int]] = ((16, 24), (32, 16), (12, 12))) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{index}\t0.1\t1\t1\tname {index}, synonym" for index in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    for split, tag in {"training": "train", "validation": "val"}.items():
        for index, size in enumerate(sizes):
            name = f"ADE_{tag}_{index:08d}"
            save(root / "images" / split / f"{name}.jpg", picture(index, *size))
            save(root / "annotations" / split / f"{name}.png", quarters((0, 1, 2, 150), *size))
    return root
