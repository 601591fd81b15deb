from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from search_spaces.data.settings import (
    Ade20kSettings,
    AugmentationSettings,
    CamvidSettings,
    DataError,
    DataSettings,
    expand_root,
)


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        ("data/camvid", "data/camvid"),
        ("${PLACE}/camvid", "somewhere/camvid"),
        ("${PLACE:-data}/camvid", "somewhere/camvid"),
        ("${MISSING_PLACE:-data}/camvid", "data/camvid"),
        ("${EMPTY_PLACE:-data}/camvid", "data/camvid"),
    ],
)
def test_a_root_is_expanded(root: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "somewhere")
    monkeypatch.setenv("EMPTY_PLACE", "")
    assert expand_root(root) == Path(folder)


def test_a_root_may_lie_at_home(home: Path) -> None:
    assert expand_root("~/camvid") == home / "camvid"


@pytest.mark.parametrize("name", ["MISSING_PLACE", "EMPTY_PLACE"])
def test_a_variable_that_is_not_set_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_PLACE", "")
    with pytest.raises(DataError, match=f"needs the environment variable {name}, which is not set: set it, or write"):
        expand_root(f"${{{name}}}/camvid")


def test_the_name_says_which_data_set() -> None:
    read = TypeAdapter[DataSettings](DataSettings).validate_python
    assert read({"name": "camvid", "root": "here"}) == CamvidSettings(root="here")
    assert read({"name": "ade20k", "size": [64, 96]}) == Ade20kSettings(size=(64, 96))
    with pytest.raises(ValidationError, match="'synthetic', 'camvid', 'cityscapes', 'ade20k'"):
        read({"name": "pascal"})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        read({"name": "camvid", "roots": "here"})
    with pytest.raises(ValidationError, match="multiple of 8"):
        read({"name": "synthetic", "height_px": 100})


def test_scale_is_ordered() -> None:
    with pytest.raises(ValidationError, match=r"scale must be \(smallest, largest\), got \[2.0, 1.0\]"):
        AugmentationSettings(scale=(2, 1))
