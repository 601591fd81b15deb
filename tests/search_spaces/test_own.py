"""Spaces from elsewhere: found by path, refused in words, and searched like any other one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from search_spaces.own import OwnSettings
from tests.conftest import REPOSITORY

CHAINS = "docs.own_space:ChainSpace"


def test_the_documented_space_is_one_short_file() -> None:
    assert len((REPOSITORY / "docs" / "own_space.py").read_text().splitlines()) < 150


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"of": "nowhere.at_all:Space"}, "nowhere.at_all:Space cannot be imported"),
        ({"of": "docs.own_space:Nothing"}, "cannot be imported: .*Nothing"),
        ({"of": "no-entry-point"}, "must be package.module:Class, or an entry point of archipelago.spaces"),
        ({"of": "subprocess:run", "options": {"args": ["false"]}}, "must be a class with the methods of NetworkSpace"),
        ({"of": "subprocess:Popen", "options": {"args": ["false"]}}, r"it lacks \['architecture_from_json'"),
        ({"of": CHAINS, "options": {"depth": 3}}, "cannot be called with classes, training_shape and options"),
    ],
)
def test_what_is_no_space_is_said_and_never_called(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OwnSettings.model_validate(settings)
