"""A space whose islands share no weights with each other: every island has a copy of its own, trained further for it.

Source: few-shot NAS (Zhao et al., ICML 2021): the less a supernet's weights are shared, the better its ranking; islands
are a split that costs nothing to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from search_spaces.base import Genotype, NetworkSpace, Operation, Program, Violation
from search_spaces.marking import marked, unmarked
from search_spaces.supernet import Supernet, Weights

MARK = "island"


@dataclass(frozen=True)
class ApartSpace:
    """`space`, each of whose steps says whose weights it uses.

    So a step's id follows from its island too, and whatever merges, remembers or cuts out steps keeps islands apart
    without knowing of them.
    """

    space: NetworkSpace[Any]
    parts: Mapping[str, NetworkSpace[Any]]
    """The space of each island alone: its tensors are leading parts of those of `space`."""

    @property
    def name(self) -> str:
        return self.space.name

    @property
    def islands(self) -> tuple[str, ...]:
        return self.space.islands

    def cardinalities(self, island: str) -> tuple[int, ...]:
        return self.space.cardinalities(island)

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        return self.space.sample(island, rng)

    def decode(self, island: str, genotype: Genotype) -> Any:
        return self.space.decode(island, genotype)

    def encode(self, architecture: Any) -> tuple[str, Genotype]:
        return self.space.encode(architecture)

    def violations(self, architecture: Any) -> tuple[Violation, ...]:
        return self.space.violations(architecture)

    def architecture_from_json(self, description: Mapping[str, Any]) -> Any:
        return self.space.architecture_from_json(description)

    def largest(self, rng: np.random.Generator) -> Any:
        return self.space.largest(rng)

    def lower(self, architecture: Any, training: bool = False) -> Program:
        """The architecture's program, each operation marked with the architecture's island."""
        island, _ = self.encode(architecture)
        return marked(self.space.lower(architecture, training), lambda step: (MARK, island))

    def build(self, operation: Operation) -> nn.Module:
        return self.space.build(unmarked(operation))

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        """Those of `space`, behind the island's name."""
        names, island = self.space.shared_names(unmarked(operation)), operation[MARK]
        return lambda parameter: f"{island}/{names(parameter)}"

    def largest_operations(self) -> Iterator[Operation]:
        for island, part in self.parts.items():
            for operation in part.largest_operations():
                yield Operation(operation.name, (*operation.arguments, (MARK, island)))


def brought_together(weights: Mapping[str, Weights]) -> dict[str, np.ndarray]:
    """The weights of an `ApartSpace`, from those of each island."""
    return {f"{island}/{name}": array for island, part in weights.items() for name, array in part.items()}


def own_copies(space: ApartSpace, shared: Weights) -> dict[str, np.ndarray]:
    """The weights of an `ApartSpace`, each of whose islands has copies of those that all islands of `space` share."""
    found = {}
    for name, array in Supernet(space, torch.Generator()).to_numpy().items():
        found[name] = shared[name.partition("/")[2]][tuple(map(slice, array.shape))]
    return found


def part_of(weights: Weights, island: str) -> dict[str, np.ndarray]:
    """An island's weights, from those of an `ApartSpace`."""
    mine = f"{island}/"
    return {name.removeprefix(mine): array for name, array in weights.items() if name.startswith(mine)}
