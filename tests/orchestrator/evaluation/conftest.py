"""One thread and one seed for all networks, and a small space with weights."""

from __future__ import annotations

import pytest
import torch

from search_spaces.hyctas.space import HyctasSpace
from search_spaces.supernet import Weights
from tests.networks import small_space, small_weights


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def space() -> HyctasSpace:
    return small_space()


@pytest.fixture(scope="module")
def weights(space: HyctasSpace) -> Weights:
    return small_weights(space)
