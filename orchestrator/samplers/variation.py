"""How offspring differ from their parents, where genes are categories: no value lies between two others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.base import Genotype


def crossed(first: Genotype, second: Genotype, rng: np.random.Generator) -> Genotype:
    """A genotype that takes each gene from either parent with even odds: uniform crossover."""
    return tuple(a if left else b for a, b, left in zip(first, second, rng.random(len(first)) < 0.5, strict=True))


def mutated(genotype: Genotype, cardinalities: Sequence[int], probability: float, rng: np.random.Generator) -> Genotype:
    """The genotype with each gene, with `probability`, set to another of its values: resetting mutation."""
    hit = np.flatnonzero(rng.random(len(genotype)) < probability)
    return _with_other_values(genotype, cardinalities, hit.tolist(), rng)


def nudged(genotype: Genotype, cardinalities: Sequence[int], rng: np.random.Generator) -> Genotype:
    """The genotype with exactly one gene set to another of its values, where any gene has another."""
    free = [gene for gene, cardinality in enumerate(cardinalities) if cardinality > 1]
    return _with_other_values(genotype, cardinalities, [int(rng.choice(free))] if free else [], rng)


def _with_other_values(
    genotype: Genotype, cardinalities: Sequence[int], genes: Sequence[int], rng: np.random.Generator
) -> Genotype:
    changed = list(genotype)
    for gene in genes:
        if cardinalities[gene] > 1:
            step = int(rng.integers(1, cardinalities[gene]))
            changed[gene] = (changed[gene] + step) % cardinalities[gene]
    return tuple(changed)
