"""Running programs: statistics in closed form, and results that depend on nothing but the program itself."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from orchestrator.config import LatencySettings
from orchestrator.evaluation.executor import Executor
from orchestrator.evaluation.latency import MIN_RUNS, LatencyMeter
from orchestrator.evaluation.modules import StepModules, fold_norms
from search_spaces.base import IMAGE, Operation, Program, Step
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.layers import ConvNorm
from search_spaces.supernet import Weights
from tests.networks import by_ends, scenes, small_space


@pytest.fixture(scope="module")
def programs(space: HyctasSpace) -> list[Program]:
    """Two of each combination of ends, of all islands."""
    return [space.lower(one) for seed in (0, 1) for one in by_ends(space, seed).values()]


def batches(count: int = 2, size: int = 8) -> list[Tensor]:
    data = scenes()
    return [data.normalise(data.train.images[first : first + size]) for first in range(0, count * size, size)]


def images() -> Tensor:
    return scenes().normalise(scenes().validation.images[:4])


def logits(space: HyctasSpace, weights: Weights, programs: Sequence[Program], fold: bool = True) -> list[Tensor]:
    executor = Executor(StepModules(space, weights), programs)
    executor.recalibrate(batches())
    if fold:
        executor.fold()
    found: dict[int, Tensor] = {}
    executor.run(images(), found.__setitem__)
    return [found[index] for index in range(len(programs))]


@pytest.fixture(scope="module")
def alone(space: HyctasSpace, weights: Weights, programs: list[Program]) -> list[Tensor]:
    """The logits of each program, evaluated with nothing else."""
    return [logits(space, weights, [program])[0] for program in programs]


def bit_equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_merged_programs_give_the_bits_that_each_gives_alone(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor]
) -> None:
    assert bit_equal(logits(space, weights, programs), alone)
    assert bit_equal(logits(space, weights, programs[::-1]), alone[::-1])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_no_split_of_a_batch_changes_a_bit(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor], size: int
) -> None:
    for first in range(0, len(programs), size):
        part = slice(first, first + size)
        assert bit_equal(logits(space, weights, programs[part]), alone[part])


def test_no_order_changes_a_bit(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor]
) -> None:
    for order in permutations((0, 3, 6)):
        assert bit_equal(logits(space, weights, [programs[i] for i in order]), [alone[i] for i in order])


def test_the_same_program_twice_gives_its_result_twice(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor]
) -> None:
    assert bit_equal(logits(space, weights, [programs[0], programs[0]]), [alone[0], alone[0]])


def test_recalibrating_again_forgets_the_first_time(
    space: HyctasSpace, weights: Weights, programs: list[Program]
) -> None:
    once, twice = (Executor(StepModules(space, weights), programs[:2]) for _ in range(2))
    twice.recalibrate(batches(3, 4))
    for executor in (once, twice):
        executor.recalibrate(batches())
    for step_id, module in once.modules.items():
        other = twice.modules[step_id].state_dict()
        assert all(torch.equal(value, other[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_the_mean_of_those_of_the_batches(weights: Weights, dtype: torch.dtype) -> None:
    """On one step: of its first normalisation, whose input does not depend on other statistics."""
    space = small_space()
    operation = space.lower(next(iter(by_ends(space).values()))).steps[0].operation
    step = Step(operation, (IMAGE,))
    executor = Executor(StepModules(space, weights, dtype=dtype), [Program((step,), step.id)])
    calibration = [batch.to(dtype) for batch in (*batches(2, 8), scenes().normalise(scenes().train.images[16:19]))]
    executor.recalibrate(calibration)
    first = executor.modules[step.id][0]
    with torch.inference_mode():
        features = [first.conv(batch).double() for batch in calibration]
    mean = torch.stack([feature.mean(dim=(0, 2, 3)) for feature in features]).mean(0)
    variance = torch.stack([feature.var(dim=(0, 2, 3)) for feature in features]).mean(0)
    torch.testing.assert_close(first.norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)


def test_folding_keeps_the_logits(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor]
) -> None:
    for folded, unfolded in zip(alone, logits(space, weights, programs, fold=False), strict=True):
        torch.testing.assert_close(folded, unfolded, rtol=0, atol=1e-5 * float(unfolded.abs().max()))


def test_folding_leaves_no_norm_behind_a_convolution() -> None:
    network = nn.Sequential(ConvNorm(3, 8, 3, relu=True), nn.Sequential(ConvNorm(8, 4, 1)), nn.BatchNorm2d(4)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    folded = copy.deepcopy(network)
    fold_norms(folded)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules()) == 1
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_near_float32_and_not_the_same(
    space: HyctasSpace, weights: Weights, programs: list[Program], alone: list[Tensor]
) -> None:
    executor = Executor(StepModules(space, weights, dtype=torch.bfloat16), programs[:3])
    executor.recalibrate(batch.bfloat16() for batch in batches())
    executor.fold()
    found: dict[int, Tensor] = {}
    executor.run(images().bfloat16(), found.__setitem__)
    for index, exact in enumerate(alone[:3]):
        assert found[index].dtype == torch.bfloat16
        error = (found[index].float() - exact).norm() / exact.norm()
        assert 0 < error < 0.1


def test_weights_are_read_and_never_written(space: HyctasSpace, weights: Weights, programs: list[Program]) -> None:
    assert not any(array.flags.writeable for array in weights.values())
    before = {name: array.copy() for name, array in weights.items()}
    logits(space, weights, programs[:2])
    assert all((array == before[name]).all() for name, array in weights.items())


def test_latency_has_a_median_a_spread_and_enough_runs() -> None:
    network = nn.Sequential(ConvNorm(3, 4, 3, stride=2, relu=True), ConvNorm(4, 4, 3))
    meter = LatencyMeter(LatencySettings(window_s=0.05), (1, 3, 32, 32), torch.device("cpu"), torch.float32)
    metrics = meter.measure(network)
    assert {name.removeprefix("latency_") for name in metrics} == {"ms", "iqr_ms", "runs", "reference_ms", "unsteady"}
    assert metrics["latency_unsteady"] in (0, 1)
    assert metrics["latency_reference_ms"] > 0
    assert 0 < metrics["latency_ms"] < 50
    assert 0 <= metrics["latency_iqr_ms"] < math.inf
    assert metrics["latency_runs"] >= MIN_RUNS


class Stumbles(nn.Module):
    """Takes 5 ms at every second run, so no window of it is steady."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        time.sleep(0.005 * (self.runs % 2))
        return x


