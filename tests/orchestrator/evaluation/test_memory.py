"""Memory is known before it is taken: never less than what a run allocates, and batches are cut to fit."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orchestrator.evaluation.executor import Executor
from orchestrator.evaluation.memory import NORM_BYTES, fitting_batches, peak_bytes
from orchestrator.evaluation.modules import StepModules
from orchestrator.evaluation.schedule import merge
from search_spaces.base import Program
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.supernet import Supernet

IMAGE = (4, 3, 96, 128)
SPACE = HyctasSpace(HyctasSettings(layers=5, filters=3), classes=5)


class Allocations(TorchDispatchMode):
    """The most bytes that the results of torch's operations take at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage.data_ptr() not in self.live:
                    self.live[storage.data_ptr()] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def programs(island: str, count: int, seed: int = 0) -> list[Program]:
    rng = np.random.default_rng(seed)
    return [SPACE.lower(SPACE.decode(island, SPACE.sample(island, rng))) for _ in range(count)]


@pytest.mark.parametrize("island", SPACE.islands)
def test_a_run_takes_no_more_than_was_foretold_and_not_much_less(island: str) -> None:
    batch = programs(island, 4)
    weights = Supernet(SPACE, torch.Generator().manual_seed(0)).to_numpy()
    executor = Executor(StepModules(SPACE, weights), batch)
    costs = {name: cost for program in batch for name, cost in SPACE.counter.costs(program, IMAGE).items()}
    foretold = peak_bytes(executor.schedule, costs, torch.float32)
    statistics = NORM_BYTES * sum(costs[step.id].norm_channels for step in executor.schedule.steps)
    images = torch.rand(IMAGE, generator=torch.Generator().manual_seed(0))
    executor.recalibrate([images])
    executor.fold()
    with Allocations() as allocations:
        executor.run(images, lambda _index, _logits: None)
    assert allocations.peak + statistics <= foretold
    assert foretold <= 4 * allocations.peak + statistics


@given(st.integers(1, 9), st.integers(0, 100), st.floats(0.2, 3))
def test_batches_are_consecutive_complete_and_fit(count: int, seed: int, share: float) -> None:
    batch = programs("branches-2", count, seed)
    costs = {name: cost for program in batch for name, cost in SPACE.counter.costs(program, IMAGE).items()}
    limit = int(share * peak_bytes(merge(batch[:1]), costs, torch.float32))
    cut = fitting_batches(batch, SPACE.counter, IMAGE, torch.float32, limit)
    assert [index for part in cut for index in part] == list(range(count))
    for part in cut:
        assert len(part) == 1 or peak_bytes(merge([batch[i] for i in part]), costs, torch.float32) <= limit


def test_no_programs_make_no_batches() -> None:
    assert fitting_batches([], SPACE.counter, IMAGE, torch.float32, 1) == []
