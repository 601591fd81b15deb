"""The few candidates of a front that a person looks at first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestrator.archive import front
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.report.words import LABELS
from orchestrator.selection import knee


def picks(objectives: Objectives, events: Mapping[str, Sequence[Event]]) -> Iterator[tuple[int, str]]:
    """Of each island's front the best by each objective, and the knee.

    events: by island. Yields a candidate's index among all islands' events, and in words what it is.
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
        reasons.setdefault(knee(F), []).append("knee")
    for column in range(1, len(objectives.each)):
        reasons.setdefault(int(F[:, column].argmin()), []).append(_most(objectives, column))
    yield from ((best[row], ", ".join(words)) for row, words in reasons.items())


def _most(objectives: Objectives, column: int) -> str:
    objective = objectives.each[column]
    label = LABELS.get(objective.name, objective.name).partition(" (")[0]
    return f"{'highest' if objective.maximised else 'lowest'} {label}"
