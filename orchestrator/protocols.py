"""What the search needs from the outside world; `infra` implements it, tests use the in-memory twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np

from orchestrator.records import Candidate, Event, Hardware, Measurement, Outcome, Result


class CandidateEvaluator(Protocol):
    """What a worker runs: a pure function of weights, evaluation protocol and architecture."""

    @property
    def protocol_digest(self) -> str:
        """Names the evaluation protocol: all that a score depends on besides weights and architecture.

        Where it is equal, scores are equal to the bit; empty: nobody knows what they depend on.
        """

    @property
    def hardware(self) -> Hardware:
        """What it runs on."""

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        """Accuracy, multiply-adds and params of each candidate, in order; an exception inside is a `Failure`."""

    def latency(self, candidate: Candidate) -> Result:
        """Latency metrics (latency_ms, latency_iqr_ms, ...) measured here and now; wants the device to itself."""


class EvaluatorFactory(Protocol):
    """Builds a worker's evaluator where the worker lives. Picklable and small: weights travel beside it."""

    def __call__(self, weights: Mapping[str, np.ndarray]) -> CandidateEvaluator:
        """The evaluator over these weights, which are read-only and may be shared by all workers of a node."""


class EvaluationPool(Protocol):
    """Workers that score candidates. Results come back in any order, each candidate exactly once per submit."""

    @property
    def protocol_digest(self) -> str | None:
        """What the workers' evaluators call their protocol; None: none of them is ready; empty: they don't agree."""

    def free_slots(self) -> int:
        """How many more candidates may be submitted now without piling up behind the workers."""

    def submit(self, candidates: Sequence[Candidate]) -> None:
        """Starts the evaluation of the candidates and returns at once."""

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        """As `submit`, where the accuracy is known: only latency is measured, if this pool measures it."""

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        """What has finished since the last call; waits up to `timeout_s` for the first.

        A candidate under which a worker died, with no other candidate at hand, comes back as
        `Failure(INFRASTRUCTURE)`, which the scheduler may submit again.

        Raises:
            PoolExhausted: no worker is left and none will come.
        """

    def close(self) -> None:
        """Ends the workers that this pool started. May be called twice."""


class PoolExhausted(RuntimeError):
    """No worker is left that could evaluate anything."""


class Store(Protocol):
    """Where a study lives: named objects of bytes under one root. Keys pass `check_key`. Safe to share by threads."""

    def create(self, key: str, data: bytes) -> None:
        """Writes a new object, all or nothing, durable when this returns.

        Raises:
            ObjectExists: there is one already.
        """

    def create_from(self, key: str, file: Path) -> None:
        """As `create`, with what is in a file, which is never in memory as a whole."""

    def read(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: there is none.
        """

    def fetch(self, key: str) -> AbstractContextManager[Path]:
        """A file that holds the object for as long as the block runs, and is only to be read; what has been mapped
        from it stays.

        Raises:
            ObjectMissing: there is none.
        """

    def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
        """Writes the object if it still holds `expected` (None: if there is none).

        Raises:
            ObjectChanged: it holds something else: somebody else writes here.
        """

    def delete(self, key: str) -> None:
        """Forgets an object; one that is not there is forgotten already."""

    def list(self, prefix: str) -> Sequence[str]:
        """The keys that start with `prefix`, sorted. For people and repair: never to find the newest."""


def check_key(key: str) -> None:
    """Refuses what could lead out of a store's root, or is the store's own.

    Raises:
        StoreError: it is no key.
    """
    if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in key.split("/")):
        raise StoreError(f"{key!r} is no key: parts between '/' must not be empty or start with '.'")


class StoreError(RuntimeError):
    """A store cannot do what was asked; the message says which object and why."""


class ObjectExists(StoreError):
    """`create` found an object under that key."""


class ObjectMissing(StoreError):
    """`read` found nothing under that key."""


class ObjectChanged(StoreError):
    """`replace` found something else than it expected."""


class Clock(Protocol):
    """Time, for what must wait and be dated."""

    def monotonic_s(self) -> float:
        """Seconds from some origin, which nobody can set back."""

    def now(self) -> str:
        """Date and time in UTC, for people."""

    def sleep(self, duration_s: float) -> None:
        """Waits."""


class Tracker(Protocol):
    """Where people compare studies. A projection of the journal: never slows, stops or changes a search."""

    @property
    def complete(self) -> bool:
        """After `finish`: whether everything that it took has been written."""

    def start(self, study: str, parameters: Mapping[str, str]) -> None:
        """Opens the study's runs, or finds those of an earlier session."""

    def record(self, event: Event, description: Mapping[str, str], on_front: bool) -> None:
        """Takes one journal event; `description` are the candidate's parameters in words. Returns at once.

        Taking an event again changes nothing but whether its candidate is on the front.
        """

    def progress(self, island: str, evaluated: int, metrics: Mapping[str, float]) -> None:
        """Takes an island's running figures (hypervolume, best so far) after `evaluated` candidates."""

    def attach(self, name: str, data: bytes) -> None:
        """Takes a file that belongs to the study, such as a picture; the last one of a name counts."""

    def finish(self, status: str) -> None:
        """Writes what is waiting, marks the runs as `status` ('FINISHED', 'FAILED', 'KILLED') and lets go."""
