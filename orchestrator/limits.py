"""Whether anything in a search space satisfies the limits of the objectives, found out before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from orchestrator.objectives import Objective, ObjectiveError, Objectives
from search_spaces.base import Genotype, SearchSpace
from search_spaces.tabular import TabularSpace

STARTS = 3
"""Random architectures from which one within the limits is looked for."""

Known = Callable[[Any], Mapping[str, float]]
"""The metrics of an architecture that can be told without training."""


def check_limits(space: SearchSpace[Any], objectives: Objectives, known: Known) -> None:
    """Looks, in each island, for an architecture within every limit on a metric that `known` tells.

    The nearest one is found by descent from a few random architectures, a gene at a time; in a table by looking at all.

    Raises:
        ObjectiveError: an island seems to have none; the message says what comes nearest.
        ValueError: an island has no architecture that breaks no constraint.
    """
    for island in space.islands:
        metrics = known(space.decode(island, space.sample(island, np.random.default_rng(0))))
        limited = [
            one for one in objectives.each if one.name in metrics and (one.at_most, one.at_least) != (None, None)
        ]
        if limited:
            _check_island(space, island, limited, known)


def _check_island(space: SearchSpace[Any], island: str, limited: list[Objective], known: Known) -> None:
    def beyond(genotype: Genotype) -> float:
        metrics = known(space.decode(island, genotype))
        return sum(one.violation(metrics[one.name]) for one in limited)

    found = []
    for genotype, amount in _nearest(space, island, beyond):
        if amount == 0:
            return
        found.append((amount, genotype))
    nearest = known(space.decode(island, min(found)[1]))
    broken = [one for one in limited if one.violation(nearest[one.name]) > 0]
    limits = " and ".join(_limit(one, nearest[one.name]) for one in broken)
    words = " and ".join(f"{nearest[one.name]:g} {one.unit}" for one in broken)
    raise ObjectiveError(f"{limits}: no architecture of island {island} is within, the nearest one found has {words}")


def _nearest(
    space: SearchSpace[Any], island: str, beyond: Callable[[Genotype], float]
) -> Iterator[tuple[Genotype, float]]:
    """Genotypes that may be the nearest, and how far they are beyond the limits."""
    if isinstance(space, TabularSpace):
        yield from ((genotype, beyond(genotype)) for genotype in space.table.rows)
        return
    rng = np.random.default_rng(0)
    yield from (_descend(space, island, space.sample(island, rng), beyond) for _ in range(STARTS))


def _limit(objective: Objective, value: float) -> str:
    over = objective.at_most is not None and value > objective.at_most
    side, limit = ("at_most", objective.at_most) if over else ("at_least", objective.at_least)
    return f"objectives.{objective.name}.{side} {limit:g}"


def _descend(
    space: SearchSpace[Any], island: str, genotype: Genotype, beyond: Callable[[Genotype], float]
) -> tuple[Genotype, float]:
    """The genotype, and how far it is beyond the limits, where no change of one gene brings it nearer."""
    amount, improved = beyond(genotype), True
    while amount > 0 and improved:
        improved = False
        for gene, cardinality in enumerate(space.cardinalities(island)):
            for value in range(cardinality):
                other = (*genotype[:gene], value, *genotype[gene + 1 :])
                if space.violations(space.decode(island, other)):
                    continue
                if (less := beyond(other)) < amount:
                    genotype, amount, improved = other, less, True
            if amount == 0:
                break
    return genotype, amount
