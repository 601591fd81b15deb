"""What an architecture of any space looks like: its choices, its numbers, its drawing.

A space that is a `DrawnSpace` says so itself. Of any other one the fields of an architecture's description are read:
a text is a choice, and what can be read as a number a property.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import cycle
from typing import Any

from search_spaces.base import Architecture, Choice, DrawnSpace, Json, SearchSpace

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that people with any colour vision tell apart."""


def choices(space: SearchSpace[Any], architecture: Architecture) -> tuple[Choice, ...]:
    """What the architecture has where."""
    if isinstance(space, DrawnSpace):
        return space.choices(architecture)
    fields = architecture.to_json().items()
    return tuple(Choice("", name, value) for name, value in fields if isinstance(value, str))


def properties(space: SearchSpace[Any], architecture: Architecture) -> Mapping[str, float]:
    """Numbers that describe the architecture, by name."""
    if isinstance(space, DrawnSpace):
        return space.properties(architecture)
    numbers = {name: _number(value) for name, value in architecture.to_json().items()}
    return {name: number for name, number in numbers.items() if number is not None}


def palette(space: SearchSpace[Any], kinds: Collection[str]) -> Mapping[str, str]:
    """The colour (#rrggbb) of each kind of choice that there is, in the order of a legend."""
    if isinstance(space, DrawnSpace):
        return {kind: colour for kind, colour in space.palette.items() if kind in kinds}
    colours = (*OKABE_ITO, *(f"#{shade:02x}{shade:02x}{shade:02x}" for shade in range(80, 230, 10)))
    return dict(zip(sorted(kinds), cycle(colours), strict=False))


def drawing(space: SearchSpace[Any], architecture: Architecture) -> str | None:
    """The architecture as an SVG element; None: the space draws none."""
    return space.draw(architecture) if isinstance(space, DrawnSpace) else None


def _number(value: Json) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
