"""Which candidates of a study to go on with: the best, the knee, a number of them evenly spread over a front."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.archive import front
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement

MERGED = "all islands"
"""The name of the front over every island's candidates."""
LIMIT = re.compile(r"\s*([a-z_]+(?:@[a-z0-9._-]+)?)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Limit:
    """What a selected candidate must keep."""

    metric: str
    bound: float
    is_upper: bool

    @classmethod
    def parse(cls, text: str) -> Limit:
        """The limit in words such as `latency_ms<=8`.

        Raises:
            ValueError: it is none.
        """
        found = LIMIT.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            return cls(found[1], float(found[3]), found[2] == "<=")
        except ValueError:
            raise ValueError(
                f"a limit is METRIC<=NUMBER or METRIC>=NUMBER, such as latency_ms<=8, got {text!r}"
            ) from None

    def holds(self, metrics: Mapping[str, float]) -> bool:
        value = metrics[self.metric]
        return value <= self.bound if self.is_upper else value >= self.bound


@dataclass(frozen=True)
class Selected:
    """A candidate and what it was selected for."""

    event: Event
    front: str
    """The island on whose front it is, or `MERGED`."""
    roles: tuple[str, ...]
    """best, knee, spread."""


def select(
    objectives: Objectives, events: Mapping[str, Sequence[Event]], limits: Sequence[Limit] = (), spread: int = 0
) -> list[Selected]:
    """Of each island's front, and of the merged one, the best in the first objective, the knee, and `spread` more.

    events: by island. Candidates beyond a limit do not count.

    Raises:
        ValueError: a limit is on something that was not measured.
    """
    kept = {island: _within(found, limits) for island, found in events.items()}
    if len(kept) > 1:
        kept[MERGED] = [event for found in kept.values() for event in found]
    return [one for name, found in kept.items() for one in _select(objectives, name, found, spread)]


def _within(events: Sequence[Event], limits: Sequence[Limit]) -> list[Event]:
    measured = [event for event in events if isinstance(event.result, Measurement)]
    for event in measured:
        assert isinstance(event.result, Measurement)
        for limit in limits:
            if limit.metric not in event.result.metrics:
                names = ", ".join(sorted(name for name in event.result.metrics if "/" not in name))
                raise ValueError(f"a limit must be on a metric of the study ({names}), got {limit.metric}")
    return [event for event in measured if all(limit.holds(_metrics(event)) for limit in limits)]


def _select(objectives: Objectives, name: str, events: Sequence[Event], spread: int) -> list[Selected]:
    best = front(objectives, events)
    if not best:
        return []
    F = np.array([objectives.scores(_measurement(event)).minimised for event in best])
    roles: dict[int, list[str]] = {}
    for role, places in (("best", [0]), ("knee", [knee(F)]), ("spread", evenly_spread(F, spread))):
        for place in places:
            roles.setdefault(int(place), []).append(role)
    return [Selected(best[place], name, tuple(found)) for place, found in sorted(roles.items())]


def knee(F: NDArray[np.float64]) -> int:
    """The row of a front that is farthest, towards the ideal, from the plane through the best of each objective.

    F: (n, m), minimised, no row dominates another. With normalised objectives that is the row with the smallest sum.
    Source: Das, On characterizing the "knee" of the Pareto curve, Structural Optimization 1999.
    """
    return int(normalised(F).sum(axis=1).argmin())


def evenly_spread(F: NDArray[np.float64], count: int) -> list[int]:
    """`count` rows of a front (or all), each as far from those before it as possible; the first is the first row's.

    F: (n, m), minimised.
    """
    points = normalised(F)
    chosen: list[int] = []
    distances = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
        distances[chosen] = -1
    return chosen


def normalised(F: NDArray[np.float64]) -> NDArray[np.float64]:
    """F with each column from 0, its best, to 1, its worst; 0 where all are equal."""
    low, high = F.min(axis=0), F.max(axis=0)
    scale: NDArray[np.float64] = np.where(high > low, high - low, 1.0)
    shares: NDArray[np.float64] = (F - low) / scale
    return shares


def _measurement(event: Event) -> Measurement:
    assert isinstance(event.result, Measurement)
    return event.result


def _metrics(event: Event) -> Mapping[str, float]:
    return _measurement(event).metrics
