"""YAML that a person, or anybody, may have written: read when it has been seen to be small, flat and free of tricks."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

MOST_CHARACTERS, MOST_VALUES, DEEPEST = 1_000_000, 20_000, 40
"""Far more than any recipe needs."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text: mappings, lists, texts, numbers and dates, and nothing that runs code.

    Raises:
        ValueError: it "is not YAML: ...", or "is too much: ...".
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"is too much: it has {len(text)} characters, more than {MOST_CHARACTERS}")
    try:
        excess = _excess(text)
        if not excess:
            return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date without such a day is a ValueError
        raise ValueError(f"is not YAML: {' '.join(str(error).split())[:300]}") from None
    raise ValueError(f"is too much: {excess}")


def _excess(text: str) -> str:
    """Why a text is not to be built, empty: it may be. Every alias counts for all values that it stands for."""
    values, sizes, begun = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in yaml.parse(text, yaml.SafeLoader):
        match event:
            case AliasEvent(anchor=anchor):
                if anchor not in sizes:
                    return f"*{anchor} stands inside or in front of what it repeats"
                values += sizes[anchor]
            case ScalarEvent(anchor=anchor):
                values += 1
                sizes |= {anchor: 1} if anchor else {}
            case CollectionStartEvent(anchor=anchor):
                begun.append((anchor, values))
                values += 1
            case CollectionEndEvent():
                anchor, before = begun.pop()
                sizes |= {anchor: values - before} if anchor else {}
        if values > MOST_VALUES:
            return f"it stands for more than {MOST_VALUES} values"
        if len(begun) > DEEPEST:
            return f"it is nested more than {DEEPEST} deep"
    return ""
