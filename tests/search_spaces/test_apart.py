"""Islands that share no weights: steps of their own, scores by their own weights, tensors of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jobs.scoring import shared_scores
from orchestrator.config import EvaluationSettings
from search_spaces.apart import ApartSpace, brought_together, own_copies, part_of
from search_spaces.supernet import Supernet
from tests.networks import apart, awake, scenes, small_hrnas, small_space

PROTOCOL = EvaluationSettings(recalibration_images=8, batch_size=4)


@pytest.fixture(params=["hyctas", "hrnas"])
def space(request: pytest.FixtureRequest) -> ApartSpace:
    return apart(small_space, (1, 2, 3), layers=3) if request.param == "hyctas" else apart(small_hrnas, (1, 3))


def drawn(space: ApartSpace, count: int = 5) -> dict[str, list[Any]]:
    """Random architectures of each island."""
    rng = np.random.default_rng(0)
    return {island: [space.decode(island, space.sample(island, rng)) for _ in range(count)] for island in space.islands}


def weights_of(space: Any, seed: int) -> dict[str, np.ndarray]:
    return awake(Supernet(space, torch.Generator().manual_seed(seed))).to_numpy()


def test_islands_have_no_step_and_no_tensor_in_common(space: ApartSpace) -> None:
    steps, tensors = {}, {}
    for island, architectures in drawn(space).items():
        programs = [space.lower(architecture, training=True) for architecture in architectures]
        steps[island] = {step.id for program in programs for step in program.steps}
        whole = [space.space.lower(architecture, training=True) for architecture in architectures]
        assert len(steps[island]) == len({step.id for program in whole for step in program.steps})
        tensors[island] = set(Supernet(space.parts[island], torch.Generator()).to_numpy())
    assert sum(map(len, steps.values())) == len(set().union(*steps.values()))
    mine = set(Supernet(space, torch.Generator()).to_numpy())
    assert mine == {f"{island}/{name}" for island, names in tensors.items() for name in names}


def test_a_score_is_that_of_the_islands_weights(space: ApartSpace) -> None:
    """Evaluated with networks of other islands it is to the bit what the island's own space gives alone."""
    own = {island: weights_of(space.parts[island], seed) for seed, island in enumerate(space.islands)}
    weights, networks = brought_together(own), drawn(space, 2)
    assert all(part_of(weights, island).keys() == part.keys() for island, part in own.items())
    mixed = [one for pair in zip(*networks.values(), strict=True) for one in pair]
    found = dict(zip(mixed, shared_scores(space, weights, scenes(), PROTOCOL, mixed), strict=True))
    for island, architectures in networks.items():
        alone = shared_scores(space.parts[island], own[island], scenes(), PROTOCOL, architectures)
        assert [found[one] for one in architectures] == alone
    first = space.islands[0]
    others = shared_scores(space.parts[first], weights_of(space.parts[first], 9), scenes(), PROTOCOL, networks[first])
    assert others != [found[one] for one in networks[first]]


def test_with_equal_weights_scores_are_those_of_the_space_as_a_whole(space: ApartSpace) -> None:
    shared = weights_of(space.space, 0)
    networks = [one for architectures in drawn(space, 3).values() for one in architectures]
    apart_ = shared_scores(space, own_copies(space, shared), scenes(), PROTOCOL, networks)
    assert apart_ == shared_scores(space.space, shared, scenes(), PROTOCOL, networks)
