"""Small changes of a network that a good search should not have missed: what is lost when they are made?

Source: HyCTAS, section 4.5 and Table 8: attention becomes convolution, convolution becomes attention, attention moves
to another position, or to another branch at the same stride. Widths and descents stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from search_spaces.hyctas.architecture import Branch, HyctasArchitecture

Distortion = Callable[[HyctasArchitecture, np.random.Generator], HyctasArchitecture | None]
"""The changed network; None where the network has nothing to change."""

Place = tuple[int, int]
"""Branch and layer."""
CONVOLUTIONS = ("conv", "light", "light2")


def attention_to_convolution(network: HyctasArchitecture, rng: np.random.Generator) -> HyctasArchitecture | None:
    """Every attention becomes a 3x3 convolution."""
    return _changed(network, {place: "conv" for place, name in _cells(network).items() if name == "attention"})


def convolution_to_attention(network: HyctasArchitecture, rng: np.random.Generator) -> HyctasArchitecture | None:
    """Every convolution, light-weight ones too, becomes attention."""
    return _changed(network, {place: "attention" for place, name in _cells(network).items() if name in CONVOLUTIONS})


def shift_in_position(network: HyctasArchitecture, rng: np.random.Generator) -> HyctasArchitecture | None:
    """Every attention changes places with another operator of its branch."""
    return _shifted(network, rng, lambda here, there: here[0] == there[0])


def shift_in_branch(network: HyctasArchitecture, rng: np.random.Generator) -> HyctasArchitecture | None:
    """Every attention changes places with another operator at its stride in another branch."""

    def allowed(here: Place, there: Place) -> bool:
        return here[0] != there[0] and _scale(network, here) == _scale(network, there)

    return _shifted(network, rng, allowed)


DISTORTIONS: dict[str, Distortion] = {
    "attention to convolution": attention_to_convolution,
    "convolution to attention": convolution_to_attention,
    "attention shifted in position": shift_in_position,
    "attention shifted in branch": shift_in_branch,
}
"""By the name that tables give them."""


def _cells(network: HyctasArchitecture) -> dict[Place, str]:
    branches = enumerate(network.branches)
    return {(index, layer): name for index, branch in branches for layer, name in enumerate(branch.operators)}


def _scale(network: HyctasArchitecture, place: Place) -> int:
    return network.branches[place[0]].scale(place[1])


def _goes_down(network: HyctasArchitecture, place: Place) -> bool:
    return place[1] in network.branches[place[0]].downs


def _shifted(
    network: HyctasArchitecture, rng: np.random.Generator, allowed: Callable[[Place, Place], bool]
) -> HyctasArchitecture | None:
    """Swaps each attention, in an order drawn by `rng`, with an operator that has not moved yet."""
    cells = _cells(network)
    attention = [place for place, name in cells.items() if name == "attention"]
    moved: dict[Place, str] = {}
    for index in rng.permutation(len(attention)):
        here = attention[index]
        places = [
            there
            for there, name in cells.items()
            if name != "attention"
            and there not in moved
            and allowed(here, there)
            and not (name == "skip" and _goes_down(network, here))
        ]
        if places:
            there = places[rng.integers(len(places))]
            moved |= {here: cells[there], there: "attention"}
    return _changed(network, moved)


def _changed(network: HyctasArchitecture, operators: dict[Place, str]) -> HyctasArchitecture | None:
    if not operators:
        return None
    cells = _cells(network) | operators

    def branch(index: int, before: Branch) -> Branch:
        return replace(before, operators=tuple(cells[index, layer] for layer in range(len(before.operators))))

    return HyctasArchitecture(tuple(branch(index, before) for index, before in enumerate(network.branches)))
