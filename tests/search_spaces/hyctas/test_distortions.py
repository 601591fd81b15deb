"""Distortions change operators and nothing else, and say so where there is nothing to change."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from search_spaces.hyctas.architecture import Branch, HyctasArchitecture
from search_spaces.hyctas.distortions import DISTORTIONS, shift_in_branch, shift_in_position
from tests.networks import small_space

RNG = np.random.default_rng(0)


def network(*branches: tuple[tuple[int, ...], tuple[str, ...]]) -> HyctasArchitecture:
    return HyctasArchitecture(tuple(Branch(downs, ops, (12,) * (len(ops) - 1)) for downs, ops in branches))


TWO = network(((), ("attention", "conv", "skip")), ((0,), ("light", "attention", "light2")))


def operators(architecture: HyctasArchitecture | None) -> list[tuple[str, ...]]:
    assert architecture is not None
    return [branch.operators for branch in architecture.branches]


def test_attention_becomes_convolution_and_convolution_attention() -> None:
    assert operators(DISTORTIONS["attention to convolution"](TWO, RNG)) == [
        ("conv", "conv", "skip"),
        ("light", "conv", "light2"),
    ]
    assert operators(DISTORTIONS["convolution to attention"](TWO, RNG)) == [
        ("attention", "attention", "skip"),
        ("attention", "attention", "attention"),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_shifted_attention_keeps_each_branch_its_operators(seed: int) -> None:
    shifted = shift_in_position(TWO, np.random.default_rng(seed))
    assert operators(shifted) != operators(TWO)
    for before, after in zip(operators(TWO), operators(shifted), strict=True):
        assert Counter(before) == Counter(after)
        assert all(b != "attention" for a, b in zip(before, after, strict=True) if a == "attention")


def test_attention_moves_to_the_other_branch_at_its_stride_alone() -> None:
    """Only layer 0 of the second branch is at stride 8, and nothing of the first is at 16."""
    assert operators(shift_in_branch(TWO, RNG)) == [("light", "conv", "skip"), ("attention", "attention", "light2")]


def test_a_skip_never_comes_to_where_a_branch_goes_down() -> None:
    down = network(((0,), ("attention", "skip", "skip")))
    assert shift_in_position(down, RNG) is None


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_network_without_the_operator_cannot_be_distorted(name: str) -> None:
    assert DISTORTIONS[name](network(((), ("skip", "skip", "skip"))), RNG) is None


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distorted_networks_are_in_the_space(name: str) -> None:
    space, rng = small_space(layers=6), np.random.default_rng(1)
    for island in space.islands:
        for _ in range(20):
            found = DISTORTIONS[name](space.decode(island, space.sample(island, rng)), rng)
            if found is not None:
                assert space.violations(found) == ()
                assert space.decode(*space.encode(found)) == found
