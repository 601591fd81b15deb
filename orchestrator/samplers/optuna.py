"""Optuna's NSGA-II, NSGA-III and TPE behind our ask and tell.

Driven from outside, a generation's parents are complete when its first candidate is asked for: Optuna fixes them at
that moment, and what comes later is never looked at. TPE knows what is running and keeps away from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from orchestrator.config import SamplerSettings
from orchestrator.objectives import Scores
from search_spaces.base import Genotype

LIMITS = "limits"
"""Name under which Optuna keeps a candidate's violation."""


def nsga2(settings: SamplerSettings, seed: int) -> BaseSampler:
    """Optuna's NSGA-II, which mates by uniform crossover over categories."""
    return NSGAIISampler(
        population_size=settings.population_size,
        crossover_prob=settings.crossover_probability,
        mutation_prob=settings.mutation_probability,
        seed=seed,
    )


def nsga3(settings: SamplerSettings, seed: int) -> BaseSampler:
    """Optuna's NSGA-III: spread by reference directions, for three and more objectives."""
    with warnings.catch_warnings():  # it is marked experimental; the pinned version is what we test
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return NSGAIIISampler(
            population_size=settings.population_size,
            crossover_prob=settings.crossover_probability,
            mutation_prob=settings.mutation_probability,
            seed=seed,
        )


def tpe(settings: SamplerSettings, seed: int) -> BaseSampler:
    """Optuna's TPE over all genes at once; the first `population_size` candidates are random."""
    return TPESampler(n_startup_trials=settings.population_size, multivariate=True, constant_liar=True, seed=seed)


class OptunaSampler:
    """An Optuna study of one island, in memory."""

    def __init__(
        self,
        inner: Callable[[SamplerSettings, int], BaseSampler],
        settings: SamplerSettings,
        cardinalities: Sequence[int],
        n_objectives: int,
        rng: np.random.Generator,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would write a line per candidate
        self._sampler = inner(settings, int(rng.integers(2**31)))
        self._study = optuna.create_study(directions=["minimize"] * n_objectives, sampler=self._sampler)
        self._generation = None if isinstance(self._sampler, TPESampler) else settings.population_size
        self._genes: dict[str, BaseDistribution] = {
            f"gene{position:03d}": CategoricalDistribution(range(cardinality))
            for position, cardinality in enumerate(cardinalities)
        }
        self._running: dict[int, Trial] = {}

    def prerequisite(self, number: int) -> int:
        return number // self._generation * self._generation if self._generation else 0

    def ask(self, number: int) -> Genotype:
        self._refuse(number)
        self._running[number] = trial = self._study.ask(self._genes)
        return self._genotype(trial)

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        trial = self._running.get(number)
        if trial is None or self._genotype(trial) != genotype:
            self._refuse(number)
            trial = self._adopt(genotype)
        self._running.pop(number, None)
        if scores is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_constraint(LIMITS, scores.violation)
        self._study.tell(trial, list(scores.minimised))

    def _genotype(self, trial: Trial) -> Genotype:
        params = trial.params  # a deep copy each time
        return tuple(int(params[name]) for name in self._genes)

    def _refuse(self, number: int) -> None:
        """Ends the trial that was proposed under this number and went nowhere, if there is one."""
        trial = self._running.pop(number, None)
        if trial is not None:
            self._study.tell(trial, state=TrialState.FAIL)

    def _adopt(self, genotype: Genotype) -> Trial:
        """A trial with genes from elsewhere, which counts in its generation as any other."""
        self._study.enqueue_trial(dict(zip(self._genes, genotype, strict=True)))
        trial = self._study.ask()
        _ = trial.relative_params  # Optuna notes the generation when it makes these
        for name, distribution in self._genes.items():
            assert isinstance(distribution, CategoricalDistribution)
            trial.suggest_categorical(name, distribution.choices)
        return trial
