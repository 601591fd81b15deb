"""How much memory a batch of programs takes, known before it runs; and how a batch that would not fit is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from orchestrator.evaluation.schedule import Schedule, merge
from search_spaces.base import Program
from search_spaces.complexity import ComplexityCounter, Shape, StepCost


def peak_bytes(schedule: Schedule, costs: Mapping[str, StepCost], dtype: torch.dtype) -> int:
    """Bytes that running a schedule takes at most: the steps' parameters, and activations at their peak.

    A step under way is counted with all that its layers give, as if nothing of it were freed before its end, so this
    is never too small.

    costs: of every step by its id, for the batch of images that runs through.
    """
    live: dict[str, int] = {}
    peak = 0
    for instruction in schedule.instructions:
        step = instruction.step
        cost = costs[step.id]
        peak = max(peak, sum(live.values()) + cost.activation_elements)
        live[step.id] = torch.Size(cost.shape).numel()
        for name in instruction.frees:
            del live[name]
    params = sum(costs[step.id].params for step in schedule.steps)
    return (peak + params) * dtype.itemsize


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
