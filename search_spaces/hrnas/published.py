"""Lightweight transformers listed in a file: read, built in the published form, and counted.

    {"transformer": [{"n": ..., "s": ..., "c": ..., "h": ..., "w": ..., "c_out": ..., "downsampling": ...}, ...]}

n tokens of s x s pixels, c input channels of h x w pixels, c_out output channels (as many as c if left out), at half
size with downsampling. Counted are parameters and the multiply-adds of convolutions, linear layers and matrix products;
the feature is resized before and after, so that they do not depend on h and w.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.base import Operation
from search_spaces.complexity import step_cost
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.hrnas.transformer import LightTransformer
from search_spaces.hyctas.published import NetworkFileError
from search_spaces.mistakes import mistakes

Count = Annotated[int, Field(ge=1, le=65536)]


@dataclass(frozen=True)
class TransformerComplexity:
    """One transformer's settings, by their names in the file, and its counts."""

    n: int
    s: int
    c: int
    h: int
    w: int
    c_out: int
    downsampling: bool
    params: int
    macs: int


class _Transformer(BaseModel):
    """The settings of a transformer, in the authors' words; other keys are ignored."""

    model_config = ConfigDict(frozen=True)

    n: Count
    s: Annotated[int, Field(ge=2, le=64)]
    c: Count
    h: Count
    w: Count
    c_out: Count | None = None
    downsampling: bool = False


class _File(BaseModel):
    transformer: list[_Transformer]


def lists_transformers(document: object) -> bool:
    """Whether a parsed file is of this format."""
    return isinstance(document, Mapping) and "transformer" in document


def read_transformers(document: object, where: str) -> list[TransformerComplexity]:
    """The counts of every transformer in a parsed file.

    Raises:
        NetworkFileError: the document is not of the format.
    """
    try:
        listed = _File.model_validate(document).transformer
    except ValidationError as error:
        raise NetworkFileError("\n".join(f"{where}: {words}" for words in mistakes(error, _File))) from None
    return [_count(one) for one in listed]


def _count(one: _Transformer) -> TransformerComplexity:
    settings = TransformerSettings(form="published", tokens=one.n, size=one.s)
    outputs, stride = one.c_out or one.c, 2 if one.downsampling else 1

    def build(_operation: Operation) -> LightTransformer:
        return LightTransformer(one.c, outputs, one.n, settings, stride)

    with torch.device("meta"):  # large tokens have large weights, of which nothing but the shape is looked at
        cost = step_cost(build, Operation.of("transformer"), (1, one.c, one.h, one.w))
    return TransformerComplexity(one.n, one.s, one.c, one.h, one.w, outputs, one.downsampling, cost.params, cost.macs)
