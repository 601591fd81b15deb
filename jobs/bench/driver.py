"""What a candidate costs the driver: ask, journal, memo, front and tell, with evaluations that take no time.

Nothing is left out but the evaluation and the tracker: the journal and the memo are written to a folder, and synced.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jobs.bench.searches import bench_journal, bench_recipe, bench_search, bench_store
from jobs.bench.stand_ins import figures
from orchestrator.island import Progress
from orchestrator.memo import MemoPool
from orchestrator.records import Candidate, Measurement, Outcome

MARK = 1000


class InstantPool:
    """Workers that have finished whatever they were given when they are asked, `at_once` candidates at most."""

    protocol_digest = "instant"

    def __init__(self, slots: int, at_once: int) -> None:
        self._slots, self._at_once = slots, at_once
        self._queue: list[Candidate] = []

    def free_slots(self) -> int:
        return self._slots - len(self._queue)

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._queue.extend(candidates)

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._queue.append(candidate)

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        done, self._queue = self._queue[: self._at_once], self._queue[self._at_once :]
        return [Outcome(candidate, Measurement(figures(candidate))) for candidate in done]

    def close(self) -> None:
        self._queue.clear()


def measure_driver(candidates: int, slots: int, at_once: int) -> dict[str, Any]:
    """Milliseconds per candidate, of the whole search and of each thousand, by the clock and by the processor."""
    marks: list[tuple[float, float]] = []

    def mark(progress: Progress) -> None:
        if progress.evaluated // MARK >= len(marks):
            marks.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        recipe = bench_recipe(candidates, workers=slots // 2, window=slots)
        store = bench_store(Path(folder))
        pool = MemoPool(InstantPool(slots, at_once), store, None)
        search = bench_search(recipe, pool, bench_journal(recipe, store), mark)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        search.run()
        pool.close()
        spent_s, spent_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return {
        "candidates": candidates,
        "ms": 1e3 * spent_s / candidates,
        "cpu_ms": 1e3 * spent_cpu_s / candidates,
        "ms_by_thousand": [1e3 * (b[0] - a[0]) / MARK for a, b in pairwise(marks)],
        "cpu_ms_by_thousand": [1e3 * (b[1] - a[1]) / MARK for a, b in pairwise(marks)],
        "front": len(search.islands[0].archive.front),
    }
