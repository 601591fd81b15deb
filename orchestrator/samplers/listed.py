"""No search at all: what a space lists, in its order."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.objectives import Scores
from search_spaces.base import Genotype


class ListedSampler:
    """Proposes candidate n of a list as number n, and learns nothing."""

    def __init__(self, genotypes: Sequence[Genotype]) -> None:
        self._genotypes = tuple(genotypes)

    def prerequisite(self, number: int) -> int:
        return 0

    def ask(self, number: int) -> Genotype:
        return self._genotypes[number]

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        pass
