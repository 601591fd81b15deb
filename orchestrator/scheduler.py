"""One island's state machine: which candidate may start now, and which results may be written down. Pure.

    asked -> waiting -> running -> done | failed          (and back to waiting when its worker died)

The ordered window makes the search a function of seed and window. Candidate n is asked of the sampler after exactly
`max(n - window, prerequisite(0..n))` results, in the order of their numbers, have been told: a result that arrives
early waits, a result that is late holds back the asks that need it. So neither the number of workers nor their speed
nor the order in which they finish changes any candidate, and at most `window + 1` candidates are unfinished.

The journal is not that patient: a result is handed out for writing as soon as all lower numbers have been.

What leaves is new and buildable: a proposal that breaks a constraint, or whose architecture is known already, is
redrawn; after `REDRAWS` proposals the space itself is sampled; after `SAMPLES` of those the island is exhausted, and
ends with what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from orchestrator.objectives import Objectives
from orchestrator.records import Candidate, Event, Failure, FailureKind, Outcome, Result
from orchestrator.samplers.base import Sampler
from search_spaces.base import Genotype, SearchSpace, architecture_id

REDRAWS = 20
SAMPLES = 1000


class Scheduler:
    """Candidates of one island, from the ask to the journal."""

    def __init__(
        self,
        space: SearchSpace[Any],
        island: str,
        sampler: Sampler,
        objectives: Objectives,
        *,
        budget: int,
        window: int,
        max_attempts: int,
        rng: np.random.Generator,
    ) -> None:
        """`rng` draws only where the sampler proposes nothing new."""
        self.island, self.budget, self.exhausted = island, budget, False
        self._space, self._sampler, self._objectives = space, sampler, objectives
        self._window, self._max_attempts, self._rng = window, max_attempts, rng
        self._asked: list[Candidate] = []
        self._known: set[str] = set()
        self._waiting: deque[Candidate] = deque()
        self._running: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._results: dict[int, Result] = {}
        self._due = 0
        self._told = 0
        self._recorded = 0

    @property
    def asked(self) -> int:
        """How many candidates have been asked for."""
        return len(self._asked)

    @property
    def running(self) -> int:
        """How many candidates are with workers."""
        return len(self._running)

    @property
    def recorded(self) -> int:
        """How many results have been handed out for the journal: all numbers below this one."""
        return self._recorded

    @property
    def finished(self) -> bool:
        """Whether every candidate that there will be has been recorded."""
        return self._recorded == self.asked and (self.exhausted or self.asked == self.budget)

    def take(self) -> Candidate | None:
        """The next candidate to evaluate, now running; None: nothing may start before more results are there."""
        candidate = self._waiting.popleft() if self._waiting else self._ask()
        if candidate is not None:
            self._running.add(candidate.number)
            self._attempts[candidate.number] = self._attempts.get(candidate.number, 0) + 1
        return candidate

    def receive(self, outcome: Outcome) -> tuple[Event, ...]:
        """The events that this outcome completes, to be written in this order.

        A candidate whose worker died waits for another attempt, up to `max_attempts`. An outcome of a candidate
        that isn't running is dropped: a score doesn't depend on who measured it.
        """
        number = outcome.candidate.number
        assert outcome.candidate.island == self.island, f"{outcome.candidate} came to island {self.island}"
        if number not in self._running:
            return ()
        self._running.remove(number)
        result = self._objectives.admit(outcome.result)
        if _may_retry(result) and self._attempts[number] < self._max_attempts:
            self._waiting.append(self._asked[number])
            return ()
        self._results[number] = result
        return tuple(self._record())

    def restore(self, event: Event) -> None:
        """Takes the next event of the journal as the outcome of the candidate taken last."""
        number = event.candidate.number
        assert number == self._recorded, f"event {number} comes when {self._recorded} are known"
        assert self._running == {number}, f"event {number} comes when {self._running} are running"
        self._running.remove(number)
        self._attempts[number], self._results[number] = event.attempts, event.result
        self._recorded += 1

    def _record(self) -> Iterator[Event]:
        while self._recorded in self._results:
            number = self._recorded
            self._recorded += 1
            yield Event(self._asked[number], self._results[number], self._attempts[number])

    def _ask(self) -> Candidate | None:
        number = self.asked
        if self.exhausted or number == self.budget:
            return None
        self._due = max(self._due, number - self._window, self._sampler.prerequisite(number))
        assert self._due <= number, f"candidate {number} would wait for {self._due} results"
        if self._recorded < self._due:
            return None
        while self._told < self._due:
            self._tell(self._told)
            self._told += 1
        candidate = self._new_candidate(number)
        if candidate is None:
            self.exhausted = True
            return None
        self._known.add(candidate.architecture_id)
        self._asked.append(candidate)
        return candidate

    def _tell(self, number: int) -> None:
        result = self._results[number]
        scores = None if isinstance(result, Failure) else self._objectives.scores(result)
        self._sampler.tell(number, self._asked[number].genotype, scores)

    def _new_candidate(self, number: int) -> Candidate | None:
        for genotype in self._proposals(number):
            architecture = self._space.decode(self.island, genotype)
            name = architecture_id(architecture)
            if name not in self._known and not self._space.violations(architecture):
                return Candidate(self.island, number, genotype, name)
        return None

    def _proposals(self, number: int) -> Iterator[Genotype]:
        for _ in range(REDRAWS):
            yield self._sampler.ask(number)
        for _ in range(SAMPLES):
            yield self._space.sample(self.island, self._rng)


def _may_retry(result: Result) -> bool:
    return isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
