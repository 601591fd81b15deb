"""The one Protocol behind which every sampler stands: ask for a genotype, tell what it was worth.

A sampler proposes and learns; the scheduler decides what leaves. Numbers are asked in order, and before number n is
asked exactly `max(n - window, prerequisite(0..n))` results have been told: in the order of their numbers or, where
the study is unordered, of their arrival. So a sampler that draws from nothing but its own generator proposes the same
candidates whoever evaluates them, and however fast; or, unordered, whenever results come in the same order.
"""

from __future__ import annotations

from typing import Protocol

from orchestrator.objectives import Scores
from search_spaces.base import Genotype


class Sampler(Protocol):
    """Proposes genotypes of one island."""

    def prerequisite(self, number: int) -> int:
        """How many results must have been told before candidate `number` is asked for, at most `number`."""

    def ask(self, number: int) -> Genotype:
        """A proposal for candidate `number`, any genotype of the island.

        Asked for again under the same number when the last proposal broke a constraint or was known already.
        """

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        """Learns what candidate `number` was worth; None: it failed, and nothing is known of it.

        The genotype may be another than the one proposed, when no proposal was new.
        """
