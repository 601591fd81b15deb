"""Supernet training: it learns, it repeats, it resumes to the bit, and its options do what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from search_spaces.alone import AloneSpace
from search_spaces.data.settings import AugmentationSettings
from search_spaces.training.settings import TrainingSettings
from search_spaces.training.trainer import SupernetTrainer
from tests.networks import by_ends, scenes, small_space

Arrays = Mapping[str, np.ndarray]


def trainer(seed: int = 0, filters: int = 2, **settings: object) -> SupernetTrainer:
    options = {"steps": 8, "batch_size": 4, "loss_stride": 4, **settings}
    return SupernetTrainer(small_space(layers=3, filters=filters), scenes(), TrainingSettings(**options), seed)  # type: ignore[arg-type]


def trained(steps: int, seed: int = 0, **settings: object) -> SupernetTrainer:
    made = trainer(seed, **settings)
    for _ in range(steps):
        made.train_step()
    return made


def same(first: Arrays, second: Arrays) -> bool:
    assert first.keys() == second.keys()
    return all(np.array_equal(array, second[name]) for name, array in first.items())


def changed(settings: dict[str, object], steps: int = 1, seed: int = 0) -> set[str]:
    """The tensors that training changed; without weight decay those are the ones that had a gradient."""
    before = trainer(seed, **settings).weights()
    after = trained(steps, seed, **settings).weights()
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize(("optimiser", "learning_rate"), [("sgd", 0.02), ("adamw", 0.003)])
def test_a_short_training_reduces_the_loss(optimiser: str, learning_rate: float) -> None:
    made = trainer(steps=40, optimiser=optimiser, learning_rate=learning_rate, schedule="cosine")
    losses = [made.train_step().loss for _ in range(40)]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-12:]) < 0.85 * np.mean(losses[:4])


def test_one_network_alone_is_trained_the_same_way() -> None:
    space = small_space(layers=3)
    settings = TrainingSettings(steps=30, batch_size=4, loss_stride=4, sandwich=False, distillation=0)
    made = SupernetTrainer(AloneSpace(space, by_ends(space)[0, 1]), scenes(), settings)
    losses = [made.train_step().loss for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3])


@pytest.mark.parametrize("average_decay", [None, 0.99])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_training_that_resumes_ends_with_the_same_weights_to_the_bit(
    optimiser: str, average_decay: float | None
) -> None:
    settings = {"optimiser": optimiser, "average_decay": average_decay, "warmup_largest_steps": 2}
    whole = trained(8, **settings)
    # 24 images in batches of 4: the cut is inside of an epoch, and some weights had no gradient before it
    for cut in (1, 5):
        resumed = trainer(**settings)
        resumed.restore(trained(cut, **settings).checkpoint())
        assert resumed.step == cut
        for _ in range(8 - cut):
            resumed.train_step()
        assert same(resumed.checkpoint(), whole.checkpoint())
        assert same(resumed.weights(), whole.weights())


def test_a_checkpoint_is_a_copy() -> None:
    made = trained(2)
    state = made.checkpoint()
    before = {name: array.copy() for name, array in state.items()}
    made.train_step()
    assert same(state, before)


def test_restoring_forgets_what_was_trained_before() -> None:
    state = trained(3).checkpoint()
    fresh, used = trainer(), trained(5)
    for one in (fresh, used):
        one.restore(state)
        one.train_step()
    assert same(fresh.checkpoint(), used.checkpoint())


def test_the_seed_is_everything() -> None:
    assert same(trained(3, seed=1).weights(), trained(3, seed=1).weights())
    assert not same(trainer(seed=1).weights(), trainer(seed=2).weights())


def test_weights_of_another_space_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weights are of another space: .* is \(\d+,.*\), this space has \(\d+,.*\)"):
        trainer().restore(trainer(filters=3).checkpoint())


@pytest.mark.parametrize(("kept", "wanted", "word"), [(0.9, None, "a"), (None, 0.9, "no")])
def test_a_checkpoint_with_another_kind_of_average_is_refused(
    kept: float | None, wanted: float | None, word: str
) -> None:
    with pytest.raises(ValueError, match=f"the checkpoint has {word} moving average, training.average_decay"):
        trainer(average_decay=wanted).restore(trainer(average_decay=kept).checkpoint())


# ---- learning rates


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("exponential", [1, 0.992, 0.992**4, 0.992**16]),  # 24 images of batch 4: an epoch is 6 steps
        ("cosine", [1, *(0.5 * (1 + math.cos(math.pi * done)) for done in (0.06, 0.24, 0.96))]),
        ("poly", [1, 0.94**0.9, 0.76**0.9, 0.04**0.9]),
    ],
)
def test_learning_rates_fall_as_the_schedule_says(schedule: str, rates: list[float]) -> None:
    made = trainer(steps=100, schedule=schedule, learning_rate=0.5)
    assert [made.learning_rate(step) for step in (0, 6, 24, 96)] == pytest.approx([0.5 * rate for rate in rates])


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_cosine_and_poly_end_at_nothing(schedule: str) -> None:
    assert trainer(steps=100, schedule=schedule).learning_rate(100) == 0


def test_learning_rates_rise_linearly_at_first() -> None:
    made = trainer(steps=100, warmup_steps=3, learning_rate=0.4)
    assert [made.learning_rate(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])


# ---- options


def test_the_sandwich_trains_the_largest_in_each_step() -> None:
    """Which goes through the first cell's convolution at stride 8; random subnets do not always."""
    name, plain = "cell/0/8/conv/body.kernel3.norm.weight", {"weight_decay": 0, "distillation": 0}
    with_it = [name in changed({**plain, "sandwich": True}, seed=seed) for seed in range(4)]
    without = [name in changed({**plain, "sandwich": False}, seed=seed) for seed in range(4)]
    assert all(with_it)
    assert not all(without)


