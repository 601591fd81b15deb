"""Evaluation on Ray: actors that score candidates, and one that times them while the others rest.

A candidate goes  queue -> worker -> (lane -> timer) -> outcome.  A worker gets batches of candidates of one island,
which it evaluates together; at most two batches are with a worker, so that it never waits for the driver. The second
one is a full batch or none, for what is together costs less; an idle worker takes what there is, and no more than
leaves every other idle one its share. The lane holds what is scored and not yet timed; when
`LatencySettings.block` candidates wait there, or the caller has nothing else to do, no accuracy work is handed out,
what runs is let finish, and the timer takes the candidates of the lane one after another. So nothing of ours runs while
a latency is measured.

A worker that dies gives back the batch that it was working on as `Failure(INFRASTRUCTURE)`; the one behind it had not
begun and goes to another worker. A fresh actor takes the dead one's place, until four in a row have died.

All of this happens inside `collect`: there are no threads.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from infra.ray_cluster import connect
from infra.ray_worker import DEATHS_IN_A_ROW, Slot, Workplace
from orchestrator.config import LatencySettings, WorkerSettings
from orchestrator.protocols import EvaluatorFactory, PoolExhausted
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Outcome, Result, with_latency

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches with a worker at a time: one that it works on and the next."""
START_TIMEOUT_S = 300.0
"""How long workers may take to start before a pool without any gives up."""


@dataclass(frozen=True)
class _Job:
    """A call that an actor has been given."""

    kind: Literal["ready", "score", "latency"]
    slot: Slot
    candidates: tuple[Candidate, ...] = ()
    accuracy: Measurement | None = None


