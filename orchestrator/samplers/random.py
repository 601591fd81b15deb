"""Random search: every candidate drawn from the space on its own. What the others must beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orchestrator.objectives import Scores
from search_spaces.base import Genotype


class RandomSampler:
    """Draws from `sample`, and learns nothing."""

    def __init__(self, sample: Callable[[np.random.Generator], Genotype], rng: np.random.Generator) -> None:
        self._sample, self._rng = sample, rng

    def prerequisite(self, number: int) -> int:
        return 0

    def ask(self, number: int) -> Genotype:
        return self._sample(self._rng)

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        pass
