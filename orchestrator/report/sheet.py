"""A table as data: the terminal and the report show the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A title, a heading for each column, and rows of words and numbers as people read them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    """How many columns, from the first, are words; the rest are numbers."""
