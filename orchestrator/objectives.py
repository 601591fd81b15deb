"""Metrics become objectives here, once: direction, unit, limits, reference point. Behind this door all is minimised.

What is not finite becomes a failure here, before any ranking sees it: sorting by dominance gives NaN the best rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator import pareto
from orchestrator.config import ObjectiveSettings
from orchestrator.records import Failure, FailureKind, Measurement, Result


class ObjectiveError(ValueError):
    """An objective that cannot be searched: a limit that nothing satisfies, a reference point without a box."""


@dataclass(frozen=True)
class Objective:
    """A metric as the search sees it."""

    name: str
    maximised: bool
    unit: str
    ideal: float
    """What no candidate can pass: 1 for a fraction that is maximised, 0 for a cost."""
    reference: float
    """The metric's coordinate of the hypervolume's reference point, in the metric's unit."""
    at_most: float | None = None
    at_least: float | None = None

    def minimised(self, value: float) -> float:
        """The metric with the sign that makes smaller better."""
        return -value if self.maximised else value

    def better(self, one: float, other: float) -> float:
        """The better one of two values."""
        return min(one, other, key=self.minimised)

    def violation(self, value: float) -> float:
        """How far the metric is beyond its limits, as a share of the limit; 0 within."""
        over = 0.0 if self.at_most is None else (value - self.at_most) / (abs(self.at_most) or 1.0)
        under = 0.0 if self.at_least is None else (self.at_least - value) / (abs(self.at_least) or 1.0)
        return max(over, under, 0.0)


OBJECTIVES = {
    "miou": Objective("miou", maximised=True, unit="fraction", ideal=1.0, reference=0.0),
    "accuracy": Objective("accuracy", maximised=True, unit="fraction", ideal=1.0, reference=0.0),
    "top5": Objective("top5", maximised=True, unit="fraction", ideal=1.0, reference=0.0),
    "latency_ms": Objective("latency_ms", maximised=False, unit="ms", ideal=0.0, reference=1e3),
    "macs": Objective("macs", maximised=False, unit="multiply-adds", ideal=0.0, reference=1e12),
    "params": Objective("params", maximised=False, unit="parameters", ideal=0.0, reference=1e9),
}
"""Defaults. A cost's reference point is its `at_most` where there is one; else it is so wide that every network is
inside, and a recipe had better state its own."""


@dataclass(frozen=True)
class Scores:
    """What a sampler is told of a measured candidate."""

    minimised: tuple[float, ...]
    """One value per objective, finite, smaller is better."""
    violation: float
    """How far the candidate is beyond the limits, summed as shares of them; 0: feasible."""


@dataclass(frozen=True)
class Objectives:
    """The objectives of a study, in the recipe's order."""

    each: tuple[Objective, ...]

    @classmethod
    def from_settings(cls, settings: Sequence[ObjectiveSettings]) -> Objectives:
        """The objectives that a recipe names.

        Raises:
            ObjectiveError: a limit that no candidate can satisfy, or a reference point at or beyond the ideal.
        """
        return cls(tuple(_objective(one) for one in settings))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(objective.name for objective in self.each)

    def admit(self, result: Result) -> Result:
        """The result, or the failure that it is: a metric that is not finite, or an objective without a metric."""
        if isinstance(result, Failure):
            return result
        wrong = {name: value for name, value in result.metrics.items() if not math.isfinite(value)}
        if wrong:
            return Failure(FailureKind.NON_FINITE, f"metrics must be finite, got {wrong}")
        missing = [name for name in self.names if name not in result.metrics]
        if missing:
            given = sorted(result.metrics)
            return Failure(FailureKind.EVALUATION, f"the evaluation gave no {', '.join(missing)}, only {given}")
        return result

    def scores(self, measurement: Measurement) -> Scores:
        """What a measurement, once admitted, is worth."""
        values = [(objective, measurement.metrics[objective.name]) for objective in self.each]
        return Scores(
            tuple(objective.minimised(value) for objective, value in values),
            sum(objective.violation(value) for objective, value in values),
        )

    def hypervolume(self, F: NDArray[np.float64]) -> float:
        """The share, 0 to 1, of the box between ideal and reference point that the rows of F dominate.

        F: (n_candidates, n_objectives), minimised.
        """
        if len(F) == 0:
            return 0.0
        ideal = np.array([one.minimised(one.ideal) for one in self.each])
        reference = np.array([one.minimised(one.reference) for one in self.each])
        return pareto.hypervolume((F - ideal) / (reference - ideal), [1.0] * len(self.each))


def _objective(settings: ObjectiveSettings) -> Objective:
    known, where = OBJECTIVES[settings.name.partition("@")[0]], f"objectives.{settings.name}"
    reference = settings.reference
    if reference is None:
        reference = known.reference if known.maximised or settings.at_most is None else settings.at_most
    most, least = settings.at_most, settings.at_least
    objective = replace(known, name=settings.name, reference=reference, at_most=most, at_least=least)
    if known.maximised:
        if least is not None and least > 1:
            raise ObjectiveError(f"{where}.at_least must be <= 1, got {least}: no candidate is better than 1")
        if most is not None and most < 0:
            raise ObjectiveError(f"{where}.at_most must be >= 0, got {most}: no candidate is worse than 0")
        if reference >= 1:
            raise ObjectiveError(f"{where}.reference must be < 1, got {reference}: it is the worst that still counts")
    else:
        if most is not None and most <= 0:
            raise ObjectiveError(f"{where}.at_most must be > 0, got {most}: every candidate costs something")
        if reference <= 0:
            raise ObjectiveError(f"{where}.reference must be > 0, got {reference}: it is the worst that still counts")
    if most is not None and least is not None and least > most:
        raise ObjectiveError(f"{where}: at_least {least} is above at_most {most}: no candidate is between them")
    return objective
