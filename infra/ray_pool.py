"""Evaluation on Ray: actors that score candidates, and lanes in which they are timed where nothing else runs.

A candidate goes  queue -> worker -> (lane -> its timer, for each lane) -> outcome.  A worker gets batches of candidates
of one island, which it evaluates together: as many as there are, but no more than leaves every other idle worker its
share. A worker whose batches are done in a moment gets a second one in advance, so that it never waits for the driver;
that one is a full batch or none, for what is together costs less. How the lanes get their machines to themselves: see
`infra.ray_lane`.

Whatever dies, no candidate is lost and none is blamed for another's fault. A worker that dies, or that has not answered
by its deadline, is replaced. Of the batch that it was working on, which one killed it is not known: they are all tried
again, each alone. Only a candidate with which a worker died alone is given back as `Failure(INFRASTRUCTURE)`, and the
scheduler counts how often. The batch behind had not begun and goes to another worker. A place whose workers have died
four times in a row is given up; neither a lost node nor a candidate that had killed before counts against the place.

Every few seconds the pool looks at the cluster: a node that drains or is gone gets nothing new, and its workers move
when they have finished what they have; where there is room for more workers, more are started.

All of this happens inside `collect`: there are no threads.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from infra.ray_cluster import connect, usable_nodes
from infra.ray_lane import Lane
from infra.ray_worker import DEATHS_IN_A_ROW, VERSIONS, Demand, Report, Slot, Workplace, mismatch, versions
from orchestrator.canary import Canary
from orchestrator.config import LatencySettings, WorkerSettings
from orchestrator.protocols import EvaluatorFactory, PoolExhausted
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Outcome, Result, with_latency

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Batches that there may be for each worker: one that it works on and the next."""
AHEAD_S = 0.5
"""A worker that takes longer for a batch gets the next one when it is done: the driver is not noticed then, and a batch
that waits behind one worker fills the window, but cannot go to another one that is free sooner."""
START_TIMEOUT_S = 300.0
"""How long workers may take to start before a pool without any gives up."""
LOOK_S = 2.0
"""Seconds between two looks at the cluster's nodes and the workers' deadlines."""
NODE_DIED = "its node has died"
"""What Ray says of an actor that went with its node, or was to start on one that had gone unnoticed."""
LEAST_DEADLINE_S, LONGEST_ANSWERS = 600.0, 10
"""Without `WorkerSettings.deadline_s`: the least deadline, and as a multiple of the longest answer so far."""


@dataclass(frozen=True)
class _Job:
    """A call that an actor has been given."""

    kind: Literal["report", "canary", "score", "latency"]
    slot: Slot
    candidates: tuple[Candidate, ...] = ()
    accuracy: Measurement | None = None


