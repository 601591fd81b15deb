"""Scores of architectures that no search asked for, by the protocol of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from orchestrator.config import EvaluationSettings, LatencySettings
from orchestrator.evaluation.evaluator import NetworkEvaluator
from orchestrator.records import Candidate, Measurement
from search_spaces.base import NetworkSpace, architecture_id
from search_spaces.data.images import ImageData
from search_spaces.supernet import Weights

TOGETHER = 6
"""Networks that are evaluated at once."""


def shared_scores(
    space: NetworkSpace[Any],
    weights: Weights,
    data: ImageData,
    protocol: EvaluationSettings,
    architectures: Sequence[Any],
) -> list[float]:
    """mIoU of each architecture with shared weights, on the data's validation split."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    evaluator = NetworkEvaluator(space, weights, data, protocol, LatencySettings(), device)
    candidates = []
    for number, architecture in enumerate(architectures):
        island, genotype = space.encode(architecture)
        candidates.append(Candidate(island, number, genotype, architecture_id(architecture)))
    found = []
    for start in range(0, len(candidates), TOGETHER):
        for result in evaluator.score(candidates[start : start + TOGETHER]):
            if not isinstance(result, Measurement):
                raise ValueError(f"a network cannot be scored with these weights: {result.message}")
            found.append(result.metrics["miou"])
    return found
