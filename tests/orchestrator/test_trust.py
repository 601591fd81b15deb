"""The statistics of the evidence, where they can be counted by hand."""

from __future__ import annotations

import math

import pytest

from orchestrator.trust import Network, better_share, correlation, deviation, mean, seed_deviation


def network(*scratch: float) -> Network:
    return Network("sampled", "one", "a", "a", 1.0, {}, scratch, ())


def test_equal_orders_correlate_and_reversed_ones_do_the_opposite() -> None:
    same = correlation([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 10])
    assert same is not None
    assert (same.n, same.kendall, same.kendall_low, same.kendall_high) == (4, 1.0, 1.0, 1.0)
    assert same.pearson < 1
    reverse = correlation([1, 2, 3], [3, 2, 1])
    assert reverse is not None
    assert (reverse.kendall, reverse.pearson) == (-1.0, pytest.approx(-1))


def test_one_pair_of_six_in_the_other_order() -> None:
    found = correlation([1, 2, 3, 4], [2, 1, 3, 4])
    assert found is not None
    assert found.kendall == pytest.approx((5 - 1) / 6)
    assert found.kendall_low < found.kendall < found.kendall_high


def test_nothing_is_said_of_too_few_networks_or_a_constant() -> None:
    assert correlation([1, 2], [1, 2]) is None
    assert correlation([1, 1, 1], [1, 2, 3]) is None


def test_the_share_of_pairs_in_which_one_is_better() -> None:
    assert better_share([2, 4], [1, 3]) == 0.75
    assert better_share([1], [1]) == 0.5
    assert better_share([], [1]) is None


def test_deviations() -> None:
    assert mean([]) is None
    assert deviation([1.0]) is None
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert seed_deviation([network(1.0), network()]) is None
    assert seed_deviation([network(1.0, 3.0), network(5.0, 5.0)]) == pytest.approx(1.0)
