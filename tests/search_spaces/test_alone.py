"""A network alone: the same steps as in its space, and no weight shared by two of them."""

from __future__ import annotations

import numpy as np
import torch

from search_spaces.alone import AloneSpace
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.subnet import materialise
from search_spaces.supernet import Supernet

SPACE = HyctasSpace(HyctasSettings(layers=5, filters=2), classes=4)


def test_each_step_has_weights_of_its_own() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        architecture = SPACE.decode("branches-3", SPACE.sample("branches-3", rng))
        alone = AloneSpace(SPACE, architecture)
        program = alone.lower(architecture, training=True)
        names = [
            alone.shared_names(step.operation)(name)
            for step in program.steps
            for name, _ in alone.build(step.operation).named_parameters()
        ]
        assert len(set(names)) == len(names)
        net = Supernet(alone, torch.Generator().manual_seed(0))
        assert {name: weight.shape for name, weight in net.to_numpy().items()}.keys() == set(names)
        params = SPACE.counter.count(SPACE.lower(architecture, training=True), (1, 3, 64, 96)).params
        assert sum(weight.numel() for weight in net.parameters()) == params


def test_it_is_the_same_network() -> None:
    architecture = SPACE.decode("branches-2", SPACE.sample("branches-2", np.random.default_rng(1)))
    alone = AloneSpace(SPACE, architecture)
    program, own = SPACE.lower(architecture), alone.lower(architecture)
    assert [step.operation.name for step in own.steps] == [step.operation.name for step in program.steps]
    weights = Supernet(alone, torch.Generator().manual_seed(0)).to_numpy()
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert materialise(alone, architecture, weights)(image).shape == (2, 4, 8, 12)
    assert alone.decode(*alone.encode(architecture)) == architecture
    assert not alone.violations(architecture)