def test_the_largest_is_trained_alone_at_first() -> None:
    names = changed({"weight_decay": 0, "warmup_largest_steps": 2}, steps=2)
    assert not [name for name in names if name.startswith("cell/") and "conv" not in name and "kernel3" not in name]
    names = changed({"weight_decay": 0, "warmup_largest_steps": 2}, steps=8)
    assert any("attention" in name for name in names if name.startswith("cell/"))


def test_the_largest_alone_needs_no_sandwich() -> None:
    settings = {"warmup_largest_steps": 2, "distillation": 0}
    assert same(trained(2, sandwich=True, **settings).weights(), trained(2, sandwich=False, **settings).weights())


def test_more_subnets_reach_more_weights() -> None:
    plain = {"weight_decay": 0, "sandwich": False, "distillation": 0}
    one, four = (changed({**plain, "subnets_per_step": count}) for count in (1, 4))
    assert len(four) > len(one)


def test_distillation_changes_what_random_subnets_learn_and_not_how_they_are_judged() -> None:
    plain, distilled = trainer(distillation=0), trainer(distillation=1)
    assert plain.train_step() == distilled.train_step()
    assert not same(plain.weights(), distilled.weights())
    alone = {"warmup_largest_steps": 3}
    assert same(trained(3, distillation=0, **alone).weights(), trained(3, distillation=1, **alone).weights())


def test_distillation_without_the_sandwich_is_refused() -> None:
    with pytest.raises(ValueError, match=r"distillation needs sandwich: true, got distillation 0\.5"):
        TrainingSettings(steps=1, sandwich=False)


def test_auxiliary_heads_are_trained_by_their_weight() -> None:
    settings = {"weight_decay": 0, "subnets_per_step": 2}
    assert any(name.startswith("auxiliary/") for name in changed({**settings, "auxiliary_weight": 0.2}))
    assert not any(name.startswith("auxiliary/") for name in changed({**settings, "auxiliary_weight": 0}))


def test_gradients_are_clipped_to_their_norm() -> None:
    settings = {"weight_decay": 0, "learning_rate": 0.5, "gradient_norm": 0.01}
    before, after = trainer(**settings).weights(), trained(1, **settings).weights()
    moved = math.sqrt(sum(float(((after[name] - before[name]).astype(np.float64) ** 2).sum()) for name in before))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-2)


def test_only_convolution_weights_decay() -> None:
    settings = {"learning_rate": 1e-3, "gradient_norm": 1e-9, "weight_decay": 0.5, "momentum": 0}
    before, after = trainer(**settings).weights(), trained(1, **settings).weights()
    moved = {name for name in before if not np.allclose(before[name], after[name], rtol=1e-5, atol=1e-9)}
    assert moved
    assert all(before[name].ndim > 1 for name in moved)
    for name in moved:
        np.testing.assert_allclose(after[name], before[name] * (1 - 0.5e-3), rtol=1e-4, atol=1e-7)


def test_the_moving_average_is_what_is_searched() -> None:
    first, last = trainer().weights(), trained(1).weights()
    average = trained(1, average_decay=0.99).weights()  # the first step keeps 1 part in 10
    for name, array in average.items():
        np.testing.assert_allclose(array, 0.1 * first[name] + 0.9 * last[name], rtol=1e-5, atol=1e-7)


def test_islands_are_drawn_by_their_probabilities() -> None:
    assert trainer().probabilities == pytest.approx([0.2, 0.3, 0.5])
    assert trainer(island_probabilities=(1, 1, 2)).probabilities == pytest.approx([0.25, 0.25, 0.5])
    names = changed({"weight_decay": 0, "sandwich": False, "distillation": 0, "island_probabilities": (1, 1e-9, 1e-9)})
    assert len({name for name in names if name.startswith("cell/0/")}) > 0
    assert not any(name.startswith("fusion/8/8-16") for name in names)


def test_probabilities_of_other_islands_are_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.island_probabilities must have 3 entries \(.*\), got 2"):
        trainer(island_probabilities=(0.5, 0.5))


@pytest.mark.parametrize("options", [{"hardest_fraction": 0.2}, {"loss_stride": 8}, {"loss_stride": 1}])
def test_losses_of_a_part_of_the_pixels_are_finite(options: dict[str, object]) -> None:
    assert math.isfinite(trainer(**options).train_step().loss)


def test_batches_may_be_larger_than_the_data_set_and_crops_smaller_than_images() -> None:
    made = trainer(batch_size=25, augmentation=AugmentationSettings(crop=(32, 32)))
    assert math.isfinite(made.train_step().loss)
