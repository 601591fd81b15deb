"""An evaluation pool in this process: one candidate after another, in order, under a debugger if you like."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Sequence

from orchestrator.protocols import CandidateEvaluator
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Outcome, Result, with_latency


class InProcessPool:
    """Evaluates in `collect`, a candidate a call: the accuracy, then, alone on the machine anyway, the latency."""

    def __init__(self, evaluator: CandidateEvaluator, *, measure_latency: bool = True, slots: int = 2) -> None:
        """`slots`: how many candidates may wait here."""
        self._evaluator, self._measure_latency, self._slots = evaluator, measure_latency, slots
        self._queue: deque[tuple[Candidate, Measurement | None]] = deque()

    @property
    def protocol_digest(self) -> str:
        return self._evaluator.protocol_digest

    def free_slots(self) -> int:
        return max(0, self._slots - len(self._queue))

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend((candidate, None) for candidate in candidates)

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._queue.append((candidate, accuracy))

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        if not self._queue:
            return ()
        candidate, known = self._queue.popleft()
        return (Outcome(candidate, self._result(candidate, known)),)

    def close(self) -> None:
        self._queue.clear()

    def _result(self, candidate: Candidate, known: Measurement | None) -> Result:
        try:
            (accuracy,) = (known,) if known else self._evaluator.score([candidate])
            if not self._measure_latency or not isinstance(accuracy, Measurement):
                return accuracy
            return with_latency(accuracy, self._evaluator.latency(candidate))
        except Exception as error:  # a candidate's own failure is data, as it is on a worker
            return Failure(FailureKind.EVALUATION, f"{type(error).__name__}: {error}", traceback.format_exc())
