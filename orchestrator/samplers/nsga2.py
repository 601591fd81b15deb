"""NSGA-II over categorical genes: generational, as HyCTAS runs it, and steady-state.

`generational`: the first generation is random; generation g's parents are what survives of all before it, fixed when
its first candidate is asked for. `steady-state`: an offspring of whatever survives now, whenever one is wanted;
every result told competes at once, (mu + 1) survival.

Selection and survival are pymoo's: binary tournament by dominance and crowding, feasible before infeasible; rank and
crowding. Its sorting gives a row with NaN rank 0, so what is told must be finite. Candidates that failed are not told
about: nobody knows how good they are.

Source: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II"; "Real-Time Image Segmentation
via Hybrid Convolutional-Transformer Architecture Search" (HyCTAS), algorithm 1, from which we differ in genes
(integers, not one-hot bits) and in mutation (a gene is set to another of its values, and an offspring that is one of
its parents is changed in one gene).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
from pymoo.algorithms.moo.nsga2 import binary_tournament
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

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
        n_objectives: int,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._cardinalities, self._sample, self._rng = settings, cardinalities, sample, rng
        self._generational = settings.mode == "generational"
        self._survival = RankAndCrowding()
        self._problem = Problem(n_var=len(cardinalities), n_obj=n_objectives, n_ieq_constr=1, xl=0, xu=1)
        self._tournament = TournamentSelection(func_comp=binary_tournament)
        self._rules = SimpleNamespace(tournament_type="comp_by_dom_and_crowding", random_state=rng)
        self._population = Population()
        self._told: list[Individual] = []

    def prerequisite(self, number: int) -> int:
        size = self._settings.population_size
        return number // size * size if self._generational else 0

    def ask(self, number: int) -> Genotype:
        if number < self._settings.population_size or len(self._population) == 0:
            return self._sample(self._rng)
        return self._offspring()

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        if scores is not None:
            F, G = np.array(scores.minimised, dtype=float), np.array([scores.violation])
            assert np.isfinite(F).all(), f"candidate {number} is told with {scores}: pymoo would rank it first"
            self._told.append(Individual(X=np.array(genotype), F=F, G=G))
        if not self._generational or (number + 1) % self._settings.population_size == 0:
            self._survive()

    def _survive(self) -> None:
        merged = Population.merge(self._population, Population.create(*self._told))
        size = self._settings.population_size
        self._population = self._survival.do(self._problem, merged, n_survive=size, random_state=self._rng)
        self._told = []

    def _offspring(self) -> Genotype:
        picked = self._tournament.do(
            self._problem,
            self._population,
            n_select=1,
            n_parents=2,
            to_pop=False,
            random_state=self._rng,
            algorithm=self._rules,
        )
        parents = [tuple(int(gene) for gene in self._population[index].X) for index in picked[0]]
        child = parents[0]
        if self._rng.random() < self._settings.crossover_probability:
            child = crossed(parents[0], parents[1], self._rng)
        child = mutated(child, self._cardinalities, self._settings.mutation_probability, self._rng)
        return nudged(child, self._cardinalities, self._rng) if child in parents else child