def test_what_is_never_steady_is_marked() -> None:
    meter = LatencyMeter(LatencySettings(window_s=0.02), (1, 3, 8, 8), torch.device("cpu"), torch.float32)
    assert meter.measure(Stumbles())["latency_unsteady"] == 1


def test_a_slow_network_is_timed_a_few_times_however_short_the_window() -> None:
    meter = LatencyMeter(LatencySettings(window_s=1e-6), (1, 3, 32, 32), torch.device("cpu"), torch.float32)
    assert meter.measure(nn.Sequential(ConvNorm(3, 4, 3)))["latency_runs"] == MIN_RUNS


def test_a_larger_network_takes_longer() -> None:
    meter = LatencyMeter(LatencySettings(window_s=0.1), (1, 3, 96, 96), torch.device("cpu"), torch.float32)
    small, large = (meter.measure(nn.Sequential(ConvNorm(3, width, 7)))["latency_ms"] for width in (1, 128))
    assert large > small


def test_an_operation_that_the_space_does_not_have_is_said(space: HyctasSpace, weights: Weights) -> None:
    step = Step(Operation.of("pool"), (IMAGE,))
    with pytest.raises(ValueError, match=r"has no operation 'pool'"):
        Executor(StepModules(space, weights), [Program((step,), step.id)])
