from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search_spaces.data.cityscapes import CLASSES
from search_spaces.data.registry import load
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import CityscapesSettings, DataError
from tests.search_spaces.data.layouts import quarters, write_cityscapes


def loaded(root: Path, **settings: object) -> SegmentationData:
    return load(CityscapesSettings.model_validate({"root": str(root), "validation_images": 2, **settings}))


@pytest.mark.parametrize(
    ("kind", "values"),
    [("labelTrainIds", (0, 13, 18, 255)), ("labelIds", (7, 26, 33, 4))],  # road, car, bicycle, static
)
def test_both_kinds_of_labels_are_read(kind: str, values: tuple[int, ...], tmp_path: Path) -> None:
    data = loaded(write_cityscapes(tmp_path, kind, values))
    for split in (data.train, data.validation, data.test):
        assert (split.labels == torch.from_numpy(quarters((0, 13, 18, IGNORE)))).all()
    assert [CLASSES[index] for index in (0, 13, 18)] == ["road", "car", "bicycle"]
    assert data.n_classes == 19


def test_validation_is_held_out_of_train_and_test_is_the_official_val(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "labelIds", (7, 8, 11, 0))
    data, again, other = loaded(root), loaded(root), loaded(root, holdout_seed=1)
    assert len(data.train) == 4
    assert data.validation.names == again.validation.names != other.validation.names
    assert not set(data.train.names) & set(data.validation.names)
    assert set(data.test.names) == {f"munster/munster_{index:06d}_000019" for index in range(3)}


def test_images_can_be_resized(tmp_path: Path) -> None:
    data = loaded(write_cityscapes(tmp_path, "labelTrainIds", (1, 2, 3, 4)), size=(8, 12))
    assert (data.train.labels == torch.from_numpy(quarters((1, 2, 3, 4), 8, 12))).all()


def test_all_of_train_cannot_be_held_out(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "labelTrainIds", (1, 2, 3, 4))
    with pytest.raises(DataError, match=r"data.validation_images must be < 6, the images in .*, got 6"):
        loaded(root, validation_images=6)


def test_a_forbidden_id_is_named(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "labelTrainIds", (1, 2, 3, 19))
    with pytest.raises(DataError, match=r"labelTrainIds.png holds the label value 19, allowed are 0 to 18 and 255"):
        loaded(root)


def test_missing_labels_are_named(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "polygons", (1, 2, 3, 4))
    missing = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
    with pytest.raises(DataError, match=f"_leftImg8bit.png has no label: add .*{missing}"):
        loaded(root)
