"""Pictures of HR-NAS networks: well-formed, as much as there is, and no more."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from search_spaces.base import DrawnSpace
from search_spaces.hrnas.drawing import KERNELS, REMOVED, TOKENS, most_of, parts_of
from search_spaces.hrnas.layout import layout
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hrnas.space import HrnasSpace
from tests.networks import small_hrnas

SPACES = {
    "small": small_hrnas(),
    "published": small_hrnas(family="published", head_channels=6),
    "one-kernel": small_hrnas(kernels=(5,), transformer={"tokens": 0}),
    "paper": HrnasSpace(HrnasSettings(branches=(1, 4)), 19),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("genes", ["none", "random", "all"])
def test_a_picture_is_one_svg_with_everything_inside(name: str, genes: str) -> None:
    space = SPACES[name]
    for island in space.islands:
        values = space.cardinalities(island)
        genotypes = {"none": (0,) * len(values), "all": tuple(count - 1 for count in values)}
        genotype = genotypes.get(genes) or space.sample(island, np.random.default_rng(0))
        picture = space.draw(space.decode(island, genotype))
        root = ElementTree.fromstring(picture)  # raises where it is not well-formed
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        boxes = [element.attrib for element in root.iter() if element.tag.endswith("rect")]
        for box in boxes:
            assert 0 <= float(box["x"]) <= float(box["x"]) + float(box["width"]) <= width + 1e-6
            assert 0 <= float(box["y"]) <= float(box["y"]) + float(box["height"]) <= height + 1e-6
        blocks = len(space.layout(island).places)
        titles = re.findall("<title>([^<]*)</title>", picture)
        assert len(titles) == 2 * blocks  # in the network, and in the shares
        assert len(set(titles)) == blocks


def test_bars_are_as_high_as_there_are_units() -> None:
    space = small_hrnas()
    architecture = space.decode("branches-3", space.sample("branches-3", np.random.default_rng(2)))
    colours = [*KERNELS.values(), TOKENS, REMOVED]
    root = ElementTree.fromstring(space.draw(architecture))
    groups = [element for element in root if element.tag.endswith("}g")]
    places = layout(space.settings, 3).places
    for group, place, units in zip(groups[len(places) :], places, architecture.blocks, strict=True):
        heights = {one.attrib["fill"]: float(one.attrib["height"]) for one in group if one.tag.endswith("rect")}
        assert heights.keys() <= set(colours)
        for _, colour, count in parts_of(place, units, (3, 5, 7)):
            share = count / most_of(place, (3, 5, 7))
            assert heights.get(colour, 0.0) / sum(heights.values()) == pytest.approx(share, abs=1e-3)


def test_choices_are_what_a_block_has_most_of() -> None:
    space = small_hrnas()
    assert isinstance(space, DrawnSpace)
    empty = space.decode("branches-1", (0,) * len(space.cardinalities("branches-1")))
    assert {choice.kind for choice in space.choices(empty)} == {"removed"}
    assert space.properties(empty)["empty blocks"] == len(space.layout("branches-1").places)
    full = space.largest(np.random.default_rng(0))
    assert {choice.kind for choice in space.choices(full)} == {"3x3"}  # the first of equals
