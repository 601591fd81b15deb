"""Every carrier between two stages of a study: frozen, plain, and free of any outside system.

    sampler -> Candidate -> pool -> Outcome -> journal (Event) -> tracker, report, resume

Results are keyed by the candidate's number, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from search_spaces.base import Genotype


@dataclass(frozen=True)
class Candidate:
    """An architecture that a sampler asked for, with its number in its island, counted from 0."""

    island: str
    number: int
    genotype: Genotype
    architecture_id: str


@dataclass(frozen=True)
class Measurement:
    """The numbers of one candidate. Every metric is finite."""

    metrics: Mapping[str, float]
    """By name: miou, macs, params, latency_ms, and whatever else was measured, such as iou/Sky."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage, for people; never part of a score."""
    worker: str = ""
    """Where it was measured: device and worker, for people."""


class FailureKind(StrEnum):
    """Why a candidate has no measurement."""

    EVALUATION = "evaluation"
    """Its own evaluation raised: not retried."""
    NON_FINITE = "non_finite"
    """A metric is NaN or infinite: not retried, never ranked."""
    INFRASTRUCTURE = "infrastructure"
    """Workers died under it more often than the limit allows: nobody's verdict on the network."""


@dataclass(frozen=True)
class Failure:
    """Why a candidate has no measurement: data, not an exception."""

    kind: FailureKind
    message: str
    traceback: str = ""


Result = Measurement | Failure


@dataclass(frozen=True)
class Outcome:
    """What came back from a pool for one candidate."""

    candidate: Candidate
    result: Result


@dataclass(frozen=True)
class Event:
    """One line of an island's journal, in the order of the candidates' numbers: the truth of a study."""

    candidate: Candidate
    result: Result
    attempts: int = 1
    """How often the candidate was given to a worker."""

    @property
    def status(self) -> str:
        return "measured" if isinstance(self.result, Measurement) else "failed"


def with_latency(accuracy: Measurement, timing: Result) -> Result:
    """One result out of a candidate's two measurements; a latency that failed fails the candidate."""
    if isinstance(timing, Failure):
        return timing
    metrics = {**accuracy.metrics, **timing.metrics}
    return replace(accuracy, metrics=metrics, timings_s={**accuracy.timings_s, **timing.timings_s})
