"""CIFAR-10: 32 x 32 images of ten classes, in folders `train/CLASS` and `test/CLASS`, or as binary batches.

A record of a batch is a byte, the label, and 3,072 bytes, the red, green and blue pixels row by row. Either way the
search's validation is held out of the training images, class by class, and nothing looks at the test images before the
end.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.data.classification import ClassificationData, ClassificationSplit
from search_spaces.data.folder import hold_out_places, load_folder
from search_spaces.data.images import image_digest, split_fingerprint
from search_spaces.data.settings import Cifar10Settings, DataError, FolderSettings, expand_root
from search_spaces.data.storage import Storage

SIZE = (32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD_BYTES = 1 + 3 * 32 * 32
BATCHES = "cifar-10-batches-bin"
Records = NDArray[np.uint8]
"""(records, RECORD_BYTES)."""


def load_cifar10(settings: Cifar10Settings, storage: Storage) -> ClassificationData:
    """CIFAR-10 from folders of images if there are any, else from its authors' binary batches.

    Raises:
        DataError: neither is there, or something is wrong with it; see `search_spaces.data.folder`.
    """
    root = expand_root(settings.root)
    if (root / "train").is_dir():
        common = settings.model_dump(include={"root", "validation_share", "holdout_seed"})
        return load_folder(FolderSettings(**common, size=SIZE, test="test"), storage)
    folder = next((one for one in (root / BATCHES, root) if (one / "test_batch.bin").is_file()), None)
    if folder is None:
        raise DataError(f"{root} holds neither train and test nor {BATCHES}: mend data.root, or set ARCHIPELAGO_DATA")
    names = [f"data_batch_{number}" for number in range(1, 6)]
    train = np.concatenate([_records(folder / f"{name}.bin") for name in names])
    held = sorted(hold_out_places(train[:, 0].tolist(), settings.validation_share, settings.holdout_seed))
    kept = sorted(set(range(len(train))) - set(held))
    test = _records(folder / "test_batch.bin")
    return ClassificationData(
        train=_split("train", train, kept),
        validation=_split("train", train, held),
        load_test=partial(_split, "test", test, range(len(test))),
        class_names=CLASSES,
    )


def _records(path: Path) -> Records:
    if not path.is_file():
        raise DataError(f"{path} is missing: copy it there, or mend data.root")
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % RECORD_BYTES:
        raise DataError(f"{path} must hold records of {RECORD_BYTES} bytes, got {len(content)} bytes: copy it again")
    records: Records = content.reshape(-1, RECORD_BYTES)
    if (wrong := records[:, 0].max()) >= len(CLASSES):
        raise DataError(f"{path} holds the label {wrong}, allowed are 0 to {len(CLASSES) - 1}: copy it again")
    return records


def _split(name: str, records: Records, places: Sequence[int]) -> ClassificationSplit:
    chosen = records[list(places)]
    names = tuple(f"{name}/{place:05d}" for place in places)
    pairs = zip(names, chosen, strict=True)
    digests = [image_digest(name, one[1:].tobytes(), int(one[0]).to_bytes(8, "little")) for name, one in pairs]
    images = torch.from_numpy(chosen[:, 1:].reshape(-1, 3, *SIZE).copy())
    labels = torch.from_numpy(chosen[:, 0].astype(np.int64))
    return ClassificationSplit(images, labels, names, split_fingerprint(SIZE, digests))
