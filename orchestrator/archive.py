"""What an island has found so far: its measured candidates, their front, its hypervolume."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from orchestrator import pareto
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement


class Archive:
    """The candidates of one island. Those beyond a limit are counted, and never on the front."""

    def __init__(self, objectives: Objectives, events: Iterable[Event] = ()) -> None:
        self._objectives = objectives
        self._numbers: list[int] = []
        self._rows: list[tuple[float, ...]] = []
        self._front: frozenset[int] | None = None
        self.done = 0
        self.failed = 0
        self.best_miou: float | None = None
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Takes the next event of the island's journal."""
        self.done += 1
        if not isinstance(event.result, Measurement):
            self.failed += 1
            return
        scores = self._objectives.scores(event.result)
        if scores.violation > 0:
            return
        self._front = None
        self._numbers.append(event.candidate.number)
        self._rows.append(scores.minimised)
        miou = event.result.metrics.get("miou")
        if miou is not None and (self.best_miou is None or miou > self.best_miou):
            self.best_miou = miou

    @property
    def front(self) -> frozenset[int]:
        """Numbers of the feasible candidates that no other one dominates; equally good ones all belong."""
        if self._front is None:
            kept = np.flatnonzero(pareto.non_dominated(self._matrix()))
            self._front = frozenset(self._numbers[row] for row in kept)
        return self._front

    @property
    def hypervolume(self) -> float:
        """Share of the box between ideal and reference point that the front dominates, 0 to 1."""
        return self._objectives.hypervolume(self._matrix())

    def _matrix(self) -> NDArray[np.float64]:
        return np.array(self._rows, dtype=np.float64).reshape(len(self._rows), len(self._objectives.each))


def front(objectives: Objectives, events: Iterable[Event]) -> tuple[Event, ...]:
    """The events on the front of one island, by falling quality in the first objective."""
    kept = list(events)
    numbers = Archive(objectives, kept).front
    best = [event for event in kept if event.candidate.number in numbers]
    return tuple(sorted(best, key=lambda event: _first_objective(objectives, event)))


def _first_objective(objectives: Objectives, event: Event) -> tuple[float, int]:
    assert isinstance(event.result, Measurement)
    return objectives.scores(event.result).minimised[0], event.candidate.number