class RayPool:
    """An `EvaluationPool` of Ray actors, on a Ray of its own or on the one at `address`.

    `weights` are put into Ray's object store once; every worker of a machine reads that one copy.

    Raises:
        ConnectionError: nothing answers at `address`.
    """

    def __init__(
        self,
        factory: EvaluatorFactory,
        weights: Mapping[str, np.ndarray],
        workers: WorkerSettings,
        latency: LatencySettings,
        address: str | None = None,
    ) -> None:
        size = sum(array.nbytes for array in weights.values())
        self._owns_ray = connect(address, workers.count * workers.threads, size)
        self._workplace = Workplace(factory, ray.put(dict(weights)), workers.threads)
        self._batch, self._block = workers.batch, latency.block
        self._queue: deque[Candidate] = deque()
        self._lane: deque[tuple[Candidate, Measurement]] = deque()
        self._jobs: dict[Any, _Job] = {}
        self._finished: list[Outcome] = []
        self._pausing = False
        self._slots = [Slot(f"worker-{number}", workers.threads) for number in range(workers.count)]
        self._timer = Slot("timer", 0) if latency.measure else None
        for slot in self._places():
            self._start(slot)

    @property
    def protocol_digest(self) -> str | None:
        known = {slot.protocol_digest for slot in self._slots} - {None}
        return known.pop() if len(known) == 1 else "" if known else None

    def free_slots(self) -> int:
        places = IN_FLIGHT * self._batch * sum(slot.alive for slot in self._slots)
        scoring = sum(len(job.candidates) for job in self._jobs.values() if job.kind == "score")
        return max(0, places - len(self._queue) - scoring)

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(candidates)

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._scored(candidate, accuracy)

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        deadline_s = time.monotonic() + timeout_s
        if not self._queue and not self._running("score"):
            self._pausing = bool(self._lane) or self._pausing  # the caller had its turn and gave nothing
        self._hand_out()
        waiting = len(self._lane)
        while not self._finished and len(self._lane) <= waiting:  # a longer lane: room for the caller's next
            self._check_alive()
            self._hand_out()
            if not self._jobs:
                break
            done, _ = ray.wait(list(self._jobs), timeout=max(0.0, deadline_s - time.monotonic()))
            if not done:
                break
            self._settle_done()
            waiting = min(waiting, len(self._lane))
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        for slot in self._places():
            slot.kill()
        self._jobs.clear()
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def _places(self) -> list[Slot]:
        return [*self._slots, self._timer] if self._timer else self._slots

    def _running(self, kind: str) -> int:
        return sum(job.kind == kind for job in self._jobs.values())

    def _hand_out(self) -> None:
        """Gives work to whoever may have it now."""
        self._pausing = self._pausing or len(self._lane) >= self._block
        if self._pausing and not self._lane and not self._running("latency"):
            self._pausing = False
        if self._pausing:
            if self._timer and self._timer.ready and not self._running("score") and not self._running("latency"):
                candidate, accuracy = self._lane.popleft()
                call = self._timer.actor.latency.remote(candidate)
                self._jobs[call] = _Job("latency", self._timer, (candidate,), accuracy)
            return
        load = {slot.name: 0 for slot in self._slots if slot.ready}
        for job in self._jobs.values():
            if job.kind == "score":
                load[job.slot.name] += 1
        while self._queue and load and min(load.values()) < IN_FLIGHT:
            slot = min((slot for slot in self._slots if slot.ready), key=lambda slot: load[slot.name])
            batch = self._next_batch(sum(of == 0 for of in load.values()))
            if not batch:
                return
            self._jobs[slot.actor.score.remote(batch)] = _Job("score", slot, tuple(batch))
            load[slot.name] += 1

    def _next_batch(self, idle: int) -> list[Candidate]:
        """The first candidates of one island in the queue, taken out; none where nobody is idle and no batch is full.

        For one of `idle` workers the island of the queue's head, at most an equal share; else the first island that
        fills a batch. Within an island they go in the order of their numbers: full batches save 7 to 11 % of the
        multiply-adds (40 HyCTAS networks by eights), sorting these by common steps would save only 1 to 3 % more.
        """
        waiting = Counter(candidate.island for candidate in self._queue)
        if idle:
            island, size = self._queue[0].island, min(self._batch, math.ceil(len(self._queue) / idle))
        else:
            full = [name for name, count in waiting.items() if count >= self._batch]
            if not full:
                return []
            island, size = full[0], self._batch
        batch = [candidate for candidate in self._queue if candidate.island == island][:size]
        taken = set(batch)
        self._queue = deque(candidate for candidate in self._queue if candidate not in taken)
        return batch

    def _settle_done(self) -> None:
        """Takes every call that is done, in the order in which they were made."""
        calls = list(self._jobs)
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        for call in [call for call in calls if call in set(done)]:
            if call in self._jobs:  # else it went with its worker, a moment ago
                self._settle(call)

    def _settle(self, call: Any) -> None:
        job = self._jobs[call]
        value: Any
        try:
            value = ray.get(call)
        except RayTaskError as error:  # the worker lives: what it was given or gave could not be carried
            failure = Failure(FailureKind.EVALUATION, _words(error), str(error))
            value = {"ready": (str(error), ""), "score": [failure] * len(job.candidates), "latency": failure}[job.kind]
        except RayError as error:
            self._bury(job.slot, _words(error))
            return
        if job.kind == "ready":
            broken, protocol_digest = value
            if broken:
                self._bury(job.slot, broken)
                return
            job.slot.ready, job.slot.protocol_digest = True, protocol_digest
        del self._jobs[call]
        if job.kind == "ready":
            return
        job.slot.deaths = 0
        if job.kind == "latency":
            assert job.accuracy is not None
            self._finish(job.candidates[0], with_latency(job.accuracy, value))
            return
        for candidate, result in zip(job.candidates, value, strict=True):
            self._scored(candidate, result)

    def _scored(self, candidate: Candidate, result: Result) -> None:
        if self._timer and isinstance(result, Measurement):
            self._lane.append((candidate, result))
        else:
            self._finish(candidate, result)

    def _bury(self, slot: Slot, cause: str) -> None:
        """Takes a dead worker's calls back and puts a fresh one in its place."""
        calls = [call for call, job in self._jobs.items() if job.slot is slot]
        batches = [batch for call in calls if (batch := self._jobs.pop(call).candidates)]
        for candidate in batches[0] if batches else ():
            message = f"{slot.name} died under it: {cause}"
            self._finish(candidate, Failure(FailureKind.INFRASTRUCTURE, message))
        for batch in reversed(batches[1:]):
            self._queue.extendleft(reversed(batch))
        slot.end(cause)
        log.warning("%s died (%d in a row): %s", slot.name, slot.deaths, cause)
        if slot.alive:
            self._start(slot)

    def _start(self, slot: Slot) -> None:
        self._jobs[slot.start(self._workplace)] = _Job("ready", slot)

    def _finish(self, candidate: Candidate, result: Result) -> None:
        self._finished.append(Outcome(candidate, result))

    def _check_alive(self) -> None:
        """Raises PoolExhausted when nothing that is here could ever be evaluated to the end."""
        for what, slots in (("worker", self._slots), ("latency worker", [self._timer] if self._timer else [])):
            if slots and not any(slot.alive for slot in slots):
                died = f"every {what} died {DEATHS_IN_A_ROW} times in a row"
                raise PoolExhausted(f"{died}, {slots[0].name} of: {slots[0].cause}")
            waited_s = time.monotonic() - max((slot.since_s for slot in slots), default=math.inf)
            if waited_s > START_TIMEOUT_S and not any(slot.ready for slot in slots):
                raise PoolExhausted(
                    f"no {what} has started in {waited_s:.0f} s: is there a machine with {slots[0].cpus} CPUs free?"
                )


def _words(error: Exception) -> str:
    """Ray's message on one line, without what it always says."""
    return " ".join(str(error).split())[:500]
