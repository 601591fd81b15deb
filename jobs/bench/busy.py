"""How busy workers are whose candidates take unequally long, with and without a barrier between generations.

Two ways to the same figure: actors of a real `RayPool` that sleep, and a pool on a clock of its own, for clusters that
nobody has at hand. All else is real. The share is taken from when every worker has had work until the last candidate
is started: start-up and the end of a search, where workers run out of work one by one, are the same for every order.

Virtual workers are given a candidate when they are idle, as `RayPool` does with workers whose batches take over
`AHEAD_S`: no second one in advance. That the real pool has the driver ask earlier, for a queue of its own, changes
nothing: when a candidate may be asked for depends on its number, and a queue keeps the order.
"""

from __future__ import annotations

import heapq
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.ray_pool import RayPool
from jobs.bench.searches import ISLAND, NoJournal, bench_journal, bench_recipe, bench_search, bench_store
from jobs.bench.stand_ins import Durations, IdleFactory, figures
from orchestrator.config import Recipe
from orchestrator.records import Candidate, Event, Measurement, Outcome

MODES = ("steady-state", "generational")
CVS = (0.25, 0.5)
"""Standard deviation over mean of the candidates' durations."""
LOOK_AHEAD = 2
"""The window, as a multiple of the workers."""


@dataclass(frozen=True)
class Span:
    """When a worker was at work on a candidate."""

    worker: int
    began_s: float
    ended_s: float


class VirtualPool:
    """Workers on a clock that jumps from one completion to the next.

    A worker holds at most `in_hand` candidates: the one that it works on, and those that it was given in advance.
    """

    protocol_digest = "virtual"

    def __init__(self, workers: int, durations: Durations, in_hand: int) -> None:
        self._durations, self._in_hand = durations, in_hand
        self._held: list[deque[Candidate]] = [deque() for _ in range(workers)]
        self._by_load = [dict.fromkeys(range(workers)), *({} for _ in range(in_hand))]
        self._ends: list[tuple[float, int]] = []
        self._now_s = 0.0
        self.spans: list[Span] = []

    def free_slots(self) -> int:
        return sum((self._in_hand - load) * len(workers) for load, workers in enumerate(self._by_load))

    def submit(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            load = next(load for load, workers in enumerate(self._by_load) if workers)
            worker = next(iter(self._by_load[load]))
            self._shift(worker, load, load + 1)
            self._held[worker].append(candidate)
            if load == 0:
                self._start(worker)

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self.submit([candidate])

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        if not self._ends:
            return ()
        self._now_s, worker = heapq.heappop(self._ends)
        candidate = self._held[worker].popleft()
        load = len(self._held[worker])
        self._shift(worker, load + 1, load)
        if load:
            self._start(worker)
        return [Outcome(candidate, Measurement(figures(candidate)))]

    def close(self) -> None:
        self._ends.clear()

    def _shift(self, worker: int, before: int, after: int) -> None:
        del self._by_load[before][worker]
        self._by_load[after][worker] = None

    def _start(self, worker: int) -> None:
        end_s = self._now_s + self._durations(self._held[worker][0])
        self.spans.append(Span(worker, self._now_s, end_s))
        heapq.heappush(self._ends, (end_s, worker))


def busy_share(spans: Sequence[Span]) -> float:
    """Share of the workers' time, 0 to 1, between the first start of the last of them and the last start of all."""
    first: dict[int, float] = {}
    for span in spans:
        first[span.worker] = min(first.get(span.worker, span.began_s), span.began_s)
    begin_s, end_s = max(first.values()), max(span.began_s for span in spans)
    worked_s = sum(max(0.0, min(span.ended_s, end_s) - max(span.began_s, begin_s)) for span in spans)
    return worked_s / (len(first) * (end_s - begin_s))


def virtual_share(workers: int, mode: str, cv: float, rounds: int, in_hand: int = 1) -> float:
    """The busy share of virtual workers, each of which gets about `rounds` candidates."""
    pool = VirtualPool(workers, Durations(1.0, cv), in_hand)
    recipe = _recipe(workers, mode, rounds)
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        bench_search(recipe, pool, NoJournal.create(bench_store(Path(folder)), recipe.study, [ISLAND])).run()
    return busy_share(pool.spans)


def real_share(workers: int, mode: str, cv: float, rounds: int, mean_s: float) -> float:
    """The busy share of actors that sleep."""
    recipe = _recipe(workers, mode, rounds)
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        gathering = Path(folder, "gathering")
        gathering.mkdir()
        factory = IdleFactory(Durations(mean_s, cv), workers, gathering)
        pool = RayPool(factory, {}, recipe.workers, recipe.latency)
        try:
            journal = bench_journal(recipe, bench_store(Path(folder, "store")))
            bench_search(recipe, pool, journal).run()
        finally:
            pool.close()
        return busy_share([_span(event) for island in journal.islands for event in journal.events(island)])


def _recipe(workers: int, mode: str, rounds: int) -> Recipe:
    """A generation is as large as the workers are many, and at least the paper's."""
    population = max(40, workers)
    return bench_recipe(
        rounds * workers, workers=workers, window=LOOK_AHEAD * workers, mode=mode, population=population
    )


def _span(event: Event) -> Span:
    assert isinstance(event.result, Measurement), event
    metrics = event.result.metrics
    return Span(int(metrics["process"]), metrics["began_s"], metrics["ended_s"])
