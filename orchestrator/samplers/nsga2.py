"""NSGA-II over categorical genes: generational, as HyCTAS runs it, and steady-state.

`generational`: the first generation is random; generation g's parents are what survives of all before it, fixed when
its first candidate is asked for. `steady-state`: an offspring of whatever survives now, whenever one is wanted;
every result told competes at once, (mu + 1) survival.

Survival is by rank and crowding, feasible before infeasible. What is told must be finite: sorting by dominance gives
NaN the best rank. Candidates that failed are not told about: nobody knows how good they are.

Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II"; "Real-Time Image Segmentation
via Hybrid Convolutional-Transformer Architecture Search" (HyCTAS), algorithm 1. We differ in genes (integers, not
one-hot bits), in mutation (a gene is set to another of its values, and an offspring that is one of its parents is
changed in one gene) and in selection: tournaments are larger than two and look at rank alone. A search of a few
hundred candidates has to lean on its best ones early, and survival takes care of the spread; parents chosen for their
place at the ends of a front find less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator import pareto
from orchestrator.config import SamplerSettings
from orchestrator.objectives import Scores
from orchestrator.samplers.variation import crossed, mutated, nudged
from search_spaces.base import Genotype


class Nsga2Sampler:
    """NSGA-II's population of one island, and its offspring."""

    def __init__(
        self,
        settings: SamplerSettings,
        cardinalities: Sequence[int],
        sample: Callable[[np.random.Generator], Genotype],
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._cardinalities, self._sample, self._rng = settings, cardinalities, sample, rng
        self._generational = settings.mode == "generational"
        self._population: list[Genotype] = []
        self._figures: NDArray[np.float64] | None = None
        """Of the population, a row each: what is minimised, and the violation."""
        self._ranks: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._told: list[tuple[Genotype, Scores]] = []

    def prerequisite(self, number: int) -> int:
        size = self._settings.population_size
        return number // size * size if self._generational else 0

    def ask(self, number: int) -> Genotype:
        if number < self._settings.population_size or not self._population:
            return self._sample(self._rng)
        return self._offspring()

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        if scores is not None:
            assert np.isfinite(scores.minimised).all(), f"candidate {number} is told with {scores}: it would rank first"
            self._told.append((genotype, scores))
        if not self._generational or (number + 1) % self._settings.population_size == 0:
            self._survive()

    def _survive(self) -> None:
        if not self._told:
            return
        fresh = np.array([(*scores.minimised, scores.violation) for _, scores in self._told])
        figures = fresh if self._figures is None else np.concatenate([self._figures, fresh])
        genotypes = [*self._population, *(genotype for genotype, _ in self._told)]
        ranks = _ranks(figures[:, :-1], figures[:, -1])
        best = _survivors(figures[:, :-1], ranks, self._settings.population_size)
        self._population, self._told = [genotypes[index] for index in best.tolist()], []
        self._figures, self._ranks = figures[best], ranks[best]

    def _offspring(self) -> Genotype:
        parents = self._parent(), self._parent()
        child = parents[0]
        if self._rng.random() < self._settings.crossover_probability:
            child = crossed(*parents, self._rng)
        child = mutated(child, self._cardinalities, self._settings.mutation_probability, self._rng)
        return nudged(child, self._cardinalities, self._rng) if child in parents else child

    def _parent(self) -> Genotype:
        """The best-ranked of a tournament, the first drawn of equals."""
        drawn = self._rng.integers(len(self._population), size=self._settings.tournament_size)
        return self._population[int(drawn[self._ranks[drawn].argmin()])]


def _ranks(F: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ranks by dominance of the feasible; behind them the others, the least violation first.

    F: (n, n_objectives), minimised. violation: (n,). Returns (n,), 0 is best.
    """
    feasible = violation <= 0
    if feasible.all():
        return pareto.ranks(F)
    ranks = np.empty(len(F), dtype=np.int64)
    ranks[feasible] = pareto.ranks(F[feasible])
    _, order = np.unique(violation[~feasible], return_inverse=True)
    ranks[~feasible] = ranks[feasible].max(initial=-1) + 1 + order
    return ranks


def _survivors(F: NDArray[np.float64], ranks: NDArray[np.int64], size: int) -> NDArray[np.intp]:
    """The indices of the `size` best-ranked rows; of the last front that fits in part, those with the most room."""
    if len(F) <= size:
        return np.arange(len(F))
    last = np.partition(ranks, size - 1)[size - 1]
    whole, cut = np.flatnonzero(ranks < last), np.flatnonzero(ranks == last)
    loneliest = np.argsort(-pareto.crowding(F[cut]), kind="stable")[: size - len(whole)]
    return np.concatenate([whole, cut[loneliest]])
