"""The evaluator of the toy space: formulas, and on request slowness, exceptions and NaN."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.evaluation.protocol import code_digest, hardware
from orchestrator.records import Candidate, Failure, FailureKind, Hardware, Measurement, Result
from search_spaces.base import digest
from search_spaces.toy import ToySettings, ToySpace


class ToyEvaluator:
    """Scores candidates of the toy space by its formulas."""

    def __init__(self, settings: ToySettings | None = None) -> None:
        self._settings = settings or ToySettings()
        self._space = ToySpace()

    @property
    def protocol_digest(self) -> str:
        return digest(
            {"settings": self._settings.model_dump(mode="json", exclude={"delay_s", "log"}), "code": code_digest()}
        )

    @property
    def hardware(self) -> Hardware:
        return hardware()

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        return [self._score(candidate) for candidate in candidates]

    def latency(self, candidate: Candidate) -> Result:
        return Measurement({"latency_ms": self._metrics(candidate)["latency_ms"]})

    def _score(self, candidate: Candidate) -> Result:
        if self._settings.log is not None:
            with open(self._settings.log, "a") as log:
                log.write(f"{candidate.island} {candidate.number}\n")
        time.sleep(self._settings.delay_s)
        if candidate.architecture_id in self._settings.raising:
            return Failure(FailureKind.EVALUATION, f"ToyError: {candidate.architecture_id} raises, as was asked")
        metrics = {name: value for name, value in self._metrics(candidate).items() if name != "latency_ms"}
        if candidate.architecture_id in self._settings.non_finite:
            metrics["miou"] = math.nan
        return Measurement(metrics, timings_s={"score": self._settings.delay_s})

    def _metrics(self, candidate: Candidate) -> dict[str, float]:
        return self._space.decode(candidate.island, candidate.genotype).metrics()


@dataclass(frozen=True)
class ToyEvaluatorFactory:
    """Builds `ToyEvaluator`s where workers live; there are no weights."""

    settings: ToySettings = field(default_factory=ToySettings)

    def __call__(self, weights: Mapping[str, np.ndarray]) -> ToyEvaluator:
        return ToyEvaluator(self.settings)
