"""Images in a folder for each class: what is read, what is held out, and what is said where something is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.data.folder import hold_out_places
from search_spaces.data.images import ImageData
from search_spaces.data.registry import load
from search_spaces.data.settings import Cifar10Settings, DataError, FolderSettings
from search_spaces.data.storage import Storage
from tests.search_spaces.data.layouts import picture, save


def write_classes(root: Path, count: int = 4) -> Path:
    for split in ("train", "val"):
        for number, name in enumerate(("zebra", "ant")):
            for index in range(count):
                save(root / split / name / f"{index}.{('png', 'JPEG')[index % 2]}", picture(10 * number + index))
    return root


def loaded(root: Path, storage: Storage | None = None, **settings: object) -> ImageData:
    return load(FolderSettings.model_validate({"root": str(root), "size": (16, 24), **settings}), storage)


def test_classes_are_folders_sorted_and_validation_is_a_part_of_train(tmp_path: Path) -> None:
    data = loaded(write_classes(tmp_path))
    assert (data.task, data.class_names) == ("classification", ("ant", "zebra"))
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.validation.labels.tolist() == [0, 1]
    assert data.test.names[:2] == ("ant/0.png", "ant/1.JPEG")
    assert torch.equal(data.test.images[0], torch.from_numpy(picture(10)).permute(2, 0, 1))
    assert not set(data.train.names) & set(data.validation.names)
    again = loaded(tmp_path)
    assert (again.train.fingerprint, again.train.names) == (data.train.fingerprint, data.train.names)
    assert loaded(tmp_path, holdout_seed=2).validation.names != data.validation.names


def test_a_split_of_its_own_for_validation(tmp_path: Path) -> None:
    shutil.copytree(write_classes(tmp_path) / "val", tmp_path / "test")
    data = loaded(tmp_path, validation="val", test="test")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [8, 8, 8]


def test_images_of_any_size_are_covered_and_cut_to_their_middle(tmp_path: Path) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 10:30] = 255
    for split in ("train", "val"):
        for index in range(2):
            save(write_classes(tmp_path) / split / "ant" / f"wide{index}.png", wide)
    data = loaded(tmp_path, size=(20, 20))
    places = [place for place, name in enumerate(data.test.names) if "wide" in name]
    assert (data.test.images[places, :, :, 1:19] == 255).all()  # the 40 x 20 pixels' middle


def test_what_is_too_large_for_memory_is_mapped_with_the_same_pixels(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data")
    small, mapped = loaded(root), loaded(root, Storage(tmp_path / "cache", memory_limit_bytes=100))
    assert list((tmp_path / "cache" / "decoded").iterdir())
    assert torch.equal(small.train.images, mapped.train.images)
    assert small.train.fingerprint == mapped.train.fingerprint


def no_split(root: Path) -> None:
    shutil.rmtree(root / "val")


def no_classes(root: Path) -> None:
    shutil.rmtree(root / "train")
    save(root / "train" / "0.png", picture(0))


def more_classes(root: Path) -> None:
    save(root / "val" / "bee" / "0.png", picture(0))


def fewer_classes(root: Path) -> None:
    shutil.rmtree(root / "val" / "ant")


def an_empty_class(root: Path) -> None:
    shutil.rmtree(root / "train" / "ant")
    (root / "train" / "ant").mkdir()
    (root / "train" / "ant" / "notes.txt").write_text("none yet")


def one_image(root: Path) -> None:
    for index in (1, 2, 3):
        next((root / "train" / "ant").glob(f"{index}.*")).unlink()


def truncated(root: Path) -> None:
    file = root / "train" / "ant" / "1.JPEG"
    file.write_bytes(file.read_bytes()[:-200])


def not_an_image(root: Path) -> None:
    (root / "train" / "ant" / "1.JPEG").write_text("<html>404</html>")


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        (no_split, r"val is not a folder: mend data.root, or set ARCHIPELAGO_DATA"),
        (no_classes, r"train holds no folders: it must hold one for each class"),
        (more_classes, r"val has the class bee, train lacks it: all splits must have the same classes"),
        (fewer_classes, r"val lacks the class ant, train has it: all splits"),
        (an_empty_class, r"train/ant holds no image \(\.jpg, .*\): add some, or remove the class"),
        (one_image, r"train/ant holds one image, of which none would be left to train on: add some"),
        (truncated, r"train/ant/1.JPEG cannot be read as an image \(.*\): copy it again, or remove it"),
        (not_an_image, r"train/ant/1.JPEG cannot be read as an image \(.*\): copy it again"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, breaks: object, sentence: str) -> None:
    root = write_classes(tmp_path)
    breaks(root)  # type: ignore[operator]
    with pytest.raises(DataError, match=sentence) as caught:
        loaded(root, holdout_seed=1)
    assert "\n" not in str(caught.value)


def test_splits_must_be_distinct() -> None:
    with pytest.raises(ValueError, match=r"train, validation and test must be distinct folders, got train, val, val"):
        FolderSettings(validation="val")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_same_share_of_each_class_is_held_out(labels: list[int], share: float, seed: int) -> None:
    held = hold_out_places(labels, share, seed)
    assert held == hold_out_places(labels, share, seed)
    for label in set(labels):
        assert sum(labels[place] == label for place in held) == max(1, round(share * labels.count(label)))


# ---- CIFAR-10


def test_cifar10_from_folders_and_from_batches(shared_data: Path) -> None:
    root = shared_data / "cifar10"
    if not root.is_dir():
        pytest.skip(f"no CIFAR-10 at {root}")
    folders = load(Cifar10Settings(root=str(root), validation_share=0.2))
    assert (folders.train.size, folders.n_classes) == ((32, 32), 10)
    assert folders.train.labels.bincount().tolist() == [400] * 10
    assert folders.validation.labels.bincount().tolist() == [100] * 10
    batches = load(Cifar10Settings(root=str(root / "cifar-10-batches-bin")))
    assert batches.class_names == folders.class_names
    assert [len(split) for split in (batches.train, batches.validation, batches.test)] == [450, 50, 100]
    everyone = {image.numpy().tobytes(): int(label) for split in (folders.train, folders.validation)
                for image, label in zip(split.images, split.labels, strict=True)}  # fmt: skip
    for image, label in zip(batches.train.images, batches.train.labels, strict=True):
        assert everyone[image.numpy().tobytes()] == label


def test_broken_batches_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither train and test nor cifar-10-batches-bin: mend data.root"):
        load(Cifar10Settings(root=str(tmp_path)))
    record = bytes([3]) + bytes(3072)
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (tmp_path / f"{name}.bin").write_bytes(4 * record)
    assert len(load(Cifar10Settings(root=str(tmp_path))).train) == 18
    (tmp_path / "data_batch_2.bin").write_bytes(record[:-1])
    with pytest.raises(DataError, match=r"data_batch_2.bin must hold records of 3073 bytes, got 3072 bytes"):
        load(Cifar10Settings(root=str(tmp_path)))
    (tmp_path / "data_batch_2.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match=r"data_batch_2.bin holds the label 10, allowed are 0 to 9"):
        load(Cifar10Settings(root=str(tmp_path)))
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin is missing"):
        load(Cifar10Settings(root=str(tmp_path)))


def test_a_real_image_that_is_cut_short(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "cifar10"
    if not root.is_dir():
        pytest.skip(f"no CIFAR-10 at {root}")
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for file in sorted((root / split / name).iterdir())[:3]:
                shutil.copy(file, tmp_path / split / name)
    assert len(load(Cifar10Settings(root=str(tmp_path))).train) == 4
    file = sorted((tmp_path / "train" / "dog").iterdir())[0]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"{file} cannot be read as an image"):
        load(Cifar10Settings(root=str(tmp_path)))
