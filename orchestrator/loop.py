"""The search: ask, submit, collect, tell, record. The file to read first.

    ask      each island's scheduler has its sampler propose the next candidate, when the ordered window lets it
    submit   the pool starts evaluating; the island that is furthest behind goes first
    collect  whatever has finished, in any order
    tell     the scheduler takes the results, and hands out those whose turn it is to be written
    record   into the journal, then to the tracker and to whoever watches

All islands share the pool: while one waits at the end of a generation, the others keep the workers busy. After every
`record` the journal is complete up to there, so the search may stop, or be killed, at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from orchestrator.island import Island, Progress, progress_of
from orchestrator.journal import Journal
from orchestrator.projection import Describe, running_figures
from orchestrator.protocols import EvaluationPool, PoolExhausted, Tracker
from orchestrator.records import Event, Outcome

POLL_S = 1.0
"""How long `collect` may wait, and so how soon a request to stop is seen."""


class EndReason(StrEnum):
    """Why a search ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """On request: it can be resumed."""
    NO_WORKERS = "no_workers"
    """It can be resumed where there are workers."""


@dataclass(frozen=True)
class Ending:
    """How a search ended; its journal is complete and closed."""

    reason: EndReason
    message: str = ""
    tracked: bool = True
    """Whether the tracker has everything that the journal holds."""


TRACKER_STATUS = {EndReason.FINISHED: "FINISHED", EndReason.STOPPED: "KILLED", EndReason.NO_WORKERS: "FAILED"}


def _never() -> bool:
    return False


def _unwatched(_: Progress) -> None:
    pass


@dataclass(frozen=True)
class Search:
    """Everything that a search works with. `tracker` has been started; `pool` is closed by whoever made it."""

    islands: Sequence[Island]
    pool: EvaluationPool
    journal: Journal
    tracker: Tracker
    describe: Describe
    batch_size: int = 1
    """Most candidates, of one island, that are submitted in one call."""
    stop: Callable[[], bool] = _never
    """Asked between rounds: true ends the search."""
    pictures: Callable[[], Mapping[str, bytes]] = dict
    """Files for the tracker, by name, made when the search ends."""
    on_progress: Callable[[Progress], None] = _unwatched
    """Called at the start, after every round, and at the end."""
    now: Callable[[], float] = time.monotonic
    """Seconds, from any origin."""

    def run(self) -> Ending:
        """Searches until the budgets are used up, a stop is requested or no worker is left; finishes the tracker."""
        status = "FAILED"
        try:
            ending = self._rounds()
            self._settle_fronts()
            for name, data in self.pictures().items():
                self.tracker.attach(name, data)
            status = TRACKER_STATUS[ending.reason]
        finally:
            self.tracker.finish(status)
        return replace(ending, tracked=self.tracker.complete)

    def _rounds(self) -> Ending:
        started_s = self.now()
        try:
            while True:
                self.on_progress(progress_of(self.islands, self.now() - started_s))
                if self.stop():
                    self._record(self._tell(self.pool.collect(0.0)))
                    return Ending(EndReason.STOPPED, "stopped on request")
                self._submit()
                if all(island.scheduler.finished for island in self.islands):
                    return Ending(EndReason.FINISHED, self._shortfall())
                under_way = any(island.scheduler.running for island in self.islands)
                assert under_way or not self.pool.free_slots(), "no candidate runs and none may start"
                self._record(self._tell(self.pool.collect(POLL_S)))
        except PoolExhausted as error:
            return Ending(EndReason.NO_WORKERS, str(error))
        finally:
            self.on_progress(progress_of(self.islands, self.now() - started_s))

    def _submit(self) -> None:
        """Asks for candidates, as many as there are places and the windows allow, and starts them."""
        able = list(self.islands)
        while able and (places := self.pool.free_slots()) > 0:
            island = min(able, key=lambda one: one.scheduler.asked / one.scheduler.budget)
            wanted = min(self.batch_size, places)
            batch = list(islice(iter(island.scheduler.take, None), wanted))
            if batch:
                self.pool.submit(batch)
            if len(batch) < wanted:
                able.remove(island)

    def _tell(self, outcomes: Sequence[Outcome]) -> list[Event]:
        """Hands the outcomes to their islands; returns the events whose turn it is to be written."""
        by_name = {island.name: island.scheduler for island in self.islands}
        return [event for outcome in outcomes for event in by_name[outcome.candidate.island].receive(outcome)]

    def _record(self, events: Sequence[Event]) -> None:
        self.journal.append(events)
        for event in events:
            island = next(one for one in self.islands if one.name == event.candidate.island)
            island.archive.add(event)
            on_front = event.candidate.number in island.archive.front
            if on_front:
                island.shown[event.candidate.number] = event
            self.tracker.record(event, self.describe(event.candidate), on_front)
            self.tracker.progress(island.name, island.archive.done, running_figures(island.archive))

    def _settle_fronts(self) -> None:
        """Tells the tracker who was on the front when recorded and is so no longer."""
        for island in self.islands:
            for number in sorted(set(island.shown) - island.archive.front):
                event = island.shown.pop(number)
                self.tracker.record(event, self.describe(event.candidate), False)

    def _shortfall(self) -> str:
        short = [island.scheduler for island in self.islands if island.scheduler.exhausted]
        return "; ".join(f"island {one.island} holds no more than {one.asked} new architectures" for one in short)
