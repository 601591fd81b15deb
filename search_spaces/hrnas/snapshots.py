"""Networks that shrinking has left, as a search space: an island for each penalty, an architecture for each snapshot.

Every snapshot has weights of its own. They lie side by side in one set of weights, whose names begin with the island
and the step, so that a study over snapshots is evaluated, exported and resumed as one over a supernet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from search_spaces.alone import AloneSpace
from search_spaces.base import Choice, Genotype, InvalidGenotype, Json, NetworkSpace, Operation, Program, Violation
from search_spaces.checks import check_fields, check_genotype, check_island
from search_spaces.hrnas.architecture import FIELDS, HrnasArchitecture
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.marking import marked, unmarked
from search_spaces.training.settings import ShrinkingSettings

OWN_FIELDS = ("penalty", "step")


def island_of(penalty: float) -> str:
    """The island of a penalty weight."""
    return f"penalty-{penalty:g}"


@dataclass(frozen=True)
class Snapshot:
    """A network as it was at one step of a training that removes units."""

    penalty: float
    step: int
    network: HrnasArchitecture

    @property
    def place(self) -> str:
        """How the names of its weights begin."""
        return f"{island_of(self.penalty)}/{self.step}"

    def to_json(self) -> dict[str, Json]:
        return {"penalty": self.penalty, "step": self.step, **self.network.to_json()}

    def __str__(self) -> str:
        return f"step {self.step}: {self.network}"


class OwnWeights(AloneSpace):
    """The network of one snapshot, with the names that its weights have beside those of the others."""

    def lower(self, architecture: HrnasArchitecture, training: bool = False) -> Program:
        return marked(self.space.lower(architecture, training), lambda _: ("snapshot", self.name))

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        return _names(self.space, operation)


class SnapshotSpace:
    """The snapshots of a study that searches by shrinking.

    genotype = (position of the step, then the genes of the network in the space that it was shrunk in)

    Args:
        space: holds every number of units, in one island.
        shrinking: its penalties are the islands.
        steps: of each training.
        snapshots: by island, in order, where they are known.
    """

    def __init__(
        self,
        space: HrnasSpace,
        shrinking: ShrinkingSettings,
        steps: int,
        snapshots: Mapping[str, Sequence[Snapshot]] | None = None,
    ) -> None:
        self.name: str = space.name
        self.space, self.shrinking = space, shrinking
        self.steps = shrinking.snapshot_steps(steps)
        self._penalties = {island_of(penalty): penalty for penalty in shrinking.penalties}
        self._snapshots = snapshots or {}

    def listing(self, snapshots: Mapping[str, Sequence[Snapshot]]) -> SnapshotSpace:
        """The same space, which knows the snapshots of each island."""
        return SnapshotSpace(self.space, self.shrinking, self.steps[-1], snapshots)

    @property
    def islands(self) -> tuple[str, ...]:
        return tuple(self._penalties)

    def listed(self, island: str) -> Sequence[Genotype]:
        return [self.encode(snapshot)[1] for snapshot in self._snapshots.get(island, ())]

    def cardinalities(self, island: str) -> tuple[int, ...]:
        self._penalty(island)
        return (len(self.steps), *self.space.cardinalities(self.space.islands[0]))

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        """One of the snapshots; where none are known, any network at any step."""
        if listed := self.listed(island):
            return listed[int(rng.integers(len(listed)))]
        return (int(rng.integers(len(self.steps))), *self.space.sample(self.space.islands[0], rng))

    def decode(self, island: str, genotype: Genotype) -> Snapshot:
        check_genotype(genotype, self.cardinalities(island), island)
        network = self.space.decode(self.space.islands[0], genotype[1:])
        return Snapshot(self._penalty(island), self.steps[genotype[0]], network)

    def encode(self, architecture: Snapshot) -> tuple[str, Genotype]:
        island = island_of(architecture.penalty)
        self._penalty(island)
        if architecture.step not in self.steps:
            steps = ", ".join(map(str, self.steps))
            raise InvalidGenotype(f"step must be one of {steps}, got {architecture.step}")
        return island, (self.steps.index(architecture.step), *self.space.encode(architecture.network)[1])

    def _penalty(self, island: str) -> float:
        check_island(island, self.islands)
        return self._penalties[island]

    def violations(self, architecture: Snapshot) -> tuple[Violation, ...]:
        return self.space.violations(architecture.network)

    def architecture_from_json(self, description: Mapping[str, Any]) -> Snapshot:
        check_fields(description, (*OWN_FIELDS, *FIELDS))
        network = {name: description[name] for name in FIELDS}
        penalty, step = (description[name] for name in OWN_FIELDS)
        if type(penalty) not in (int, float) or type(step) is not int:
            raise InvalidGenotype(f"penalty must be a number and step a whole number, got {penalty!r} and {step!r}")
        snapshot = Snapshot(float(penalty), step, self.space.architecture_from_json(network))
        self.encode(snapshot)  # raises where there is no such snapshot
        return snapshot

    def largest(self, rng: np.random.Generator) -> Snapshot:
        """The network with all units, where the first training begins."""
        return Snapshot(self.shrinking.penalties[0], 0, self.space.largest(rng))

    # ---- pictures: those of its network

    @property
    def palette(self) -> Mapping[str, str]:
        return self.space.palette

    def choices(self, architecture: Snapshot) -> tuple[Choice, ...]:
        return self.space.choices(architecture.network)

    def properties(self, architecture: Snapshot) -> dict[str, float]:
        return {"step": float(architecture.step), **self.space.properties(architecture.network)}

    def draw(self, architecture: Snapshot) -> str:
        return self.space.draw(architecture.network)

    # ---- networks

    def lower(self, architecture: Snapshot, training: bool = False) -> Program:
        return self.alone(architecture).lower(architecture.network, training)

    def alone(self, architecture: Snapshot) -> OwnWeights:
        """The space of the snapshot's network, whose operations name the snapshot's weights."""
        return OwnWeights(self.space, architecture.network, architecture.place)

    def build(self, operation: Operation) -> nn.Module:
        return self.space.build(unmarked(operation))

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        return _names(self.space, operation)

    def largest_operations(self) -> Iterator[Operation]:
        """The operations of the network with all units, for each snapshot."""
        whole = self.largest(np.random.default_rng(0))
        for penalty in self.shrinking.penalties:
            for step in self.steps:
                for one in self.lower(replace(whole, penalty=penalty, step=step)).steps:
                    yield one.operation


def _names(space: NetworkSpace[Any], operation: Operation) -> Callable[[str], str]:
    place, names = operation["snapshot"], space.shared_names(unmarked(operation))
    return lambda parameter: f"{place}/{names(parameter)}"
