"""The report's pictures for places that show no page."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from orchestrator.report.columns import Found
from orchestrator.report.pictures import pictures
from orchestrator.report.words import COLOURS
from search_spaces.hyctas.drawing import PALETTE
from tests.orchestrator.report.conftest import failed
from tests.orchestrator.report.test_columns import toy_found
from tests.orchestrator.report.test_fronts import has_colour, pixels

ALL = ["report/hypervolume.png", "report/evolution.png", "report/operators.png"]


def test_a_study_of_networks_has_all_of_them(small_study: Found) -> None:
    drawn = {name: pixels(png) for name, png in pictures(small_study).items()}
    assert list(drawn) == ALL
    for name in ALL[:2]:
        assert all(has_colour(drawn[name], colour) for colour in COLOURS[:3])
    assert all(has_colour(drawn[ALL[2]], colour) for colour in PALETTE.values())


def test_seconds_are_left_out_where_there_are_none(small_study: Found) -> None:
    def width(found: Found) -> int:
        return Image.open(io.BytesIO(pictures(found)["report/hypervolume.png"])).width

    assert width(toy_found()) < width(small_study)


@pytest.mark.parametrize("objectives", [1, 3])
def test_evolution_is_for_two_objectives(objectives: int) -> None:
    names = ({"name": "miou"}, {"name": "macs", "reference": 1e9}, {"name": "params", "reference": 1e6})
    assert list(pictures(toy_found(*names[:objectives]))) == ALL[:1]


def test_nothing_found_is_no_picture(small_study: Found) -> None:
    assert pictures(replace(small_study, events={"branches-1": ()})) == {}


def test_a_study_in_which_everything_failed_is_drawn(small_study: Found) -> None:
    assert list(pictures(failed(small_study))) == ALL


def test_a_single_candidate_is_drawn(small_study: Found) -> None:
    first = {island: events[:1] for island, events in small_study.events.items()}
    for png in pictures(replace(small_study, events=first)).values():
        assert np.ptp(pixels(png)) > 0
