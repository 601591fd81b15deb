"""What an island has found so far: its measured candidates, their front, its hypervolume."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

import numpy as np

from orchestrator import pareto
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement


class Archive:
    """The candidates of one island. Those beyond a limit are counted, and never on the front."""

    def __init__(self, objectives: Objectives, events: Iterable[Event] = ()) -> None:
        self._objectives = objectives
        self._numbers: list[int] = []
        self._F = np.empty((0, len(objectives.each)))
        self._hypervolume = 0.0
        self.done = 0
        self.failed = 0
        self.best: dict[str, float] = {}
        """Of the candidates within the limits, by objective; empty: there is none yet."""
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
        self._enter(event.candidate.number, scores.minimised)
        for objective in self._objectives.each:
            value = event.result.metrics[objective.name]
            self.best[objective.name] = objective.better(value, self.best.get(objective.name, value))

    @property
    def objective(self) -> str:
        """The name of the first objective."""
        return self._objectives.names[0]

    @property
    def front(self) -> frozenset[int]:
        """Numbers of the feasible candidates that no other one dominates; equally good ones all belong."""
        return frozenset(self._numbers)

    @property
    def hypervolume(self) -> float:
        """Share of the box between ideal and reference point that the front dominates, 0 to 1."""
        return self._hypervolume

    def _enter(self, number: int, row: tuple[float, ...]) -> None:
        """Puts a candidate on the front, if it belongs there, and takes off whom it dominates.

        A row at a time: an island of ten thousand candidates costs each of them no more than one of a hundred.
        """
        point = np.array([row])
        no_worse, no_better = np.less_equal(self._F, point).all(axis=1), np.less_equal(point, self._F).all(axis=1)
        if (no_worse & ~no_better).any():
            return
        stays = no_worse | ~no_better
        self._numbers = [*compress(self._numbers, stays), number]
        self._F = np.concatenate([self._F[stays], point])
        self._hypervolume = self._objectives.hypervolume(self._F)


def front(objectives: Objectives, events: Iterable[Event]) -> tuple[Event, ...]:
    """The feasible events that no other one dominates, by falling quality in the first objective.

    They may come from several islands.
    """
    found = [(objectives.scores(event.result), event) for event in events if isinstance(event.result, Measurement)]
    rows = [(scores.minimised, event) for scores, event in found if scores.violation <= 0]
    if not rows:
        return ()
    best = compress(rows, pareto.ranks(np.array([row for row, _ in rows])) == 0)
    return tuple(event for _, event in sorted(best, key=_quality))


def _quality(scored: tuple[tuple[float, ...], Event]) -> tuple[float, str, int]:
    row, event = scored
    return row[0], event.candidate.island, event.candidate.number
