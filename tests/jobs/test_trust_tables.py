"""Figures of the evidence, by hand."""

from __future__ import annotations

import pytest

from jobs.trust_tables import AGAIN, EVERYWHERE, correlations
from orchestrator.trust import SEARCH, Network


def network(island: str, shared: float, *scratch: float, group: str = "sampled") -> Network:
    return Network(group, island, f"{island} {shared}", f"{shared}", 1e6, {SEARCH: shared}, scratch, [])


NETWORKS = [
    network("reef", 0.1, 0.5, 0.7),
    network("reef", 0.2, 0.6, 0.8),
    network("reef", 0.3, 0.7, 0.2),
    network("reef", 0.9, 0.1, 0.1, group="searched"),
]


def test_scores_are_held_against_the_mean_of_all_trainings() -> None:
    found = correlations(NETWORKS, "scratch")[SEARCH]["reef"]
    assert found is not None
    assert (found.n, found.kendall) == (3, pytest.approx(-1 / 3))  # 0.6, 0.7, 0.45


def test_one_training_is_held_against_the_others() -> None:
    found = correlations(NETWORKS, "scratch")[AGAIN][EVERYWHERE]
    assert found is not None
    assert (found.n, found.kendall) == (3, pytest.approx(-1 / 3))  # 0.5, 0.6, 0.7 against 0.7, 0.8, 0.2


def test_with_one_training_each_nothing_is_known_of_another() -> None:
    once = [network("reef", 0.1 * rank, 0.1 * rank) for rank in range(1, 5)]
    assert AGAIN not in correlations(once, "scratch")
    found = correlations(once, "scratch")[SEARCH]["reef"]
    assert found is not None
    assert found.kendall == pytest.approx(1)
