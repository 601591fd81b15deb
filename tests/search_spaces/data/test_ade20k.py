from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from search_spaces.data.images import PADDING
from search_spaces.data.registry import load
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import Ade20kSettings, DataError
from tests.search_spaces.data.layouts import quarters, save, write_ade20k


def loaded(root: Path, **settings: object) -> SegmentationData:
    return load(
        Ade20kSettings.model_validate({"root": str(root), "validation_images": 1, "size": (16, 24), **settings})
    )


def test_images_of_all_sizes_are_fitted_into_one(tmp_path: Path) -> None:
    test = loaded(write_ade20k(tmp_path)).test
    assert test.size == (16, 24)
    expected = quarters((IGNORE, 0, 1, 149))
    assert (test.labels[0] == torch.from_numpy(expected)).all()  # 16 x 24, as it is
    tall = test.labels[1]  # 32 x 16, halved, then padded on the right
    assert (tall[:, :8] == torch.from_numpy(quarters((IGNORE, 0, 1, 149), 16, 8))).all()
    assert (tall[:, 8:] == IGNORE).all()
    assert (test.images[1, :, :, 8:] == torch.tensor(PADDING)[:, None, None]).all()
    square = test.labels[2]  # 12 x 12, enlarged to 16 x 16
    assert (square[:, :16] == torch.from_numpy(quarters((IGNORE, 0, 1, 149), 16, 16))).all()


def test_validation_is_held_out_of_training(tmp_path: Path) -> None:
    data = loaded(write_ade20k(tmp_path))
    assert sorted(data.train.names + data.validation.names) == [f"ADE_train_{index:08d}" for index in range(3)]
    assert all(name.startswith("ADE_val") for name in data.test.names)
    assert data.class_names[149] == "name 150"


def test_a_forbidden_value_is_named(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path)
    save(root / "annotations/training/ADE_train_00000000.png", quarters((0, 1, 2, 151)))
    with pytest.raises(DataError, match=r"00000000.png holds the label value 151, allowed are 0 to 150"):
        loaded(root)


def test_the_class_table_is_checked(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path)
    table = root / "objectInfo150.txt"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(DataError, match=r"must hold a heading and 150 classes, got 149: copy it again"):
        loaded(root)
    table.unlink()
    with pytest.raises(DataError, match=r"objectInfo150.txt is missing: mend data.root"):
        loaded(root)


def test_the_real_samples(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "ade20k" / "ADEChallengeData2016"
    if not root.is_dir():
        pytest.skip(f"no ADE20K at {root}")
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    for kind in ("images", "annotations"):  # the samples have no training folder
        shutil.copytree(root / kind / "validation", tmp_path / kind / "training")
    data = loaded(tmp_path, size=(128, 128))
    assert data.class_names[:2] == ("wall", "building")
    assert data.test.images.shape == (3, 3, 128, 128)
    assert len(data.test.labels.unique()) > 10
