"""Training in two processes: what it has in common with one, to the bit or up to rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.training.ranks import ALONE, Ranks, SynchronisedBatchNorm2d
from search_spaces.training.settings import TrainingSettings
from search_spaces.training.trainer import SupernetTrainer
from tests.networks import scenes, small_space

STEPS = 6
LIMIT_S = 240
Losses = list[float]
Arrays = Mapping[str, np.ndarray]


def trained(ranks: Ranks = ALONE, **settings: Any) -> tuple[Losses, Arrays]:
    """The losses of `STEPS` steps and the weights after them."""
    options = {"steps": 100, "batch_size": 8, "loss_stride": 4, "learning_rate": 1e-3, "gradient_norm": 1.0, **settings}
    options["workers"] = ranks.count
    trainer = SupernetTrainer(small_space(layers=3), scenes(), TrainingSettings(**options), ranks=ranks)
    losses = [trainer.train_step().loss for _ in range(STEPS)]
    return losses, trainer.weights()


def normalised(norm: torch.nn.BatchNorm2d, features: Tensor, towards: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The layer's output, and the gradients of features, weight and bias when `towards` comes back."""
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, norm.num_features))
        norm.bias.copy_(torch.linspace(-1, 1, norm.num_features))
    features = features.clone().requires_grad_()
    output = norm(features)
    gradients = torch.autograd.grad(output, (features, norm.weight, norm.bias), towards)
    return (output.detach(), *gradients)


def features_and_gradient() -> tuple[Tensor, Tensor]:
    """Of four images, each of another mean, so that statistics of a part are far from those of the whole."""
    generator = torch.Generator().manual_seed(0)
    features, gradient = torch.randn(2, 4, 3, 5, 7, generator=generator, dtype=torch.float64)
    return features + torch.arange(4).view(4, 1, 1, 1), gradient


@dataclass
class Found:
    """What one process of two found."""

    norm: list[np.ndarray]
    synchronised: tuple[Losses, Arrays]
    again: tuple[Losses, Arrays]
    local: tuple[Losses, Arrays]
    agreed: tuple[bool, bool]


def process(rank: int, place: Path, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    features, gradient = (tensor[list(ranks.part(4))] for tensor in features_and_gradient())
    norm = normalised(SynchronisedBatchNorm2d(3, dtype=torch.float64, track_running_stats=False), features, gradient)
    trainer = SupernetTrainer(small_space(layers=3), scenes(), TrainingSettings(steps=1, workers=2), ranks=ranks)
    found = Found(
        [part.numpy() for part in norm],
        trained(ranks),
        trained(ranks),
        trained(ranks, batch_norm="local"),
        (trainer.agree(rank == 1), trainer.agree(False)),
    )
    answers.put((rank, found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    """What two processes found."""
    context = mp.get_context("spawn")
    answers = context.Queue()
    place = tmp_path_factory.mktemp("group") / "file"
    processes = [context.Process(target=process, args=(rank, place, answers), daemon=True) for rank in range(2)]
    for one in processes:
        one.start()
    found = dict(answers.get(timeout=LIMIT_S) for _ in processes)
    for one in processes:
        one.join()
    return found[0], found[1]


@pytest.fixture(scope="module")
def alone() -> tuple[Losses, Arrays]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield trained()
    torch.set_num_threads(before)


def same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_synchronised_batch_norm_is_that_of_all_images(two: tuple[Found, Found]) -> None:
    norm = torch.nn.BatchNorm2d(3, dtype=torch.float64, track_running_stats=False)
    output, of_features, of_weight, of_bias = (part.numpy() for part in normalised(norm, *features_and_gradient()))
    first, second = (found.norm for found in two)
    np.testing.assert_allclose(np.concatenate((first[0], second[0])), output, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.concatenate((first[1], second[1])), of_features, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(first[2] + second[2], of_weight, rtol=1e-12)
    np.testing.assert_allclose(first[3] + second[3], of_bias, rtol=1e-12)


def test_two_processes_have_the_losses_of_one(two: tuple[Found, Found], alone: tuple[Losses, Arrays]) -> None:
    """Up to float32's rounding, which training amplifies from step to step."""
    losses, weights = two[0].synchronised
    assert losses == pytest.approx(alone[0], rel=1e-4)
    for name, weight in alone[1].items():
        np.testing.assert_allclose(weights[name], weight, atol=1e-4)


def test_statistics_of_a_process_alone_are_others(two: tuple[Found, Found], alone: tuple[Losses, Arrays]) -> None:
    assert two[0].local[0] != pytest.approx(alone[0], rel=1e-3)
    assert two[0].local[0] == pytest.approx(alone[0], rel=0.2)


def test_processes_keep_equal_weights_and_report_equal_losses(two: tuple[Found, Found]) -> None:
    for first, second in ((two[0].synchronised, two[1].synchronised), (two[0].local, two[1].local)):
        assert first[0] == second[0]
        assert same(first[1], second[1])


def test_two_processes_repeat_to_the_bit(two: tuple[Found, Found]) -> None:
    assert two[0].synchronised[0] == two[0].again[0]
    assert same(two[0].synchronised[1], two[0].again[1])


def test_what_one_process_wishes_all_of_them_know(two: tuple[Found, Found]) -> None:
    assert [found.agreed for found in two] == [(True, False)] * 2


@given(st.integers(1, 8), st.integers(1, 8))
def test_parts_are_the_batch(count: int, share: int) -> None:
    parts = [Ranks(rank, count).part(count * share) for rank in range(count)]
    assert [image for part in parts for image in part] == list(range(count * share))


@pytest.mark.parametrize(("batch_size", "workers"), [(8, 3), (4, 4)])
def test_batches_that_cannot_be_shared_are_refused(batch_size: int, workers: int) -> None:
    words = f"a multiple of workers, and at least twice as large, got batch_size {batch_size} and workers {workers}"
    with pytest.raises(ValueError, match=words):
        TrainingSettings(steps=1, batch_size=batch_size, workers=workers)
