"""What came of training candidates from scratch, as rows for programs and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.tables import heading, quantity
from orchestrator.report.sheet import Sheet
from orchestrator.retraining import Retrained


@dataclass(frozen=True)
class Chosen:
    """A candidate to train from scratch."""

    name: str
    """ISLAND/NUMBER."""
    island: str
    architecture: Any
    architecture_id: str
    metrics: Mapping[str, float]
    """What the search measured."""


@dataclass(frozen=True)
class Ending:
    """What came of retraining candidates."""

    found: Sequence[tuple[Chosen, Sequence[Retrained]]]
    left: int
    """Trials that have no result yet."""
    metric: str
    """By which networks are compared."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each candidate, with its trials."""
        return [self._row(chosen, results) for chosen, results in self.found]

    def _row(self, chosen: Chosen, results: Sequence[Retrained]) -> dict[str, Any]:
        metric = self.metric
        scores = [result.score for result in results if result.score is not None]
        return {
            "candidate": chosen.name,
            "arch_id": chosen.architecture_id,
            f"{metric}_supernet": chosen.metrics.get(metric),
            f"{metric}_mean": float(np.mean(scores)) if scores else None,
            f"{metric}_deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "trials": [
                {
                    "trial": result.trial.id,
                    "seed": result.trial.seed,
                    "weights": result.weights,
                    "device_s": result.device_s,
                    "failure": result.failure,
                    **{name: result.metrics.get(name) for name in (metric, f"test_{metric}", "macs", "params")},
                }
                for result in results
            ],
        }

    def sheet(self) -> Sheet:
        """A candidate a line."""
        metric, both = self.metric, (self.metric, f"test_{self.metric}")
        header = ("candidate", "trials", "shared", "from scratch", "test", "MACs", "params")
        rows = []
        for chosen, results in self.found:
            failed = sum(bool(result.failure) for result in results)
            trials = f"{len(results)}" + (f", {failed} failed" if failed else "")
            first = next((result.metrics for result in results if result.metrics), {})
            row = (
                chosen.name,
                trials,
                quantity(metric, chosen.metrics.get(metric)),
                *(_spread([r.metrics[name] for r in results if name in r.metrics]) for name in both),
                *(quantity(name, first.get(name)) for name in ("macs", "params")),
            )
            rows.append(row)
        return Sheet(f"{heading(metric)} of networks trained from scratch", header, rows, words=2)


def _spread(values: Sequence[float]) -> str:
    """Their mean, and with several their deviation."""
    if not values:
        return "–"
    mean = f"{np.mean(values):.4f}"
    return f"{mean} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else mean
