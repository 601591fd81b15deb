"""A space that somebody else wrote: found by the dotted path of its class, or by the name of an entry point.

    space:
      name: own
      of: my_package.my_space:MySpace      # or a name of the entry point group `archipelago.spaces`
      options: {width: 32}

Its class is called with `classes`, `training_shape` (batch, 3, height, width), and the options.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Self

from pydantic import JsonValue, model_validator

from search_spaces.base import NetworkSpace
from search_spaces.settings import NetworkSettings, TaskName

GROUP = "archipelago.spaces"
ANY_SHAPE = (2, 3, 64, 64)


class OwnSettings(NetworkSettings):
    """`space:` of a recipe that searches a space of your own."""

    tasks: ClassVar[tuple[TaskName, ...]] = ("segmentation", "classification")
    name: Literal["own"] = "own"
    of: str
    """The space's class: package.module:Class, or the name of an entry point of the group archipelago.spaces."""
    options: Mapping[str, JsonValue] = {}
    """What else the class is called with."""

    @property
    def islands(self) -> tuple[str, ...]:
        return self.make(1, ANY_SHAPE).islands

    def make(self, classes: int, training_shape: tuple[int, int, int, int]) -> NetworkSpace[Any]:
        """The space, whose networks predict `classes` classes.

        Raises:
            ValueError: there is no such class, it is no class of spaces, or it does not take the options.
        """
        found = _named(self.of)
        lacking = [name for name in _methods() if not hasattr(found, name)]
        if not isinstance(found, type) or lacking:  # before it is called: a recipe may come from anywhere
            raise ValueError(f"of: {self.of} must be a class with the methods of NetworkSpace, it lacks {lacking}")
        try:
            return found(classes=classes, training_shape=training_shape, **self.options)
        except TypeError as error:
            words = f"{self.of} cannot be called with classes, training_shape and options: {error}"
            raise ValueError(f"of: {words}") from None

    @model_validator(mode="after")
    def _is_a_space(self) -> Self:
        islands = self.islands
        if not islands or len(set(islands)) != len(islands):
            raise ValueError(f"of: {self.of} must have distinct islands, one at least, got {list(islands)}")
        return self


def _named(name: str) -> Any:
    """What the dotted path or the entry point leads to."""
    module, colon, attribute = name.partition(":")
    try:
        if colon:
            return getattr(importlib.import_module(module), attribute)
        (entry,) = entry_points(group=GROUP, name=name)
        return entry.load()
    except ValueError:
        known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
        raise ValueError(f"of: {name!r} must be package.module:Class, or an entry point of {GROUP} ({known})") from None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"of: {name} cannot be imported: {error}; install it, or run where it lies") from None


def _methods() -> tuple[str, ...]:
    """What a class of spaces can do."""
    members = [name for name in dir(NetworkSpace) if not name.startswith("_")]
    return tuple(name for name in members if callable(getattr(NetworkSpace, name)))
