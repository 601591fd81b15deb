"""Cityscapes with its 19 evaluated classes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and labels under `gtFine`.

Labels are `*_gtFine_labelTrainIds.png` where they were made, else `*_gtFine_labelIds.png`, mapped here.

The official test labels are not public. So the search's validation is a seeded hold-out of `train`, and `test` of the
carrier is the official `val`, which nothing looks at before the final numbers.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from search_spaces.data.decode import decode
from search_spaces.data.files import Labels, Pair, hold_out, pairs_in
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import CityscapesSettings, expand_root
from search_spaces.data.storage import Storage

CLASS_OF_ID = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""The evaluated ones of the ids 0 to 33, in the order of their trainIds 0 to 18."""
CLASSES = tuple(CLASS_OF_ID.values())

_TRAIN_IDS = "*_gtFine_labelTrainIds.png"
_LABELS = {
    _TRAIN_IDS: Labels({index: index for index in range(19)} | {255: IGNORE}, "0 to 18 and 255"),
    "*_gtFine_labelIds.png": Labels(
        dict.fromkeys((*range(34), 255), IGNORE) | {value: index for index, value in enumerate(CLASS_OF_ID)},
        "0 to 33 and 255",
    ),
}


def load_cityscapes(settings: CityscapesSettings, storage: Storage) -> SegmentationData:
    """Cityscapes from its folder, at the size of the files or resized.

    Raises:
        DataError: files are missing or not as they must be; see `search_spaces.data.files`.
    """
    root = expand_root(settings.root)
    labelled, labels = _pairs(root, "train")
    test, test_labels = _pairs(root, "val")
    train, validation = hold_out(labelled, settings.validation_images, settings.holdout_seed, root)
    return SegmentationData(
        train=decode(train, labels, settings.size, storage),
        validation=decode(validation, labels, settings.size, storage),
        load_test=partial(decode, test, test_labels, settings.size, storage),
        class_names=CLASSES,
    )


def _pairs(root: Path, split: str) -> tuple[list[Pair], Labels]:
    folder = root / "gtFine" / split
    pattern = next((pattern for pattern in _LABELS if any(folder.rglob(pattern))), _TRAIN_IDS)
    return pairs_in(root / "leftImg8bit" / split, folder, "*_leftImg8bit.png", pattern), _LABELS[pattern]
