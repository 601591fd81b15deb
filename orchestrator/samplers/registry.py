"""Every sampler by the name that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.config import SamplerSettings
from orchestrator.randomness import generator
from orchestrator.samplers import optuna
from orchestrator.samplers.base import Sampler
from orchestrator.samplers.listed import ListedSampler
from orchestrator.samplers.nsga2 import Nsga2Sampler
from orchestrator.samplers.optuna import OptunaSampler
from orchestrator.samplers.random import RandomSampler
from search_spaces.base import Genotype, ListedSpace, SearchSpace


@dataclass(frozen=True)
class SamplerInputs:
    """What a sampler is made from: its settings, its island, and random numbers of its own."""

    settings: SamplerSettings
    cardinalities: tuple[int, ...]
    sample: Callable[[np.random.Generator], Genotype]
    """Draws a genotype that breaks no constraint."""
    n_objectives: int
    rng: np.random.Generator


def _random(inputs: SamplerInputs) -> Sampler:
    return RandomSampler(inputs.sample, inputs.rng)


def _nsga2(inputs: SamplerInputs) -> Sampler:
    return Nsga2Sampler(inputs.settings, inputs.cardinalities, inputs.sample, inputs.rng)


def _optuna_nsga2(inputs: SamplerInputs) -> Sampler:
    return OptunaSampler(optuna.nsga2, inputs.settings, inputs.cardinalities, inputs.n_objectives, inputs.rng)


def _optuna_nsga3(inputs: SamplerInputs) -> Sampler:
    return OptunaSampler(optuna.nsga3, inputs.settings, inputs.cardinalities, inputs.n_objectives, inputs.rng)


def _optuna_tpe(inputs: SamplerInputs) -> Sampler:
    return OptunaSampler(optuna.tpe, inputs.settings, inputs.cardinalities, inputs.n_objectives, inputs.rng)


SAMPLERS: dict[str, Callable[[SamplerInputs], Sampler]] = {
    "nsga2": _nsga2,
    "optuna-nsga2": _optuna_nsga2,
    "optuna-nsga3": _optuna_nsga3,
    "optuna-tpe": _optuna_tpe,
    "random": _random,
}


def make_sampler(
    settings: SamplerSettings, space: SearchSpace[Any], island: str, n_objectives: int, root_seed: int
) -> Sampler:
    """The sampler of an island, which proposes the same for the same settings and seed.

    Where a space lists what is looked at, the settings mean nothing.
    """
    if isinstance(space, ListedSpace):
        return ListedSampler(space.listed(island))

    def sample(rng: np.random.Generator) -> Genotype:
        return space.sample(island, rng)

    rng = generator(root_seed, island, "sampler")
    return SAMPLERS[settings.name](
        SamplerInputs(settings, tuple(space.cardinalities(island)), sample, n_objectives, rng)
    )
