"""The evaluator of tables: what was measured is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.evaluation.protocol import code_digest, hardware
from orchestrator.records import LATENCY, Candidate, Hardware, Measurement, Result
from search_spaces.base import digest
from search_spaces.tabular import TabularSettings, TabularSpace, read_table


class TabularEvaluator:
    """Scores candidates by their rows in a table; a latency is as true there as anything else."""

    def __init__(self, settings: TabularSettings) -> None:
        self._settings = settings
        self._space = TabularSpace(read_table(settings))

    @property
    def protocol_digest(self) -> str:
        columns = self._settings.model_dump(mode="json", exclude={"path"})
        return digest({"settings": columns, "table": self._space.table.fingerprint, "code": code_digest()})

    @property
    def hardware(self) -> Hardware:
        return hardware()

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        return [self._measurement(candidate, latency=False) for candidate in candidates]

    def latency(self, candidate: Candidate) -> Result:
        return self._measurement(candidate, latency=True)

    def _measurement(self, candidate: Candidate, latency: bool) -> Measurement:
        metrics = self._space.decode(candidate.island, candidate.genotype).metrics()
        return Measurement({name: value for name, value in metrics.items() if name.startswith(LATENCY) == latency})


@dataclass(frozen=True)
class TabularEvaluatorFactory:
    """Builds `TabularEvaluator`s where workers live; there are no weights, and the table is read there."""

    settings: TabularSettings

    def __call__(self, weights: Mapping[str, np.ndarray]) -> TabularEvaluator:
        return TabularEvaluator(self.settings)
