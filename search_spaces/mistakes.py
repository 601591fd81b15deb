"""What pydantic finds wrong, in the words of this project: where, what is allowed, what was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

LIMITS = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
"""By pydantic's name for the mistake: its name for the limit, and ours."""
KINDS = {
    "int": "an integer",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
}
"""What a value must be, by the first word of pydantic's name for the mistake."""
SHOWN = 60
"""Characters of a wrong value that are repeated."""


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A sentence for each mistake in a document that should have been a `model`, with its path in the document."""
    found: list[Mapping[str, Any]] = [dict(one) for one in error.errors()]
    wrong = {one["loc"][:-1] for one in found}  # a list whose entries are wrong is said to be too short besides
    return [
        _sentence(one, model) for one in found if one["type"] != "too_short" or one["loc"] not in wrong | _above(wrong)
    ]


def _above(paths: Iterable[tuple[int | str, ...]]) -> set[tuple[int | str, ...]]:
    return {path[:length] for path in paths for length in range(len(path))}


def _sentence(mistake: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind, given, context = str(mistake["type"]), mistake["input"], mistake.get("ctx", {})
    keys, beside = _walk(mistake["loc"], model)
    path = ".".join(keys) or "it"
    match kind:
        case "missing":
            return f"{path} is required"
        case "extra_forbidden":
            return f"{path} is not a known key{_hint(keys[-1], beside, else_all=True)}"
        case "literal_error":
            return f"{path} {_choice(given, _listed(context['expected']))}"
        case "union_tag_invalid":
            return (
                f"{path}.{_bare(context['discriminator'])} {_choice(given['name'], _listed(context['expected_tags']))}"
            )
        case "union_tag_not_found":
            return f"{path}.{_bare(context['discriminator'])} is required"
        case "value_error":
            message = str(mistake["msg"]).removeprefix("Value error, ")
            return f"{path}: {message}" if keys else message
        case "too_short" | "too_long":
            least = kind == "too_short"
            count = context["min_length" if least else "max_length"]
            entries = "entry" if count == 1 else "entries"
            return f"{path} must have at {'least' if least else 'most'} {count} {entries}, got {_shown(given)}"
    if kind in LIMITS:
        name, sign = LIMITS[kind]
        return f"{path} must be {sign} {context[name]:g}, got {_shown(given)}"
    for start, words in KINDS.items():
        if kind.startswith(start) and not kind.endswith("_mismatch"):
            return f"{path} must be {words}, got {_shown(given)}"
    message = str(mistake["msg"])
    return f"{path}: {message[0].lower()}{message[1:]}, got {_shown(given)}"


def _walk(location: Sequence[int | str], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The keys of a location as the document has them, and the keys that are known where the last one stands.

    Pydantic's locations also name the model that was chosen among several: that part is left out.
    """
    keys: list[str] = []
    beside: list[str] = []
    models: Sequence[type[BaseModel]] = [model]
    for part in location:
        if len(models) > 1 and (chosen := [one for one in models if _name(one) == part]):
            models = chosen
            continue
        keys.append(str(part))
        if isinstance(part, str):
            beside = [name for one in models for name in one.model_fields]
            fields = [one.model_fields[part] for one in models if part in one.model_fields]
            models = [inner for field in fields for inner in _models((field.annotation,))]
    return keys, beside


def _models(annotations: Iterable[Any]) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation names, inside lists and unions too."""
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        yield from _models(get_args(annotation))


def _name(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return field.default if field else None


def _choice(given: object, allowed: Sequence[str]) -> str:
    one_of = f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0]
    return f"must be {one_of}, got {_shown(given)}{_hint(given, allowed)}"


def _hint(given: object, known: Sequence[str], else_all: bool = False) -> str:
    near = get_close_matches(str(given), known, n=1, cutoff=0.7)
    if near and near[0] != given:
        return f": did you mean {near[0]}?"
    return f": the keys here are {', '.join(known)}" if else_all and known else ""


def _listed(words: object) -> list[str]:
    return [_bare(word) for word in str(words).replace(" or ", ", ").split(", ")]


def _bare(word: object) -> str:
    return str(word).strip("'")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
