"""One architecture as a plain module of its own: what is timed, retrained and exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from search_spaces.base import IMAGE, NetworkSpace, Program
from search_spaces.supernet import Weights, cut


class Subnet(nn.Module):
    """A program with a module per step, run in order.

    Args:
        program: what to compute.
        modules: by step id; each step of the program has one.
    """

    def __init__(self, program: Program, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.program = program
        self.steps = nn.ModuleDict({step.id: modules[step.id] for step in program.steps})

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (batch, classes, height / stride, width / stride) of image (batch, 3, height, width)."""
        results = {IMAGE: image}
        for step in self.program.steps:
            results[step.id] = self.steps[step.id](*(results[name] for name in step.inputs))
        return results[self.program.output]


def materialise(space: NetworkSpace[Any], architecture: Any, weights: Weights) -> Subnet:
    """The architecture cut out of a supernet: a module with copies of its weights, BatchNorm not yet calibrated."""
    program = space.lower(architecture)
    return Subnet(program, {step.id: cut(space, step.operation, weights) for step in program.steps})
