"""What architectures look like, in spaces that say so and in those that do not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from search_spaces import looks
from search_spaces.base import Choice, DrawnSpace
from search_spaces.hyctas.architecture import STRIDES
from search_spaces.tabular import TabularSpace
from search_spaces.toy import ToyArchitecture, ToySpace
from tests.networks import small_space
from tests.search_spaces.test_space_contract import SPACES, samples
from tests.tables import written_table


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_looks(name: str) -> None:
    space = SPACES[name]()
    found = samples(space, 12)
    for architecture in found:
        assert all(isinstance(value, float) for value in looks.properties(space, architecture).values())
    if isinstance(space, DrawnSpace):
        assert len({tuple(space.properties(architecture)) for architecture in found}) == 1
    chosen = [choice for architecture in found for choice in looks.choices(space, architecture)]
    palette = looks.palette(space, {choice.kind for choice in chosen})
    assert set(palette) == {choice.kind for choice in chosen}
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in palette.values())
    for architecture in found:
        places = [(choice.row, choice.column) for choice in looks.choices(space, architecture)]
        assert len(set(places)) == len(places)
        assert (looks.drawing(space, architecture) is not None) == isinstance(space, DrawnSpace)


def test_fields_of_a_description_are_read_where_a_space_says_nothing() -> None:
    architecture = ToyArchitecture("reef", depth=3, width=2, kernel=1, tokens=None)
    assert looks.properties(ToySpace(), architecture) == {"depth": 3, "width": 2, "kernel": 1}
    assert looks.choices(ToySpace(), architecture) == (Choice("", "island", "reef"),)
    table = TabularSpace(written_table(share=1.0))
    row = table.decode("table", (3, 0, 1, 4))
    assert looks.properties(table, row) == {"kernel": 11, "depth": 4, "width": 100}
    assert looks.choices(table, row)[1] == Choice("", "kind", "conv")
    assert len(looks.choices(table, row)) == 4


def test_choices_of_networks_are_operators_by_branch_and_layer() -> None:
    space = small_space(layers=6)
    rng = np.random.default_rng(3)
    architecture = space.decode("branches-2", space.sample("branches-2", rng))
    chosen = space.choices(architecture)
    assert [choice.column for choice in chosen] == ["1", "2", "3", "4", "5", "6"] * 2
    assert {choice.row for choice in chosen} == {f"ends at 1/{STRIDES[end]}" for end in architecture.ends}
    cells = [value for name, value in space.properties(architecture).items() if name.endswith("cells")]
    assert sum(cells) == 12
