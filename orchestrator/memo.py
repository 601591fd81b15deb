"""The memo: a candidate that was evaluated before, under the same weights and protocol, is not evaluated again.

    <root>/evaluations/<weights digest>/<protocol digest>/<architecture id>.json

A score is a pure function of these three, so every study of a store may use what any of them has measured, and the
journal of a study is the same with and without, but for `Measurement.source`. Kept is what is pure and finite:
accuracy, multiply-adds, params. Latency is a measurement of a moment and a machine: it is never kept, and a study
that measures it times every candidate itself. Failures are not kept either.

`MemoPool` stands between the search and its pool. What comes back from a worker is kept at once, before it is its
turn to be journalled: so a driver that dies loses no evaluation that had come back. Nothing that goes wrong here stops
a study, and nothing that is slow delays it: threads write, one listing at the start says what there is to read, and
after the first error of the store the memo is left alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from orchestrator.protocols import EvaluationPool, ObjectChanged, ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.records import Candidate, Measurement, Outcome, Source, without_latency
from orchestrator.sealed import seal, unseal

log = logging.getLogger(__name__)

NO_WEIGHTS = "none"
"""Stands for the weights' digest in a space without networks."""
WRITERS = 4
"""Threads that write, each of which mostly waits for the store."""
START_POLL_S = 0.1
"""How soon it is seen that the first worker is ready, and so which protocol applies."""


class Memo:
    """What is known under one set of weights and one protocol. Raises nothing: what cannot be read is not known."""

    def __init__(self, store: Store, weights_digest: str, protocol_digest: str) -> None:
        self.protocol_digest = protocol_digest
        self._store = store
        self._names = {"weights": weights_digest, "protocol": protocol_digest}
        self._prefix = f"evaluations/{weights_digest}/{protocol_digest}/"
        self._damaged: dict[str, bytes] = {}
        self._warned = False
        self._broken = False
        self._writers = ThreadPoolExecutor(WRITERS, "memo-writer")
        self._held: set[str] = set()
        try:
            self._held.update(store.list(self._prefix))
        except StoreError as error:
            self._give_up(error)

    def find(self, candidate: Candidate) -> Measurement | None:
        """The candidate's accuracy, with the memo as its source; None: it is not known."""
        key = self._key(candidate)
        if self._broken or key not in self._held:
            return None
        try:
            data = self._store.read(key)
        except ObjectMissing:
            return None
        except StoreError as error:
            self._give_up(error)
            return None
        try:
            return _measurement(data, {**self._names, "architecture": candidate.architecture_id})
        except ValueError as error:
            self._warn(f"{key} is {error}: its candidate is evaluated again, and so is any other of which this is true")
            self._held.discard(key)
            self._damaged[key] = data
            return None

    def keep(self, candidate: Candidate, measurement: Measurement) -> None:
        """Writes what is pure of a worker's measurement, if all of it is finite; returns at once."""
        accuracy, key = without_latency(measurement), self._key(candidate)
        if self._broken or key in self._held or not all(map(math.isfinite, accuracy.metrics.values())):
            return
        self._held.add(key)
        data = _object(accuracy, {**self._names, "architecture": candidate.architecture_id})
        self._writers.submit(self._write, key, data, self._damaged.pop(key, None))

    def close(self) -> None:
        """Waits until everything is written."""
        self._writers.shutdown()

    def _key(self, candidate: Candidate) -> str:
        return f"{self._prefix}{candidate.architecture_id}.json"

    def _write(self, key: str, data: bytes, damaged: bytes | None) -> None:
        if self._broken:
            return
        try:
            with suppress(ObjectExists, ObjectChanged):  # another study was faster, with the same numbers
                if damaged is None:
                    self._store.create(key, data)
                else:
                    self._store.replace(key, data, damaged)
        except StoreError as error:
            self._give_up(error)

    def _give_up(self, error: StoreError) -> None:
        self._broken = True
        self._warn(f"{error}; from here on the study neither uses nor keeps evaluations in the store")

    def _warn(self, words: str) -> None:
        log.log(logging.DEBUG if self._warned else logging.WARNING, "%s", words)
        self._warned = True


class MemoPool:
    """An `EvaluationPool` over another one, which gets only what the memo does not know.

    The memo waits for the first worker to say which protocol it follows; until then nothing is evaluated anyway.
    Where workers follow different ones, or don't know theirs, nothing is looked up and nothing is kept.
    """

    def __init__(self, pool: EvaluationPool, store: Store, weights_digest: str | None) -> None:
        self._pool, self._store, self._weights_digest = pool, store, weights_digest or NO_WEIGHTS
        self._waiting: list[Candidate] = []
        self._memo: Memo | None = None

    @property
    def protocol_digest(self) -> str | None:
        return self._pool.protocol_digest

    def free_slots(self) -> int:
        return max(0, self._pool.free_slots() - len(self._waiting))

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._waiting.extend(candidates)
        self._pass_on()

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._pool.submit_scored(candidate, accuracy)

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        self._pass_on()
        outcomes = self._pool.collect(min(timeout_s, START_POLL_S) if self._waiting else timeout_s)
        memo = self._applicable()
        for outcome in outcomes:
            if memo and isinstance(outcome.result, Measurement) and outcome.result.source is Source.WORKER:
                memo.keep(outcome.candidate, outcome.result)
        return outcomes

    def close(self) -> None:
        self._waiting.clear()
        self._pool.close()
        if self._memo:
            self._memo.close()

    def _pass_on(self) -> None:
        """Looks the waiting candidates up, and gives those that are not known to the workers, as one batch."""
        if not self._waiting or self._pool.protocol_digest is None:
            return
        memo, fresh = self._applicable(), []
        for candidate in self._waiting:
            known = memo.find(candidate) if memo else None
            if known is None:
                fresh.append(candidate)
            else:
                self._pool.submit_scored(candidate, known)
        self._waiting.clear()
        if fresh:
            self._pool.submit(fresh)

    def _applicable(self) -> Memo | None:
        """The memo of the protocol that all workers follow; None: there is no such protocol."""
        protocol = self._pool.protocol_digest
        if self._memo is None and protocol:
            self._memo = Memo(self._store, self._weights_digest, protocol)
        return self._memo if self._memo and self._memo.protocol_digest == protocol else None


def _object(accuracy: Measurement, names: Mapping[str, str]) -> bytes:
    body = {
        **names,
        "metrics": dict(accuracy.metrics),
        "timings_s": dict(accuracy.timings_s),
        "worker": accuracy.worker,
    }
    return seal(body)


def _measurement(data: bytes, names: Mapping[str, str]) -> Measurement:
    """The measurement in an object that must bear these names.

    Raises:
        ValueError: it is damaged, or no object of the memo, or another candidate's.
    """
    try:
        body = unseal(data)
        wrong = {name: body[name] for name in names if body[name] != names[name]}
        if wrong:
            raise ValueError(f"another candidate's: {wrong}")
        return Measurement(body["metrics"], body["timings_s"], body["worker"], Source.MEMO)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("no evaluation") from None
