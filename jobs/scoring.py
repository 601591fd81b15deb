"""Scores of architectures that no search asked for, by the protocol of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from orchestrator.config import EvaluationSettings, LatencySettings
from orchestrator.evaluation.evaluator import NetworkEvaluator
from orchestrator.evaluation.protocol import network_protocol
from orchestrator.memo import Memo
from orchestrator.protocols import Store
from orchestrator.records import Candidate, Measurement, Result
from search_spaces.base import NetworkSpace, architecture_id
from search_spaces.data.images import ImageData
from search_spaces.settings import NetworkSettings, score_of
from search_spaces.supernet import Weights
from search_spaces.training.endings import TrainingStopped

TOGETHER = 6
"""Networks that are evaluated at once."""


def shared_scores(
    space: NetworkSpace[Any],
    weights: Weights,
    data: ImageData,
    protocol: EvaluationSettings,
    architectures: Sequence[Any],
) -> list[float]:
    """The score of each architecture with shared weights, mIoU or accuracy, on the data's validation split."""
    evaluator = NetworkEvaluator(space, weights, data, protocol, LatencySettings(), _device())
    return [_score(one) for batch in _batches(_candidates(space, architectures)) for one in evaluator.score(batch)]


@dataclass(frozen=True)
class SharedWeights:
    """What networks are scored with."""

    space: NetworkSpace[Any]
    """Whose operations name the weights."""
    weights: Weights
    digest: str


@dataclass(frozen=True)
class Scorer:
    """Scores networks as `shared_scores` does, but none twice: scores are kept where searches keep theirs."""

    store: Store
    settings: NetworkSettings
    """Of the space."""
    data: ImageData
    stop: Callable[[], bool]

    def __call__(
        self, shared: SharedWeights, protocol: EvaluationSettings, architectures: Sequence[Any]
    ) -> list[float]:
        """mIoU of each architecture.

        Raises:
            TrainingStopped: `stop` said so; what has been scored is kept.
        """
        device = _device()
        evaluator = NetworkEvaluator(shared.space, shared.weights, self.data, protocol, LatencySettings(), device)
        name = network_protocol(self.settings.model_dump(mode="json"), protocol, self.data, device)
        memo = Memo(self.store, shared.digest, name)
        candidates = _candidates(shared.space, architectures)
        try:
            known = {one.number: memo.find(one) for one in candidates}
            found: dict[int, Result] = {number: one for number, one in known.items() if one is not None}
            for batch in _batches([one for one in candidates if one.number not in found]):
                if self.stop():
                    raise TrainingStopped("stopped while networks were scored: the same command goes on")
                for candidate, result in zip(batch, evaluator.score(batch), strict=True):
                    if isinstance(result, Measurement):
                        memo.keep(candidate, result)
                    found[candidate.number] = result
        finally:
            memo.close()
        return [_score(found[one.number]) for one in candidates]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _candidates(space: NetworkSpace[Any], architectures: Sequence[Any]) -> list[Candidate]:
    pairs = (space.encode(architecture) for architecture in architectures)
    return [
        Candidate(island, number, genotype, architecture_id(architecture))
        for number, (architecture, (island, genotype)) in enumerate(zip(architectures, pairs, strict=True))
    ]


def _batches(candidates: Sequence[Candidate]) -> Iterator[Sequence[Candidate]]:
    for start in range(0, len(candidates), TOGETHER):
        yield candidates[start : start + TOGETHER]


def _score(result: Result) -> float:
    if not isinstance(result, Measurement):
        raise ValueError(f"a network cannot be scored with these weights: {result.message}")
    score = score_of(result.metrics)
    assert score is not None, f"a network was scored without a score: {sorted(result.metrics)}"
    return score
