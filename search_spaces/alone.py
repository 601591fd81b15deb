"""A space of one architecture: the same training, for a network that shares its weights with nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from search_spaces.base import Genotype, NetworkSpace, Operation, Program, Violation
from search_spaces.marking import marked, unmarked


@dataclass(frozen=True)
class AloneSpace:
    """One architecture of `space`, each of whose steps has weights of its own.

    A supernet over it is that network; what trains supernets trains it from scratch.
    """

    space: NetworkSpace[Any]
    architecture: Any
    name: str = "alone"
    islands: tuple[str, ...] = ("alone",)

    def cardinalities(self, island: str) -> tuple[int, ...]:
        return ()

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        return ()

    def decode(self, island: str, genotype: Genotype) -> Any:
        return self.architecture

    def encode(self, architecture: Any) -> tuple[str, Genotype]:
        return self.islands[0], ()

    def violations(self, architecture: Any) -> tuple[Violation, ...]:
        return self.space.violations(architecture)

    def architecture_from_json(self, description: Mapping[str, Any]) -> Any:
        return self.space.architecture_from_json(description)

    def largest(self, rng: np.random.Generator) -> Any:
        return self.architecture

    def lower(self, architecture: Any, training: bool = False) -> Program:
        """The architecture's program; each operation is marked with its step, so that it names weights of its own."""
        return marked(self.space.lower(architecture, training), lambda step: ("step", step.id))

    def build(self, operation: Operation) -> nn.Module:
        return self.space.build(unmarked(operation))

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        return f"{operation['step']}/{{}}".format

    def largest_operations(self) -> Iterator[Operation]:
        for step in self.lower(self.architecture, training=True).steps:
            yield step.operation
