"""The few candidates of a front that a person looks at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.archive import front
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.report.words import LABELS


def picks(objectives: Objectives, events: Mapping[str, Sequence[Event]]) -> Iterator[tuple[int, str]]:
    """Of each island's front the best by each objective, and between them the one nearest to the best of all.

    events: by island. Yields a candidate's index among all islands' events, and in words what it is best at.
    """
    first = 0
    for of in events.values():
        places = {event.candidate.number: first + place for place, event in enumerate(of)}
        yield from ((places[event.candidate.number], why) for event, why in _of_island(objectives, of))
        first += len(of)


def _of_island(objectives: Objectives, events: Sequence[Event]) -> Iterator[tuple[Event, str]]:
    best = front(objectives, events)
    if not best:
        return
    F = np.array([objectives.scores(event.result).minimised for event in best if isinstance(event.result, Measurement)])
    reasons: dict[int, list[str]] = {int(F[:, 0].argmin()): [_most(objectives, 0)]}
    if len(objectives.each) > 1:
        reasons.setdefault(_nearest(F), []).append("balanced")
    for column in range(1, len(objectives.each)):
        reasons.setdefault(int(F[:, column].argmin()), []).append(_most(objectives, column))
    yield from ((best[row], ", ".join(words)) for row, words in reasons.items())


def _most(objectives: Objectives, column: int) -> str:
    objective = objectives.each[column]
    label = LABELS.get(objective.name, objective.name).partition(" (")[0]
    return f"{'highest' if objective.maximised else 'lowest'} {label}"


def _nearest(F: NDArray[np.float64]) -> int:
    """The row nearest to the best of every column, each column counted from 0 at its best to 1 at its worst.

    F: (n_candidates, n_objectives), minimised.
    """
    low, span = F.min(axis=0), np.ptp(F, axis=0)
    return int(np.linalg.norm((F - low) / np.where(span > 0, span, 1.0), axis=1).argmin())
