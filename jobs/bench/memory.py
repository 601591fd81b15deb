"""Memory of workers of one machine that read one copy of the weights, and of workers that each copy them."""

from __future__ import annotations

from itertools import count

import numpy as np

from infra.ray_pool import RayPool
from jobs.bench.searches import ISLAND, bench_recipe
from jobs.bench.stand_ins import HoldingFactory
from orchestrator.records import Candidate, Measurement

ARRAYS = 50


def private_bytes_per_worker(workers: int, weights_bytes: int, copies: bool) -> float:
    """Mean bytes that a worker which has read all weights has for itself: its unique set size."""
    each = weights_bytes // ARRAYS // 4
    weights = {f"layer{number:02d}": np.full(each, number, np.float32) for number in range(ARRAYS)}
    recipe = bench_recipe(1, workers=workers, window=1)
    pool, numbers = RayPool(HoldingFactory(copies), weights, recipe.workers, recipe.latency), count()
    del weights
    seen: dict[float, float] = {}
    try:
        while len(seen) < workers:
            places = range(pool.free_slots())
            pool.submit([_candidate(number) for number, _ in zip(numbers, places, strict=False)])
            for outcome in pool.collect(1.0):
                assert isinstance(outcome.result, Measurement), outcome.result
                seen[outcome.result.metrics["process"]] = outcome.result.metrics["uss_bytes"]
    finally:
        pool.close()
    return sum(seen.values()) / len(seen)


def _candidate(number: int) -> Candidate:
    return Candidate(ISLAND, number, (number,), f"{number:016x}")
