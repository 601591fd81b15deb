"""CamVid with 11 classes: driving scenes, `train|val|test/images/NAME.jpg`, `.../labels/NAME.png`, `classes.json`.

Source: Brostow, Shotton, Fauqueur, Cipolla, "Segmentation and Recognition Using Structure from Motion Point Clouds",
ECCV 2008; the 11 classes and splits of the SegNet authors.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from search_spaces.data.decode import decode
from search_spaces.data.files import Labels, Pair, pairs_in
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import CamvidSettings, DataError, expand_root
from search_spaces.data.storage import Storage


def load_camvid(settings: CamvidSettings, storage: Storage) -> SegmentationData:
    """CamVid from its folder; the search's validation is `val`, or a sequence of `train` that is held out.

    Raises:
        DataError: files are missing or not as they must be; see `search_spaces.data.files`.
    """
    root = expand_root(settings.root)
    names, ignored = _classes(root / "classes.json")
    train, validation, test = (
        pairs_in(root / split / "images", root / split / "labels", "*.jpg", "*.png")
        for split in ("train", "val", "test")
    )
    if settings.validation_sequence is not None:
        train, validation = _part(train, settings.validation_sequence, root / "train")
    _distinct({"train": train, "validation": validation, "test": test}, root)
    last = len(names) - 1
    labels = Labels({index: index for index in range(len(names))} | {ignored: IGNORE}, f"0 to {last} and {ignored}")
    return SegmentationData(
        train=decode(train, labels, None, storage),
        validation=decode(validation, labels, None, storage),
        load_test=partial(decode, test, labels, None, storage),
        class_names=names,
    )


def _classes(path: Path) -> tuple[tuple[str, ...], int]:
    """The class names and the ignored value in `classes.json`."""
    try:
        table = json.loads(path.read_text())
        names, ignored = tuple(str(name) for name in table["classes"]), int(table["ignore_index"])
    except FileNotFoundError:
        raise DataError(f"{path} is missing: mend data.root, or set ARCHIPELAGO_DATA") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} must be a JSON object with classes and ignore_index, got {error!r}") from error
    return names, ignored


def _part(train: list[Pair], sequence: str, where: Path) -> tuple[list[Pair], list[Pair]]:
    held = [pair for pair in train if pair.name.startswith(sequence)]
    kept = [pair for pair in train if not pair.name.startswith(sequence)]
    if not held or not kept:
        raise DataError(f"data.validation_sequence {sequence!r} must begin some and not all names in {where}, "
                        f"it begins {len(held)} of {len(train)}")  # fmt: skip
    return kept, held


def _distinct(splits: dict[str, list[Pair]], root: Path) -> None:
    seen: dict[str, str] = {}
    for split, pairs in splits.items():
        for pair in pairs:
            if pair.name in seen:
                raise DataError(f"{root}: {pair.name} is in {seen[pair.name]} and in {split}: keep it in one of them")
            seen[pair.name] = split
