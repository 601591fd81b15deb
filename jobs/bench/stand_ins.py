"""What the cluster benches put in the place of networks: evaluators that sleep, that do nothing, that hold weights.

Runs on the workers, and so imports little.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.records import Candidate, Hardware, Measurement, Result

GATHER_S = 240.0
"""How long workers wait for each other at the start."""


@dataclass(frozen=True)
class Durations:
    """Seconds that each candidate takes: log-normal, drawn from its architecture."""

    mean_s: float
    cv: float
    """Standard deviation over mean."""

    def __call__(self, candidate: Candidate) -> float:
        variance = math.log(1 + self.cv**2)
        rng = np.random.default_rng(int(candidate.architecture_id, 16))
        return self.mean_s * float(rng.lognormal(-variance / 2, math.sqrt(variance)))


NO_TIME = Durations(0.0, 0.0)
NO_HARDWARE = Hardware("none", 0)


def figures(candidate: Candidate) -> dict[str, float]:
    """Accuracy against cost by formula: dearer genes are better, with an architecture's own luck."""
    effort = sum(candidate.genotype) / max(1, len(candidate.genotype))
    luck = int(candidate.architecture_id, 16) % 997 / 997
    return {"miou": 1 - 1 / (1 + effort) - 0.1 * luck, "macs": 1e7 * effort * (1 + 0.1 * luck), "params": 1e5 * effort}


@dataclass(frozen=True)
class IdleFactory:
    """Builds evaluators that sleep; each waits until all `workers` of them have been built."""

    durations: Durations
    workers: int
    folder: Path
    """Empty, and seen by all workers."""

    def __call__(self, weights: Mapping[str, np.ndarray]) -> IdleEvaluator:
        (self.folder / str(os.getpid())).touch()
        deadline_s = time.monotonic() + GATHER_S
        while len(list(self.folder.iterdir())) < self.workers and time.monotonic() < deadline_s:
            time.sleep(0.1)
        return IdleEvaluator(self.durations)


@dataclass(frozen=True)
class IdleEvaluator:
    """Sleeps, and says in `began_s` and `ended_s` (of `time.time`) and `process` when and where."""

    durations: Durations
    protocol_digest: str = "idle"
    hardware: Hardware = NO_HARDWARE

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        return [self._score(candidate) for candidate in candidates]

    def latency(self, candidate: Candidate) -> Result:
        return Measurement({"latency_ms": 1.0})

    def _score(self, candidate: Candidate) -> Result:
        began_s = time.time()
        if self.durations.mean_s > 0:
            time.sleep(self.durations(candidate))
        spent = {"began_s": began_s, "ended_s": time.time(), "process": float(os.getpid())}
        return Measurement(figures(candidate) | spent)


@dataclass(frozen=True)
class HoldingFactory:
    """Builds evaluators that hold their weights, as they came or, with `copies`, each its own copy."""

    copies: bool

    def __call__(self, weights: Mapping[str, np.ndarray]) -> HoldingEvaluator:
        return HoldingEvaluator({name: array.copy() if self.copies else array for name, array in weights.items()})


@dataclass(frozen=True)
class HoldingEvaluator:
    """Reads all of its weights, and says in `uss_bytes` how much memory belongs to its process alone."""

    weights: Mapping[str, np.ndarray]
    protocol_digest: str = "holding"
    hardware: Hardware = NO_HARDWARE

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        total = sum(float(array.sum()) for array in self.weights.values())
        time.sleep(0.2)
        spent = {"uss_bytes": float(private_bytes()), "process": float(os.getpid()), "total": total}
        return [Measurement(figures(candidate) | spent) for candidate in candidates]

    def latency(self, candidate: Candidate) -> Result:
        return Measurement({"latency_ms": 1.0})


def private_bytes() -> int:
    """Memory of this process that no other one shares: its unique set size, as Linux counts it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
