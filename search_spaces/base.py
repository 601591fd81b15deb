"""What every search space gives: islands of genotypes, architectures, and programs of steps.

A genotype is a tuple of small integers; `decode` turns it into an `Architecture`, in which only what matters is
left; `lower` turns that into a `Program`: operations applied to the results of earlier steps. A step's id is the
hash of its operation and of its inputs' ids, so two candidates that begin alike have the same first steps, whatever
else they are. Everything that a score depends on follows from steps.

Nothing here needs torch: a space with closed-form objectives has no networks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Genotype = tuple[int, ...]
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

IMAGE = "image"
"""The id that steps use for the network's input, a float tensor of shape (batch, 3, height, width)."""


class InvalidGenotype(ValueError):
    """A genotype or an architecture description that this space cannot decode."""


def digest(value: Json) -> str:
    """The first 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Architecture(Protocol):
    """The canonical form of a candidate: hashable, comparable, and free of what cannot matter."""

    def to_json(self) -> dict[str, Json]:
        """A description that `SearchSpace.architecture_from_json` reads back."""


def architecture_id(architecture: Architecture) -> str:
    """16 hex digits that name an architecture, equal for equal architectures on any machine."""
    return digest(architecture.to_json())


@dataclass(frozen=True)
class Violation:
    """A constraint that an architecture breaks."""

    constraint: str
    amount: float
    """How far beyond the allowed, > 0, in the constraint's own unit."""
    words: str


@dataclass(frozen=True)
class Operation:
    """What a step does, by name and arguments: the name of a supernet's operation at one exact size."""

    name: str
    arguments: tuple[tuple[str, int | str | tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, name: str, **arguments: int | str | tuple[int, ...]) -> Operation:
        return cls(name, tuple(sorted(arguments.items())))

    def __getitem__(self, argument: str) -> int | str | tuple[int, ...]:
        return dict(self.arguments)[argument]

    def integer(self, argument: str) -> int:
        """The argument as an int."""
        value = self[argument]
        assert isinstance(value, int), f"{self.name}.{argument} is {value!r}, not an integer"
        return value

    def integers(self, argument: str) -> tuple[int, ...]:
        """The argument as a tuple of ints."""
        value = self[argument]
        assert isinstance(value, tuple), f"{self.name}.{argument} is {value!r}, not a tuple"
        return value


@dataclass(frozen=True)
class Step:
    """One operation applied to the results of earlier steps."""

    operation: Operation
    inputs: tuple[str, ...]
    """Ids of the steps whose results are read, or `IMAGE`."""
    id: str = field(init=False)

    def __post_init__(self) -> None:
        arguments: Json = [list(pair) for pair in self.operation.arguments]
        object.__setattr__(self, "id", digest([self.operation.name, arguments, list(self.inputs)]))


@dataclass(frozen=True)
class Program:
    """Steps in an order in which each one's inputs come before it.

    Raises:
        ValueError: a step reads something that no earlier step made, or `output` is not among the steps.
    """

    steps: tuple[Step, ...]
    output: str
    """Id of the step whose result is the network's."""
    auxiliary: tuple[str, ...] = ()
    """Ids of the steps whose results only training reads."""

    def __post_init__(self) -> None:
        known = {IMAGE}
        for step in self.steps:
            missing = [name for name in step.inputs if name not in known]
            if missing:
                raise ValueError(f"step {step.id} ({step.operation.name}) reads {missing} before it is made")
            known.add(step.id)
        if missing := [name for name in (self.output, *self.auxiliary) if name not in known]:
            raise ValueError(f"outputs {missing} are not among the {len(self.steps)} steps")


class ProgramBuilder:
    """Collects steps, each distinct one once, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def add(self, operation: Operation, *inputs: str) -> str:
        """The id of the step that applies `operation` to `inputs`."""
        step = Step(operation, inputs)
        self._steps.setdefault(step.id, step)
        return step.id

    def program(self, output: str, auxiliary: Sequence[str] = ()) -> Program:
        """The steps so far, with their outputs."""
        return Program(tuple(self._steps.values()), output, tuple(auxiliary))


A = TypeVar("A", bound=Architecture)


@runtime_checkable
class SearchSpace(Protocol[A]):
    """Islands of genotypes and the architectures that they stand for."""

    @property
    def name(self) -> str:
        """What recipes call it."""

    @property
    def islands(self) -> tuple[str, ...]:
        """The names of the parts that are searched separately, in order."""

    def cardinalities(self, island: str) -> tuple[int, ...]:
        """How many values each gene has: gene i is one of 0 .. cardinalities[i] - 1."""

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        """A random genotype whose architecture breaks no constraint."""

    def decode(self, island: str, genotype: Genotype) -> A:
        """The canonical architecture of a genotype. Total over the island's cardinalities.

        Raises:
            InvalidGenotype: wrong length, or a gene outside its cardinality.
        """

    def encode(self, architecture: A) -> tuple[str, Genotype]:
        """The island and the canonical genotype of an architecture: `decode(*encode(a)) == a`."""

    def violations(self, architecture: A) -> tuple[Violation, ...]:
        """The constraints that the architecture breaks; empty when it may be built."""

    def architecture_from_json(self, description: Mapping[str, Json]) -> A:
        """The inverse of `Architecture.to_json`, for architectures that break no constraint.

        Raises:
            InvalidGenotype: a field is missing, unknown, or outside what the space holds.
        """


@runtime_checkable
class NetworkSpace(SearchSpace[A], Protocol[A]):
    """A search space of networks: architectures lower to programs, operations build plain modules."""

    def lower(self, architecture: A, training: bool = False) -> Program:
        """The architecture as a program of steps over one image batch; in training with auxiliary outputs."""

    def largest(self, rng: np.random.Generator) -> A:
        """An architecture that trains the most weights at full width: the teacher of the sandwich rule."""

    def build(self, operation: Operation) -> nn.Module:
        """A freshly initialised plain module that computes the operation, on its inputs in order."""

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        """Which tensor of the supernet each parameter of `build(operation)` is a leading slice of.

        Parameters are named as in the module (`conv.weight`); two operations whose parameters map to one
        name share it.
        """

    def largest_operations(self) -> Iterator[Operation]:
        """Operations that together reach every tensor of the supernet at its full size."""


@runtime_checkable
class ListedSpace(SearchSpace[A], Protocol[A]):
    """A search space of which somebody else has chosen what is looked at."""

    def listed(self, island: str) -> Sequence[Genotype]:
        """The genotypes that there are, in the order in which they are to be looked at."""


@dataclass(frozen=True)
class Choice:
    """What an architecture has at one place."""

    row: str
    """Where: the part of the architecture, such as a branch. Empty where there are no parts."""
    column: str
    """Where in the part, such as the layer."""
    kind: str
    """What is there, such as an operator."""


@runtime_checkable
class DrawnSpace(SearchSpace[A], Protocol[A]):
    """A search space that can show what its architectures look like. `search_spaces.looks` serves those that cannot."""

    @property
    def palette(self) -> Mapping[str, str]:
        """The colour (#rrggbb) of each kind of choice, in the order of a legend."""

    def choices(self, architecture: A) -> tuple[Choice, ...]:
        """What the architecture has where; places that it does not have are left out."""

    def properties(self, architecture: A) -> Mapping[str, float]:
        """Numbers that describe the architecture, by their names in words; the same names for all architectures."""

    def draw(self, architecture: A) -> str:
        """A picture of the architecture: one SVG element, which stands alone or in a page."""
