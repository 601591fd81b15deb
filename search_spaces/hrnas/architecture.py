"""An HR-NAS network as data: how many units each searching block has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.base import InvalidGenotype, Json
from search_spaces.checks import check_fields

FIELDS = ("branches", "channels", "tokens")


@dataclass(frozen=True)
class Units:
    """What a searching block has."""

    channels: tuple[int, ...]
    """Hidden channels of each kernel size."""
    tokens: int


@dataclass(frozen=True)
class HrnasArchitecture:
    """The units of every searching block, in the order of the island's layout."""

    branches: int
    """Most branches that run beside each other."""
    blocks: tuple[Units, ...]

    def to_json(self) -> dict[str, Json]:
        return {
            "branches": self.branches,
            "channels": [list(block.channels) for block in self.blocks],
            "tokens": [block.tokens for block in self.blocks],
        }

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> HrnasArchitecture:
        """The inverse of `to_json`.

        Raises:
            InvalidGenotype: a field is missing, unknown or not of whole numbers.
        """
        check_fields(description, FIELDS)
        channels = [
            _integers(counts, f"channels.{index}") for index, counts in enumerate(_list(description, "channels"))
        ]
        tokens = _integers(_list(description, "tokens"), "tokens")
        if len(channels) != len(tokens):
            raise InvalidGenotype(f"channels and tokens must list the same blocks, got {len(channels)}, {len(tokens)}")
        (branches,) = _integers([description["branches"]], "branches")
        return cls(branches, tuple(Units(*units) for units in zip(channels, tokens, strict=True)))

    def __str__(self) -> str:
        """Channels of each kernel size, tokens, and blocks that have neither: `272+264+280, 48 tokens, 2 empty`."""
        by_kernel = [sum(counts) for counts in zip(*(block.channels for block in self.blocks), strict=True)]
        tokens = sum(block.tokens for block in self.blocks)
        empty = sum(not any((*block.channels, block.tokens)) for block in self.blocks)
        return "+".join(map(str, by_kernel)) + f", {tokens} tokens" + (f", {empty} empty" if empty else "")


def _list(description: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = description[name]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidGenotype(f"{name} must be a list, got {value!r}")
    return value


def _integers(values: Any, where: str) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or not all(type(value) is int for value in values):
        raise InvalidGenotype(f"{where} must be whole numbers, got {values!r}")
    return tuple(values)
