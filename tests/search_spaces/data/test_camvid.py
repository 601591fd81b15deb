from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces.data.registry import load
from search_spaces.data.segmentation import IGNORE, SegmentationData
from search_spaces.data.settings import CamvidSettings, DataError
from search_spaces.data.storage import Storage
from tests.search_spaces.data.layouts import CAMVID_CLASSES, picture, quarters, save, write_camvid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_camvid(tmp_path / "camvid")


def loaded(root: Path, sequence: str | None = None) -> SegmentationData:
    return load(CamvidSettings(root=str(root), validation_sequence=sequence))


def test_images_and_labels_are_those_on_disk(root: Path) -> None:
    data = loaded(root)
    assert data.class_names == CAMVID_CLASSES
    assert data.n_classes == 3
    assert [len(split) for split in (data.train, data.validation, data.test)] == [4, 2, 2]
    assert data.train.names[1] == "seqA_train_2"
    assert data.train.size == (16, 24)
    expected = torch.from_numpy(quarters((0, 1, 2, IGNORE)))
    assert (data.train.labels == expected).all()
    difference = data.train.images[1].permute(1, 2, 0).numpy().astype(int) - picture(2)
    assert np.abs(difference).mean() < 16  # JPEG


def test_a_sequence_can_be_the_validation(root: Path) -> None:
    data = loaded(root, "seqB")
    assert data.train.names == ("seqA_train_0", "seqA_train_2")
    assert data.validation.names == ("seqB_train_1", "seqB_train_3")


@pytest.mark.parametrize(("sequence", "count"), [("seqC", 0), ("seq", 4)])
def test_a_sequence_must_part_train(root: Path, sequence: str, count: int) -> None:
    with pytest.raises(
        DataError, match=f"'{sequence}' must begin some and not all names in .*, it begins {count} of 4"
    ):
        loaded(root, sequence)


def test_fingerprints_follow_the_pixels(root: Path) -> None:
    before, again = loaded(root), loaded(root)
    assert before.train.fingerprint == again.train.fingerprint
    assert before.train.fingerprint != before.validation.fingerprint
    save(root / "train/labels/seqA_train_0.png", quarters((0, 1, 2, 2)))
    after = loaded(root)
    assert before.train.fingerprint != after.train.fingerprint
    assert before.validation.fingerprint == after.validation.fingerprint


def test_above_the_memory_limit_pixels_are_mapped_from_the_cache(root: Path, tmp_path: Path) -> None:
    settings = CamvidSettings(root=str(root))
    storage = Storage(tmp_path / "cache", memory_limit_bytes=0)
    in_memory, written, read = load(settings), load(settings, storage), load(settings, storage)
    for data in (written, read):
        assert torch.equal(data.train.images, in_memory.train.images)
        assert torch.equal(data.train.labels, in_memory.train.labels)
        assert data.train.fingerprint == in_memory.train.fingerprint
    assert len(list((tmp_path / "cache/decoded").iterdir())) == 2  # train and validation; nothing unfinished
    save(root / "train/labels/seqA_train_0.png", quarters((1, 1, 2, 2)))
    assert load(settings, storage).train.labels[0, 0, 0] == 1


def test_a_full_disk_is_said_before_it_is_written(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(DataError, match=r"has 0.0 GB free, the decoded images need .* set ARCHIPELAGO_CACHE"):
        load(CamvidSettings(root=str(root)), Storage(tmp_path / "cache", memory_limit_bytes=0))


def remove_image(root: Path) -> None:
    (root / "train/images/seqA_train_0.jpg").unlink()


def remove_label(root: Path) -> None:
    (root / "test/labels/seqA_test_0.png").unlink()


def remove_images(root: Path) -> None:
    for path in (root / "val/images").iterdir():
        path.unlink()


def remove_folder(root: Path) -> None:
    (root / "val/labels").rename(root / "val/annotations")


def remove_classes(root: Path) -> None:
    (root / "classes.json").unlink()


def empty_classes(root: Path) -> None:
    (root / "classes.json").write_text("{}")


def forbidden_value(root: Path) -> None:
    save(root / "train/labels/seqA_train_0.png", quarters((0, 1, 2, 7)))


def other_size(root: Path) -> None:
    save(root / "train/labels/seqA_train_0.png", quarters((0, 1, 2, 3), 16, 26))


def other_image_size(root: Path) -> None:
    save(root / "val/labels/seqB_val_1.png", quarters((0, 1, 2, 3), 16, 26))
    save(root / "val/images/seqB_val_1.jpg", picture(0, 16, 26))


def colour_label(root: Path) -> None:
    save(root / "train/labels/seqA_train_0.png", picture(0))


def truncated_image(root: Path) -> None:
    path = root / "train/images/seqA_train_0.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def truncated_label(root: Path) -> None:
    path = root / "train/labels/seqA_train_0.png"
    path.write_bytes(path.read_bytes()[:60])


def no_image(root: Path) -> None:
    (root / "train/images/seqA_train_0.jpg").write_text("not an image")


def in_two_splits(root: Path) -> None:
    for kind, name in (("images", "seqA_val_0.jpg"), ("labels", "seqA_val_0.png")):
        (root / "test" / kind / name).write_bytes((root / "val" / kind / name).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_image, r"labels/seqA_train_0.png has no image: add .*images/seqA_train_0.jpg, or remove the label"),
        (remove_label, r"images/seqA_test_0.jpg has no label: add .*labels/seqA_test_0.png, or remove the image"),
        (remove_images, r"val/images holds no image \*.jpg: put the images there, or mend data.root"),
        (remove_folder, r"val/labels is not a folder: mend data.root, or set ARCHIPELAGO_DATA"),
        (remove_classes, r"classes.json is missing: mend data.root, or set ARCHIPELAGO_DATA"),
        (empty_classes, r"classes.json must be a JSON object with classes and ignore_index, got KeyError\('classes'\)"),
        (forbidden_value, r"seqA_train_0.png holds the label value 7, allowed are 0 to 2 and 3: mend the label"),
        (other_size, r"seqA_train_0.png is 16 pixels high and 26 wide, its image .* is 16 pixels high and 24 wide"),
        (
            other_image_size,
            r"seqB_val_1.jpg is 16 pixels high and 26 wide, but .*: all images of a split must be of one",
        ),
        (colour_label, r"seqA_train_0.png has pixels of mode RGB; a label must have one byte per pixel"),
        (truncated_image, r"seqA_train_0.jpg cannot be read as an image \(.*\): copy it again, or remove it"),
        (truncated_label, r"seqA_train_0.png cannot be read as an image \(.*\): copy it again, or remove it"),
        (no_image, r"seqA_train_0.jpg cannot be read as an image \(cannot identify"),
        (in_two_splits, r"seqA_val_0 is in validation and in test: keep it in one of them"),
    ],
)
def test_bad_files_are_named(root: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(root)
    with pytest.raises(DataError, match=message):
        loaded(root)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/classes.json is missing: mend data.root"):
        loaded(tmp_path / "nowhere")


def test_the_real_one(camvid_root: Path) -> None:
    data = loaded(camvid_root)
    assert [len(split) for split in (data.train, data.validation)] == [367, 101]
    assert data.n_classes == 11
    labelled = data.train.labels[data.train.labels != IGNORE]
    assert len(labelled) == 15_225_924
    assert (labelled == data.class_names.index("Bicyclist")).sum() == 46_192
