"""The drawing of fronts: a picture of every study, whatever its journal holds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from infra.local import InProcessPool
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.objectives import Objectives
from orchestrator.records import Event
from orchestrator.report.fronts import fronts_picture
from orchestrator.report.words import COLOURS
from tests.doubles import run_toy, toy_recipe

ONE = ({"name": "miou"},)
TWO = ({"name": "miou"}, {"name": "macs", "reference": 1e9})
THREE = (*TWO, {"name": "params"})


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has_colour(picture: np.ndarray, colour: str) -> bool:
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return bool((np.abs(picture.astype(int) - rgb).max(axis=2) <= 2).any())


@pytest.mark.parametrize("objectives", [ONE, TWO, THREE])
def test_every_island_has_its_colour(objectives: tuple[dict[str, object], ...]) -> None:
    recipe = toy_recipe(budget=20, objectives=objectives)
    study = run_toy(recipe, InProcessPool(ToyEvaluator()))
    picture = pixels(fronts_picture("toy", Objectives.from_settings(recipe.objectives), study.events))
    assert picture.shape[0] > 400
    assert [has_colour(picture, colour) for colour in COLOURS[:4]] == [True, True, True, False]


@pytest.mark.parametrize("events", [{}, {"reef": ()}])
def test_nothing_found_yet_is_an_empty_picture(events: dict[str, tuple[Event, ...]]) -> None:
    objectives = Objectives.from_settings(toy_recipe().objectives)
    assert not has_colour(pixels(fronts_picture("toy", objectives, {})), COLOURS[0])
    assert pixels(fronts_picture("toy", objectives, events)).size > 0
