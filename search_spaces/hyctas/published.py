"""Networks in the format of the authors' files: read, built by the published operators, and counted.

    {"networks": [{"name": ..., "arch": {ops, paths, downs, widths, lasts}, "settings": {...}}, ...]}

Conventions of the counts, as in such files: semantic head only, no auxiliary heads. Parameters and multiply-adds
(convolutions and matrix products of one forward pass at the input size of the settings) include the fusions at strides
16 and 32, which the authors' code computes although only auxiliary heads read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from search_spaces.base import InvalidGenotype
from search_spaces.hyctas.architecture import HyctasArchitecture
from search_spaces.hyctas.settings import WIDTHS, HyctasSettings, Width
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.mistakes import mistakes

Pixels = Annotated[int, Field(ge=32, le=65536)]


class NetworkFileError(ValueError):
    """A file of networks that cannot be read; the message says which network and what is allowed."""


@dataclass(frozen=True)
class NetworkComplexity:
    """One network's counts."""

    name: str
    params_total: int
    params_backbone: int
    """Everything but the semantic head."""
    macs: int


class _Settings(BaseModel):
    """The settings of a network, in the authors' words; other keys are ignored."""

    model_config = ConfigDict(frozen=True)

    Fch: Annotated[int, Field(ge=1, le=128)]
    stem_head_width: tuple[float, float]
    model_type: Literal[0, 1, 2]
    num_classes: Annotated[int, Field(ge=1, le=65536)]
    input: tuple[PositiveInt, Literal[3], Pixels, Pixels]
    norm: Literal["BN"] = "BN"
    sem_only: Literal[True] = True
    use_aux: Literal[False] = False
    use_bias: Literal[False] = False


class _Network(BaseModel):
    name: Annotated[str, Field(max_length=200)]
    arch: dict[str, Any]
    settings: _Settings


class _File(BaseModel):
    networks: list[_Network]


def read_networks(document: object, where: str) -> list[NetworkComplexity]:
    """The counts of every network in a parsed file.

    Raises:
        NetworkFileError: the document or one of its networks is not of the format.
    """
    try:
        networks = _File.model_validate(document).networks
    except ValidationError as error:
        raise NetworkFileError("\n".join(f"{where}: {words}" for words in mistakes(error, _File))) from None
    found = []
    for network in networks:
        try:
            found.append(_count(network))
        except InvalidGenotype as error:
            raise NetworkFileError(f"{where}: network {network.name}: {error}") from None
    return found


def _count(network: _Network) -> NetworkComplexity:
    settings = network.settings
    stem, head = (_twelfths(width) for width in settings.stem_head_width)
    space = HyctasSpace(
        HyctasSettings(
            family="published",
            filters=settings.Fch,
            stem_width=stem,
            head_width=head,
            model_type=settings.model_type,
        ),
        settings.num_classes,
    )
    architecture = HyctasArchitecture.from_json(network.arch)
    if violations := space.violations(architecture):
        raise InvalidGenotype(violations[0].words)
    cost = space.counter.count(space.lower(architecture, training=True), settings.input)
    params, macs = (
        sum(count for name, count in counts.items() if name != "auxiliary")
        for counts in (cost.params_by_operation, cost.macs_by_operation)
    )
    return NetworkComplexity(network.name, params, params - cost.params_by_operation["head"], macs)


def _twelfths(width: float) -> Width:
    for twelfths in WIDTHS:
        if abs(width * 12 - twelfths) < 1e-6:
            found: Width = twelfths  # type: ignore[assignment]  # WIDTHS holds exactly the values of Width
            return found
    raise InvalidGenotype(f"stem_head_width is 4, 6, 8, 10 or 12 twelfths, got {width}")
