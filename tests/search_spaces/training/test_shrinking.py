"""Shrinking: the penalty pulls, units go with all that belongs to them, and what resumes ends the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.hrnas.architecture import HrnasArchitecture
from search_spaces.hrnas.units import compacted, kept_units
from search_spaces.training.settings import ShrinkingSettings, TrainingSettings
from search_spaces.training.shrinking import ShrinkingTrainer
from tests.networks import scenes, small_hrnas

STEPS = 9


def trainer(penalty: float = 0.0, shrinking: Mapping[str, Any] | None = None, **settings: Any) -> ShrinkingTrainer:
    """One that removes half of its units early: scales that begin at 1 and have moved down."""
    options = {"steps": STEPS, "batch_size": 4, "loss_stride": 4, "sandwich": False, "distillation": 0, **settings}
    when = {"penalties": (penalty,), "every_steps": 4, "threshold": 0.999, **(shrinking or {})}
    space = small_hrnas(parts=None, branches=(3,))
    return ShrinkingTrainer(space, scenes(), TrainingSettings(**options), ShrinkingSettings(**when), penalty)


def units(architecture: HrnasArchitecture) -> int:
    return sum(sum(block.channels) + block.tokens for block in architecture.blocks)


def test_the_penalty_adds_its_weight_times_the_saving_to_the_gradient_of_each_scale() -> None:
    made = trainer()
    savings = {group.scale: group.saved_macs for group in made.groups}
    mean = sum(group.saved_macs * group.count for group in made.groups) / units(made.architecture)
    scales = {name: made.supernet.weights[name.replace(".", ":")] for name in savings}
    with torch.no_grad():
        for scale in scales.values():
            scale[0] = -0.3
    made.cost().backward()
    for name, scale in scales.items():
        assert scale.grad is not None
        assert torch.allclose(scale.grad, savings[name] / mean * scale.detach().sign())
    assert trainer().cost().item() == pytest.approx(units(made.architecture))  # savings are 1 on average


def test_the_penalty_rises_linearly() -> None:
    made = trainer(0.2, {"warmup_steps": 4})
    assert [made.penalty_weight(step) for step in (0, 1, 2, 4, 8)] == pytest.approx([0, 0.05, 0.1, 0.2, 0.2])


def test_a_penalty_makes_units_unimportant_in_proportion_to_what_they_save() -> None:
    without, made = trainer(0, {"threshold": 1e-9}), trainer(0.05, {"threshold": 1e-9})
    for one in (without, made):
        for _ in range(STEPS):
            one.train_step()
    pulled = [
        (group.saved_macs, float(np.mean(without.weights()[group.scale] - made.weights()[group.scale])))
        for group in made.groups
    ]
    assert all(by > 0 for _, by in pulled)
    assert np.corrcoef(np.array(pulled).T)[0, 1] > 0.9


@pytest.mark.parametrize("average_decay", [None, 0.5])
@pytest.mark.parametrize(("optimiser", "fields"), [("sgd", 1), ("adamw", 2)])
def test_a_unit_leaves_nothing_behind(optimiser: str, fields: int, average_decay: float | None) -> None:
    """Weights, momenta and average of those that stay are what they were; of the others there is nothing."""
    made = trainer(shrinking={"every_steps": 5}, optimiser=optimiser, average_decay=average_decay)
    for _ in range(3):
        made.train_step()
    before, groups, macs = made.checkpoint(), made.groups, made.macs
    kept = kept_units(groups, made.weights(), 0.999)
    made.remove()
    after = made.checkpoint()
    assert 0 < units(made.architecture) == sum(map(len, kept.values())) < sum(group.count for group in groups)
    assert made.macs < macs
    tensors: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in before.items():
        field, _, name = key.partition("/")
        tensors.setdefault(field, {})[name] = tensor
    shrunk = [field for field in tensors if field not in ("step", "units", "step_of")]
    assert len(shrunk) == 1 + fields + (average_decay is not None)
    names = {key.partition("/")[2] for key in after if key.startswith("weights/")}
    for field in shrunk:
        for name, tensor in compacted(tensors[field], groups, kept).items():
            assert (f"{field}/{name}" in after) == (name in names)
            if name in names:
                assert np.array_equal(after[f"{field}/{name}"], tensor)


@pytest.mark.parametrize(("optimiser", "average_decay"), [("sgd", None), ("adamw", 0.5)])
def test_what_resumes_ends_with_the_same_weights_to_the_bit(optimiser: str, average_decay: float | None) -> None:
    """Removals are after the steps 4, 8 and 9."""
    settings = {"optimiser": optimiser, "average_decay": average_decay}
    whole = trainer(0.01, **settings)
    states, macs = {}, [whole.macs]
    for _ in range(STEPS):
        whole.train_step()
        states[whole.step] = whole.checkpoint()
        macs.append(whole.macs)
    assert macs == sorted(macs, reverse=True)
    assert macs[0] == macs[3] > macs[4] == macs[7] > macs[8]
    for cut in (3, 4, 6, 8):
        resumed = trainer(0.01, **settings)
        resumed.restore(states[cut])
        assert resumed.macs == macs[cut]
        while resumed.step < STEPS:
            resumed.train_step()
        end = resumed.checkpoint()
        assert end.keys() == states[STEPS].keys()
        assert all(np.array_equal(end[key], tensor) for key, tensor in states[STEPS].items())


def test_a_network_may_lose_all_of_its_units() -> None:
    made = trainer(shrinking={"threshold": 100.0})
    losses = [made.train_step().loss for _ in range(STEPS)]
    assert units(made.architecture) == 0
    assert made.groups == ()
    assert made.cost().item() == 0
    assert np.isfinite(losses).all()
    assert str(made.architecture) == "0+0+0, 0 tokens, 14 empty"


@pytest.mark.parametrize(("every", "steps"), [(4, (0, 4, 8, 9)), (3, (0, 3, 6, 9)), (100, (0, 9))])
def test_snapshots_are_at_the_start_after_removals_and_at_the_end(every: int, steps: tuple[int, ...]) -> None:
    assert ShrinkingSettings(penalties=(0.1,), every_steps=every).snapshot_steps(STEPS) == steps
