"""Ranks of labels and what is counted of them; training and scores on images of plain colours."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from search_spaces.tasks.classification import Classification, RankCounter, ranks
from search_spaces.training.settings import TrainingSettings
from search_spaces.training.trainer import SupernetTrainer
from tests.networks import colours, small_hrnas

TASK = Classification()


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 99))
def test_a_rank_is_the_labels_place_in_a_stable_sort(images: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(0, 4, (images, classes), generator=generator).float()  # with many equal ones
    labels = torch.randint(0, classes, (images,), generator=generator)
    order = torch.sort(logits, dim=1, descending=True, stable=True).indices
    assert torch.equal(ranks(logits, labels), (order == labels[:, None]).int().argmax(1))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_counts_of_batches_add_up(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(sizes), 7, generator=generator)
    labels = torch.randint(0, 7, (sum(sizes),), generator=generator)
    parts = zip(logits.split(sizes), labels.split(sizes), strict=True)
    total = sum(RankCounter(label).count(part) for part, label in parts)
    assert torch.equal(total, RankCounter(labels).count(logits))  # type: ignore[arg-type]
    found = TASK.metrics(RankCounter(labels).count(logits), ())
    top = logits.topk(5).indices == labels[:, None]
    assert found == {"accuracy": top[:, 0].float().mean(), "top5": pytest.approx(top.any(1).float().mean().item())}


def test_where_nothing_is_counted_there_is_no_number() -> None:
    assert all(map(math.isnan, TASK.metrics(torch.zeros(3, dtype=torch.int64), ()).values()))


def test_the_loss_is_cross_entropy_with_smoothed_labels() -> None:
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1])
    smooth = TrainingSettings(steps=1, label_smoothing=0.3, auxiliary_weight=0.5)
    targets = 0.7 * F.one_hot(labels, 3) + 0.1
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(TASK.loss(logits, [], labels, smooth), expected)
    plain = F.cross_entropy(logits, labels)
    torch.testing.assert_close(TASK.loss(logits, [logits], labels, smooth), expected + 0.5 * plain)
    assert TASK.targets(labels, smooth)[1] == 4


def test_a_supernet_learns_colours_and_resumes_to_the_same_bits() -> None:
    settings = TrainingSettings(steps=12, batch_size=12, optimiser="adamw", learning_rate=0.01, distillation=0.2)
    trainer, other = (SupernetTrainer(small_hrnas("classification"), colours(), settings) for _ in range(2))
    losses = [trainer.train_step().loss for _ in range(12)]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    for _ in range(5):
        other.train_step()
    resumed = SupernetTrainer(small_hrnas("classification"), colours(), settings)
    resumed.restore(other.checkpoint())
    for _ in range(7):
        resumed.train_step()
    weights, again = trainer.weights(), resumed.weights()
    assert all((weights[name] == again[name]).all() for name in weights)
