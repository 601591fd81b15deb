"""Drop path leaves out the operator of a cell, an image at a time, and keeps the mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search_spaces.drop_path import DropsPaths
from search_spaces.hyctas.operators import Cell, Conv
from search_spaces.training.settings import RetrainingSettings, TrainingSettings
from search_spaces.training.trainer import SupernetTrainer
from tests.networks import scenes, small_space


def dropping(rate: float) -> DropsPaths:
    module = DropsPaths()
    module.drop_rate, module.drop_generator = rate, torch.Generator().manual_seed(0)
    return module


def test_whole_images_are_dropped_and_the_mean_stays() -> None:
    y = dropping(0.25).drop(torch.ones(20_000, 3, 2, 2)).flatten(1)
    assert torch.equal(y.min(1).values, y.max(1).values)
    assert sorted(set(y[:, 0].tolist())) == [0.0, pytest.approx(1 / 0.75)]
    assert y.mean().item() == pytest.approx(1, abs=0.02)


def test_a_dropped_cell_passes_on_its_input() -> None:
    cell = Cell(Conv(4, 4, 1), identity=True).eval()
    cell.drop_rate, cell.drop_generator = 0.999999, torch.Generator().manual_seed(0)
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(cell(x), x)
    cell.drop_rate = 0.0
    assert not torch.equal(cell(x), x)


def test_a_cell_without_an_identity_path_is_never_dropped() -> None:
    cell = Cell(Conv(4, 8, 2), identity=False).eval()
    x = torch.rand(2, 4, 6, 6)
    whole = cell(x)
    cell.drop_rate = 0.999999
    assert torch.equal(cell(x), whole)


def rates(trainer: SupernetTrainer) -> set[float]:
    modules = [layer for module, _ in trainer.supernet._templates.values() for layer in module.modules()]
    return {layer.drop_rate for layer in modules if isinstance(layer, DropsPaths)}


def trained(drop_path: float, steps: int = 4) -> tuple[SupernetTrainer, list[float]]:
    settings = TrainingSettings(steps=4, batch_size=4, loss_stride=4, drop_path=drop_path)
    trainer = SupernetTrainer(small_space(layers=3), scenes(), settings)
    return trainer, [trainer.train_step().loss for _ in range(steps)]


def test_the_rate_rises_to_the_last_step_and_changes_training() -> None:
    trainer, losses = trained(0.4)
    assert list(rates(trainer)) == [pytest.approx(0.4)]
    assert losses != trained(0.0)[1]
    assert losses == trained(0.4)[1]


def test_training_with_drop_path_resumes_to_the_same_weights() -> None:
    whole, _ = trained(0.4)
    half, _ = trained(0.4, steps=2)
    rest, _ = trained(0.4, steps=0)
    rest.restore(half.checkpoint())
    for _ in range(2):
        rest.train_step()
    for name, weight in whole.weights().items():
        np.testing.assert_array_equal(rest.weights()[name], weight)


def test_retraining_is_training_without_a_teacher() -> None:
    training = TrainingSettings(steps=7, batch_size=4, learning_rate=0.5, sandwich=True, subnets_per_step=3)
    alone = RetrainingSettings.like(training).alone()
    assert (alone.steps, alone.learning_rate, alone.sandwich, alone.subnets_per_step) == (7, 0.5, False, 1)
