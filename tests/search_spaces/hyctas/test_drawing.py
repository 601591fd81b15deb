"""Pictures of networks, read back as XML."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from search_spaces.hyctas.architecture import LETTERS, Branch, HyctasArchitecture
from search_spaces.hyctas.drawing import FULL, PALETTE, hyctas_svg
from tests.networks import by_ends, small_space

SVG = "{http://www.w3.org/2000/svg}"
OPERATORS = ("conv", "attention", "light", "light2", "skip", "conv")
WIDTHS = (12, 10, 8, 4, 6)


def cells(picture: ElementTree.Element) -> list[ElementTree.Element]:
    """The boxes of cells, in the order in which they are drawn."""
    return [box for group in picture.iter(f"{SVG}g") for box in group.iter(f"{SVG}rect")]


def drawn(*branches: Branch, head_width: int = 12) -> ElementTree.Element:
    return ElementTree.fromstring(hyctas_svg(HyctasArchitecture(branches), head_width))


def test_a_cell_shows_operator_and_width() -> None:
    picture = drawn(Branch((), OPERATORS, WIDTHS), head_width=8)
    boxes = cells(picture)
    assert [box.get("fill") for box in boxes] == [PALETTE[operator] for operator in OPERATORS]
    heights = [float(box.get("height", "")) for box in boxes]
    assert heights == pytest.approx([FULL * width / 12 for width in (*WIDTHS, 8)], abs=0.1)
    letters = [group[-1].text for group in picture.iter(f"{SVG}g")]
    assert letters == [LETTERS[operator] for operator in OPERATORS]
    assert picture.get("aria-label") == "1/8  CAL2·C"


def test_a_cell_that_goes_down_is_followed_by_one_further_down() -> None:
    rows = [float(box.get("y", "")) + float(box.get("height", "")) / 2 for box in cells(drawn(
        Branch((1, 3), OPERATORS, WIDTHS)))]  # fmt: skip
    assert rows[0] == pytest.approx(rows[1], abs=0.1)
    assert rows[1] < rows[2] == pytest.approx(rows[3], abs=0.1)
    assert rows[3] < rows[4] == pytest.approx(rows[5], abs=0.1)


def test_what_branches_begin_with_is_drawn_once() -> None:
    whole = Branch((2,), OPERATORS, WIDTHS)
    deeper = Branch((2, 4), ("conv", "attention", "light", "light2", "conv", "conv"), WIDTHS)
    assert len(cells(drawn(whole, deeper))) == 4 + 2 + 2  # they part at the fifth layer
    other = Branch((2, 4), ("skip", *deeper.operators[1:]), WIDTHS)
    assert len(cells(drawn(whole, other))) == 12


def test_every_branch_is_merged_on_its_way_up() -> None:
    space = small_space(layers=6)
    for ends, architecture in by_ends(space).items():
        picture = ElementTree.fromstring(space.draw(architecture))
        assert len(list(picture.iter(f"{SVG}circle"))) == sum(ends)
        dashed = [path for path in picture.iter(f"{SVG}path") if "dash" in path.get("class", "")]
        assert len(dashed) == sum(ends)


def test_pictures_of_a_space_have_one_width_and_hold_what_they_show() -> None:
    space, rng = small_space(layers=8), np.random.default_rng(0)
    widths = set()
    for island in space.islands:
        for _ in range(10):
            architecture = space.decode(island, space.sample(island, rng))
            picture = ElementTree.fromstring(space.draw(architecture))
            assert space.draw(architecture) == space.draw(architecture)
            _, _, width, height = map(float, picture.get("viewBox", "").split())
            widths.add(width)
            for box in picture.iter(f"{SVG}rect"):
                left, top, wide, tall = (float(box.get(name, "")) for name in ("x", "y", "width", "height"))
                assert 0 <= left <= left + wide <= width
                assert 0 <= top <= top + tall <= height
    assert len(widths) == 1