class RayPool:
    """An `EvaluationPool` of Ray actors, on a Ray of its own or on the one at `address`.

    `weights` are put into Ray's object store once; every worker of a machine reads that one copy. A worker joins when
    it has shown that it has the same code, libraries and weights as this process, and has scored the `canary` right.

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
        canary: Canary | None = None,
    ) -> None:
        size = sum(array.nbytes for array in weights.values())
        cpus = len(os.sched_getaffinity(0)) if workers.count is None else workers.count * workers.threads
        self._owns_ray = connect(address, cpus, size)
        self._workplace = Workplace(factory, ray.put(dict(weights)), workers.threads)
        self._versions, self._canary = versions(weights), canary
        self._settings, self._batch = workers, workers.batch
        self._queue: deque[Candidate] = deque()
        self._alone: set[Candidate] = set()
        self._killers: set[Candidate] = set()
        self._jobs: dict[Any, _Job] = {}
        self._finished: list[Outcome] = []
        self._longest_s = {"score": 0.0, "latency": 0.0}
        self._looked_s = -math.inf
        self._demand = Demand(workers.threads, workers.gpus_per_worker)
        self._numbers = count()
        self._slots: list[Slot] = []
        self._lanes = [Lane.of(name, lane, latency) for name, lane in latency.lanes.items()] if latency.measure else []
        for lane in self._lanes:
            self._start(lane.slot)
        self._staff(workers.count or 1)
        self._look_around()

    @property
    def protocol_digest(self) -> str | None:
        known = {slot.protocol_digest for slot in self._slots} - {None}
        return known.pop() if len(known) == 1 else "" if known else None

    def free_slots(self) -> int:
        open_slots = sum(slot.open for slot in self._slots) or sum(slot.alive for slot in self._slots)
        scoring = sum(len(job.candidates) for job in self._jobs.values() if job.kind == "score")
        return max(0, IN_FLIGHT * self._batch * open_slots - len(self._queue) - scoring)

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(candidates)

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._pass_on(candidate, accuracy, self._lanes)

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        deadline_s = time.monotonic() + timeout_s
        for lane in self._lanes:
            if not self._queue and not any(slot.in_flight for slot in lane.sharers(self._slots)):
                lane.pausing = bool(lane.waiting) or lane.pausing  # the caller had its turn and gave nothing
        self._hand_out()
        waiting = self._waiting_to_be_timed()  # when there are more, there is room for the caller's next
        while not self._finished and self._waiting_to_be_timed() <= waiting:
            self._look_around()
            self._check_alive()
            self._hand_out()
            if not self._jobs:
                break
            left_s = max(0.0, deadline_s - time.monotonic())
            done, _ = ray.wait(list(self._jobs), timeout=min(left_s, LOOK_S))
            if not done and left_s <= LOOK_S:
                break
            self._settle_done()
            waiting = min(waiting, self._waiting_to_be_timed())
        self._hand_out()  # whoever is free now need not wait for what the caller does with the outcomes
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
        return [*self._slots, *(lane.slot for lane in self._lanes)]

    def _waiting_to_be_timed(self) -> int:
        return len(self._lanes[0].waiting) if self._lanes else 0

    def _hand_out(self) -> None:
        """Gives work to whoever may have it now."""
        resting: set[str] = set()
        for lane in self._lanes:
            sharers, idle = lane.sharers(self._slots), not lane.slot.in_flight
            lane.pausing = (lane.pausing or len(lane.waiting) >= lane.block) and not (idle and not lane.waiting)
            if lane.pausing:
                resting.update(slot.name for slot in sharers)
            quiet = not sharers or (lane.pausing and not any(slot.in_flight for slot in sharers))
            if lane.waiting and lane.slot.open and idle and quiet:
                candidate, accuracy = lane.waiting.popleft()
                call = lane.slot.actor.latency.remote(candidate)
                self._give(call, _Job("latency", lane.slot, (candidate,), accuracy))
        able = [slot for slot in self._slots if slot.open and slot.name not in resting]
        while self._queue:
            free = [slot for slot in able if slot.in_flight < (IN_FLIGHT if slot.took_s < AHEAD_S else 1)]
            batch = self._next_batch(sum(slot.in_flight == 0 for slot in able)) if free else []
            if not batch:
                return
            slot = min(free, key=lambda slot: slot.in_flight)
            self._give(slot.actor.score.remote(batch), _Job("score", slot, tuple(batch)))

    def _give(self, call: Any, job: _Job) -> None:
        if job.slot.in_flight == 0:
            job.slot.busy_since_s = time.monotonic()
        job.slot.in_flight += 1
        self._jobs[call] = job

    def _next_batch(self, idle: int) -> list[Candidate]:
        """The first candidates of one island in the queue, taken out; none where nobody is idle and no batch is full.

        For one of `idle` workers the island of the queue's head, at most an equal share; else the first island that
        fills a batch. Within an island they go in the order of their numbers: full batches save 7 to 11 % of the
        multiply-adds (40 HyCTAS networks by eights), sorting these by common steps would save only 1 to 3 % more.
        A candidate that must be alone goes to an idle worker.
        """
        sociable = [candidate for candidate in self._queue if candidate not in self._alone]
        if idle and self._queue[0] in self._alone:
            return [self._queue.popleft()]
        if idle:
            island, size = self._queue[0].island, min(self._batch, math.ceil(len(self._queue) / idle))
        else:
            waiting = Counter(candidate.island for candidate in sociable)
            full = [name for name, number in waiting.items() if number >= self._batch]
            if not full:
                return []
            island, size = full[0], self._batch
        batch = [candidate for candidate in sociable if candidate.island == island][:size]
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
            spoiled = {"report": Report(str(error)), "canary": [failure], "latency": failure}
            value = spoiled.get(job.kind, [failure] * len(job.candidates))
        except RayError as error:
            self._bury(job.slot, _words(error))
            return
        if job.kind == "report":
            self._receive(call, job.slot, value)
            return
        if job.kind == "canary":
            self._admit(call, job.slot, value[0])
            return
        del self._jobs[call]
        job.slot.in_flight -= 1
        now_s = time.monotonic()
        job.slot.took_s = now_s - job.slot.busy_since_s
        self._longest_s[job.kind] = max(self._longest_s[job.kind], job.slot.took_s)
        job.slot.busy_since_s, job.slot.deaths = now_s, 0
        if job.kind == "latency":
            assert job.accuracy is not None
            done = next(number for number, lane in enumerate(self._lanes) if lane.slot is job.slot)
            result = with_latency(job.accuracy, self._lanes[done].named(value))
            self._pass_on(job.candidates[0], result, self._lanes[done + 1 :])
            return
        for candidate, result in zip(job.candidates, value, strict=True):
            self._alone.discard(candidate)
            self._pass_on(candidate, result, self._lanes)

    def _receive(self, call: Any, slot: Slot, report: Report) -> None:
        """Looks at how a fresh worker began; one that could evaluate candidates is shown the canary first."""
        scores = slot in self._slots
        names = VERSIONS if scores else ("code", "weights")
        wrong = report.broken or mismatch(self._versions, report.versions, names)
        if wrong:
            self._bury(slot, wrong)
            return
        del self._jobs[call]
        slot.report = report
        if scores and self._canary:
            self._give(slot.actor.score.remote([self._canary.candidate]), _Job("canary", slot))
        else:
            self._join(slot, report)

    def _admit(self, call: Any, slot: Slot, canary: Result) -> None:
        """Lets a worker join whose canary lives."""
        assert self._canary is not None, "a worker was shown a canary"
        assert slot.report is not None, "a worker is shown the canary when it has reported"
        report = slot.report
        device = report.hardware.kind if report.hardware else "an unknown device"
        refusal = self._canary.refusal(canary, report.protocol_digest, device)
        if refusal:
            self._bury(slot, refusal)
            return
        del self._jobs[call]
        slot.in_flight -= 1
        self._join(slot, report)

    def _join(self, slot: Slot, report: Report) -> None:
        slot.ready, slot.protocol_digest = True, report.protocol_digest
        log.info("%s joins on %s, with %s", slot.name, report.hardware, dict(report.versions))

    def _pass_on(self, candidate: Candidate, result: Result, lanes: Sequence[Lane]) -> None:
        """Puts what is measured so far into the first of the lanes that are left."""
        if lanes and isinstance(result, Measurement):
            lanes[0].waiting.append((candidate, result))
        else:
            self._finished.append(Outcome(candidate, result))

    def _bury(self, slot: Slot, cause: str) -> None:
        """Takes a dead worker's calls back and puts a fresh one in its place."""
        calls = [call for call, job in self._jobs.items() if job.slot is slot]
        batches = [batch for call in calls if (batch := self._jobs.pop(call).candidates)]
        suspects, untouched = (batches[0], batches[1:]) if batches else ((), [])
        for batch in reversed(untouched):
            self._queue.extendleft(reversed(batch))
        counts = NODE_DIED not in cause
        if len(suspects) == 1:
            counts = counts and suspects[0] not in self._killers
            self._killers.add(suspects[0])
            message = f"{slot.name} died under it: {cause}"
            self._pass_on(suspects[0], Failure(FailureKind.INFRASTRUCTURE, message), ())
        self._alone.update(suspects)
        if len(suspects) > 1:
            self._queue.extendleft(reversed(suspects))
        slot.end(cause, counts=counts)
        log.warning("%s died (%d in a row): %s", slot.name, slot.deaths, cause)
        if slot.alive:
            self._start(slot)

    def _start(self, slot: Slot) -> None:
        self._jobs[slot.start(self._workplace)] = _Job("report", slot)

    def _staff(self, places: int) -> None:
        """Makes as many places as there should be, and gives up those for which there is no room any more."""
        missing = places - len(self._slots)
        for _ in range(missing):
            slot = Slot(f"worker-{next(self._numbers)}", self._demand)
            self._slots.append(slot)
            self._start(slot)
        for slot in [slot for slot in self._slots if slot.alive and not slot.ready][:-missing] if missing < 0 else ():
            self._vacate(slot)
            self._slots.remove(slot)

    def _vacate(self, slot: Slot) -> None:
        """Ends an actor that has no work."""
        self._jobs = {call: job for call, job in self._jobs.items() if job.slot is not slot}
        slot.kill()

    def _look_around(self) -> None:
        """Now and then: ends what is stuck, follows the cluster as it grows, shrinks and drains."""
        now_s = time.monotonic()
        if now_s < self._looked_s + LOOK_S:
            return
        self._looked_s = now_s
        for slot in {job.slot.name: job.slot for job in self._jobs.values() if job.kind != "report"}.values():
            allowed_s = self._deadline_s("latency" if slot not in self._slots else "score")
            if now_s > slot.busy_since_s + allowed_s:
                self._bury(slot, f"it was stuck: no answer in {allowed_s:g} s, see workers.deadline_s")
        nodes = usable_nodes()
        for slot in self._places():
            slot.leaving = slot.ready and slot.node not in nodes
            if slot.leaving and not slot.in_flight:
                self._vacate(slot)
                self._start(slot)
        if self._settings.count is None:
            self._staff(max(1, sum(self._demand.fits(resources) for resources in nodes.values())))

    def _deadline_s(self, kind: str) -> float:
        return self._settings.deadline_s or max(LEAST_DEADLINE_S, LONGEST_ANSWERS * self._longest_s[kind])

    def _check_alive(self) -> None:
        """Raises PoolExhausted when nothing that is here could ever be evaluated to the end."""
        for what, slots in (("worker", self._slots), *(("latency worker", [lane.slot]) for lane in self._lanes)):
            if not any(slot.alive for slot in slots):
                died = f"every {what} died {DEATHS_IN_A_ROW} times in a row"
                raise PoolExhausted(f"{died}, {slots[0].name} of: {slots[0].cause}")
            waited_s = time.monotonic() - max(slot.since_s for slot in slots)
            if waited_s > START_TIMEOUT_S and not any(slot.report for slot in slots):
                demand = slots[0].demand
                raise PoolExhausted(f"no {what} has started in {waited_s:.0f} s: is there a node with {demand} free?")


def _words(error: Exception) -> str:
    """Ray's message on one line, without what it always says."""
    return " ".join(str(error).split())[:500]
