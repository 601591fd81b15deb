"""How much memory a batch of programs takes, known before it runs; and how a batch that would not fit is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from orchestrator.evaluation.schedule import Schedule, merge
from search_spaces.base import Program
from search_spaces.complexity import ComplexityCounter, Shape, StepCost

NORM_BYTES = 16
"""Of a BatchNorm's channel: mean and variance, and the scale and bias into which they are folded, float32."""


def peak_bytes(schedule: Schedule, costs: Mapping[str, StepCost], dtype: torch.dtype) -> int:
    """Bytes that running a schedule takes at most: activations at their peak, and every step's statistics.

    A step under way is counted with all that its layers give, as if nothing of it were freed before its end, and with
    two copies of its parameters (scaled, and as the kernels want them), so this is never too small. The shared
    weights are not counted: they are there before and after.

    costs: of every step by its id, for the batch of images that runs through.
    """
    live: dict[str, int] = {}
    peak = 0
    for instruction in schedule.instructions:
        step = instruction.step
        cost = costs[step.id]
        peak = max(peak, sum(live.values()) + cost.activation_elements + 2 * cost.params)
        live[step.id] = torch.Size(cost.shape).numel()
        for name in instruction.frees:
            del live[name]
    return peak * dtype.itemsize + NORM_BYTES * sum(costs[step.id].norm_channels for step in schedule.steps)


def fitting_batches(
    programs: Sequence[Program], counter: ComplexityCounter, image: Shape, dtype: torch.dtype, limit_bytes: int
) -> list[range]:
    """The programs' positions in consecutive batches that fit into `limit_bytes`; one alone is never refused.

    image: (images in a batch, 3, height, width).
    """
    costs = {name: cost for program in programs for name, cost in counter.costs(program, image).items()}
    batches: list[range] = []
    waiting = [range(len(programs))] if programs else []
    while waiting:
        batch = waiting.pop()
        schedule = merge([programs[index] for index in batch])
        if len(batch) == 1 or peak_bytes(schedule, costs, dtype) <= limit_bytes:
            batches.append(batch)
        else:
            middle = len(batch) // 2
            waiting += [batch[middle:], batch[:middle]]
    return batches
