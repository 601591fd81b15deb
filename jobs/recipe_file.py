"""Recipes on disk: YAML, with values that the command line overrides."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jobs.yaml_text import MOST_CHARACTERS, parse_yaml
from orchestrator.config import Recipe, RecipeError, read_recipe


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the file `name`, or the one that comes with Archipelago under that name (`demo`); -: from stdin.

    overrides: `path.to.key=VALUE` each, VALUE in YAML; a path that ends in a list's index replaces that entry.

    Raises:
        RecipeError: no such file, no YAML, an override without a place, or one line per mistake in the recipe.
    """
    text, where = _read(name)
    try:
        document = parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{where} {error}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{where} must hold a mapping of sections (study, space, data, ...), got {document!r:.80}")
    for override in overrides:
        _apply(document, override)
    return read_recipe(document, where)


def changed(recipe: Recipe, overrides: Sequence[str], allowed: Sequence[str]) -> Recipe:
    """The recipe of a study with other values where that does not change what the study is.

    allowed: what a key may begin with.

    Raises:
        RecipeError: an override of something else, or one line per mistake.
    """
    document = recipe.model_dump(mode="json")
    for override in overrides:
        if not override.startswith(tuple(allowed)):
            raise RecipeError(f"--set {override}: of a study that exists only {', '.join(allowed)} can be changed")
        _apply(document, override)
    return read_recipe(document, f"study {recipe.study} with --set") if overrides else recipe


def _read(name: str) -> tuple[str, str]:
    shipped = resources.files("jobs") / "recipes"
    path = Path(name)
    try:
        if name == "-":
            return sys.stdin.read(MOST_CHARACTERS + 1), "the recipe on the standard input"
        if path.is_file():
            return path.read_text(encoding="utf-8"), name
        inside = shipped / f"{name}.yaml"
        if inside.is_file():
            return inside.read_text(encoding="utf-8"), f"{name}.yaml"
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name} cannot be read: {error}") from None
    names = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir())
    raise RecipeError(f"there is no recipe {name}: give a YAML file, or one of {', '.join(names)}")


def _apply(document: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(
            f"--set {override}: write it as key.of.section=VALUE, such as budget.evaluations_per_island=80"
        )
    try:
        value = parse_yaml(text)
    except ValueError:
        raise RecipeError(f"--set {override:.200}: {text!r:.60} is not a YAML value") from None
    *parents, last = path.split(".")
    place: Any = document
    try:
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    except (AttributeError, TypeError, ValueError, IndexError):
        raise RecipeError(f"--set {override}: the recipe has no place {path}") from None
