"""ADE20K's scene parsing benchmark with 150 classes: `images|annotations/training|validation/NAME.jpg|png`.

Images are of many sizes: each is fitted into one size, proportions kept, padded with ignored pixels; the benchmark
itself scores at the images' own sizes, so its numbers differ a little. Label 0, other objects, is ignored; 1 to 150
become 0 to 149.

The test labels are not public. So the search's validation is a seeded hold-out of `training`, and `test` of the
carrier is the official `validation`, which nothing looks at before the final numbers.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from search_spaces.data.decode import decode
from search_spaces.data.files import Labels, hold_out, pairs_in
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import Ade20kSettings, DataError, expand_root
from search_spaces.data.storage import Storage

_LABELS = Labels({0: IGNORE} | {value: value - 1 for value in range(1, 151)}, "0 to 150")


def load_ade20k(settings: Ade20kSettings, storage: Storage) -> SegmentationData:
    """ADE20K from the folder ADEChallengeData2016.

    Raises:
        DataError: files are missing or not as they must be; see `search_spaces.data.files`.
    """
    root = expand_root(settings.root)
    names = _class_names(root / "objectInfo150.txt")
    labelled, test = (
        pairs_in(root / "images" / split, root / "annotations" / split, "*.jpg", "*.png")
        for split in ("training", "validation")
    )
    train, validation = hold_out(labelled, settings.validation_images, settings.holdout_seed, root / "images/training")
    return SegmentationData(
        train=decode(train, _LABELS, settings.size, storage),
        validation=decode(validation, _LABELS, settings.size, storage),
        load_test=partial(decode, test, _LABELS, settings.size, storage),
        class_names=names,
    )


def _class_names(path: Path) -> tuple[str, ...]:
    """The first name of each class in objectInfo150.txt, a table whose last column is `name, synonym, ...`."""
    if not path.is_file():
        raise DataError(f"{path} is missing: mend data.root, or set ARCHIPELAGO_DATA")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:] if line.strip()]
    names = tuple(row[-1].split(",")[0].strip() for row in rows)
    if len(names) != 150:
        raise DataError(f"{path} must hold a heading and 150 classes, got {len(names)}: copy it again")
    return names
