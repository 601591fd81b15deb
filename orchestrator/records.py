"""Every carrier between two stages of a study: frozen, plain, and free of any outside system.

    sampler -> Candidate -> pool -> Outcome -> journal (Event) -> tracker, report, resume

Results are keyed by the candidate's number, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from search_spaces.base import Genotype

LATENCY = "latency"
"""How the names of latency's metrics and of its stage begin."""

NEXT_WORKER = "; "
"""Between the workers of a measurement."""


@dataclass(frozen=True)
class Candidate:
    """An architecture that a sampler asked for, with its number in its island, counted from 0."""

    island: str
    number: int
    genotype: Genotype
    architecture_id: str


@dataclass(frozen=True)
class Hardware:
    """What an evaluator runs on."""

    kind: str
    """Model of the GPU, or of the CPU."""
    memory_bytes: int


class Source(StrEnum):
    """Where a candidate's accuracy comes from."""

    WORKER = "worker"
    """It was evaluated in this study."""
    MEMO = "memo"
    """It was evaluated before, under the same weights and protocol; see `orchestrator.memo`."""


@dataclass(frozen=True)
class Measurement:
    """The numbers of one candidate. Every metric is finite."""

    metrics: Mapping[str, float]
    """By name: miou, macs, params, latency_ms, and whatever else was measured, such as iou/Sky."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage, for people; never part of a score."""
    worker: str = ""
    """Where it was measured: device and worker, for people; first for the accuracy, then for each latency."""
    source: Source = Source.WORKER


class FailureKind(StrEnum):
    """Why a candidate has no measurement."""

    EVALUATION = "evaluation"
    """Its own evaluation raised: not retried."""
    NON_FINITE = "non_finite"
    """A metric is NaN or infinite: not retried, never ranked."""
    INFRASTRUCTURE = "infrastructure"
    """A worker died under it: nobody's verdict on the network, which is tried again."""
    POISON = "poison"
    """A worker died each time that it was tried, as often as the limit allows: nothing is known of the network."""


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
    """One line of an island's journal, in the order in which the sampler is told: the truth of a study."""

    candidate: Candidate
    result: Result
    attempts: int = 1
    """How often the candidate was started."""

    @property
    def status(self) -> str:
        return "measured" if isinstance(self.result, Measurement) else "failed"


def with_latency(accuracy: Measurement, timing: Result) -> Result:
    """One result out of a candidate's two measurements; a latency that failed fails the candidate."""
    if isinstance(timing, Failure):
        return timing
    metrics = {**accuracy.metrics, **timing.metrics}
    worker = NEXT_WORKER.join(filter(None, (accuracy.worker, timing.worker)))
    return replace(accuracy, metrics=metrics, timings_s={**accuracy.timings_s, **timing.timings_s}, worker=worker)


def without_latency(measurement: Measurement) -> Measurement:
    """What of a measurement is a pure function of weights, architecture and protocol: all but latency's metrics."""
    metrics, timings_s = (
        {name: value for name, value in values.items() if not name.startswith(LATENCY)}
        for values in (measurement.metrics, measurement.timings_s)
    )
    worker = measurement.worker.partition(NEXT_WORKER)[0]
    return replace(measurement, metrics=metrics, timings_s=timings_s, worker=worker)
