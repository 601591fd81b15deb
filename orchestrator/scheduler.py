"""One island's state machine: which candidate may start now, and which results may be written down. Pure.

    asked -> waiting -> running -> done | failed          (and back to waiting when its worker died)

The window says when: candidate n is asked of the sampler after exactly `max(n - window, prerequisite(0..n))` results
have been told, however many more are there; so at most `window + 1` candidates are unfinished. The order says which,
and is the order of the journal:

    ordered      by number. A result that arrives early waits, a late one holds back the asks that need it: neither
                 the number of workers nor their speed nor the order in which they finish changes any candidate.
    unordered    by arrival, for durations with a heavy tail: nothing waits for a straggler. What is asked depends on
                 the order in which results came, and on nothing else.

Both replay exactly, because a sampler is a function of the sequence of asks and tells. How many tells go before an
ask follows from its number, and which they are is written in the journal: so no ask has to be written down, not even
that of a candidate that was lost in flight. A resumed search asks for it again between the same two tells.

What leaves is new and buildable: a proposal that breaks a constraint, or whose architecture is known already, is
redrawn; after `REDRAWS` proposals the space itself is sampled; after `SAMPLES` of those the island is exhausted, and
ends with what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
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
        ordered: bool = True,
    ) -> None:
        """`rng` draws only where the sampler proposes nothing new."""
        self.island, self.budget, self.ordered, self.exhausted = island, budget, ordered, False
        self._space, self._sampler, self._objectives = space, sampler, objectives
        self._window, self._max_attempts, self._rng = window, max_attempts, rng
        self._asked: list[Candidate] = []
        self._known: set[str] = set()
        self._waiting: deque[Candidate] = deque()
        self._running: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._results: dict[int, Result] = {}
        self._recorded: list[int] = []
        self._due = 0
        self._told = 0

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
        """How many results have been handed out for the journal."""
        return len(self._recorded)

    @property
    def finished(self) -> bool:
        """Whether every candidate that there will be has been recorded."""
        return self.recorded == self.asked and (self.exhausted or self.asked == self.budget)

    def take(self) -> Candidate | None:
        """The next candidate to evaluate, now running; None: nothing may start before more results are there."""
        candidate = self._waiting.popleft() if self._waiting else self._ask()
        if candidate is not None:
            self._running.add(candidate.number)
            self._attempts[candidate.number] = self._attempts.get(candidate.number, 0) + 1
        return candidate

    def receive(self, outcome: Outcome) -> tuple[Event, ...]:
        """The events that this outcome completes, to be written in this order.

        A candidate whose worker died waits for another attempt; after `max_attempts` it is poison. An outcome of a
        candidate that isn't running is dropped: a score doesn't depend on who measured it.
        """
        number = outcome.candidate.number
        assert outcome.candidate.island == self.island, f"{outcome.candidate} came to island {self.island}"
        if number not in self._running:
            return ()
        self._running.remove(number)
        result = self._objectives.admit(outcome.result)
        if isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE:
            if self._attempts[number] < self._max_attempts:
                self._waiting.append(self._asked[number])
                return ()
            result = replace(result, kind=FailureKind.POISON)
        self._results[number] = result
        return tuple(self._record(number))

    def foresee(self, number: int) -> Candidate | None:
        """Candidate `number`, asked for if it has not been, and left waiting; None: it may not be asked for.

        For `replay`: may be called for a number until `restore` has taken its event.
        """
        while self.asked <= number and (candidate := self._ask()) is not None:
            self._waiting.append(candidate)
        return self._asked[number] if number < self.asked else None

    def restore(self, event: Event) -> None:
        """Takes the next event of the journal as the outcome of a candidate that waits."""
        number = event.candidate.number
        self._waiting.remove(self._asked[number])
        self._attempts[number], self._results[number] = event.attempts, event.result
        self._recorded.append(number)

    def _record(self, arrived: int) -> Iterator[Event]:
        """The events whose turn it is now that the result of `arrived` is there."""
        if not self.ordered:
            yield self._write(arrived)
        while self.ordered and self.recorded in self._results:
            yield self._write(self.recorded)

    def _write(self, number: int) -> Event:
        self._recorded.append(number)
        return Event(self._asked[number], self._results[number], self._attempts[number])

    def _ask(self) -> Candidate | None:
        number = self.asked
        if self.exhausted or number == self.budget:
            return None
        self._due = max(self._due, number - self._window, self._sampler.prerequisite(number))
        assert self._due <= number, f"candidate {number} would wait for {self._due} results"
        if self.recorded < self._due:
            return None
        while self._told < self._due:
            self._tell(self._recorded[self._told])
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
