"""Multiply-adds, parameters and activation sizes, from one pass over shapes: no numbers are computed.

The modules themselves are run on a batch of no images and counted layer by layer, so that a formula cannot drift
from what a module does (the meta device would do as well, but its kernels are Python: ten times slower). Counted are
convolutions, linear layers and the matrix products of attention (the convention of the papers' tables: their "FLOPs"
are multiply-adds); normalisation, activations, resampling and softmax count nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from search_spaces.base import IMAGE, Operation, Program, Violation

Shape = tuple[int, ...]


@runtime_checkable
class MultipliesMatrices(Protocol):
    """A module that multiplies matrices itself, besides what its submodules do."""

    def product_macs(self, pixels: int) -> int:
        """Multiply-adds of its own products over one image of so many pixels."""

    def product_elements(self, pixels: int) -> int:
        """Elements of its own products that training has to keep, for one image of so many pixels."""


@dataclass(frozen=True)
class StepCost:
    """One step at one input size."""

    shape: Shape
    """Of its result."""
    macs: int
    params: int
    activation_elements: int
    """Elements of every tensor that its submodules and its products give: what training has to keep."""
    norm_channels: int
    """Of all its BatchNorms: how many means and variances it has."""


def step_cost(build: Callable[[Operation], nn.Module], operation: Operation, *inputs: Shape) -> StepCost:
    """The cost of one step over inputs of these shapes, (batch, channels, height, width)."""
    batch = inputs[0][0]
    module = build(operation).eval()
    arguments = [torch.empty(0, *shape[1:]) for shape in inputs]
    elements = macs = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal elements, macs
        if isinstance(layer, nn.Conv2d):
            macs += batch * layer.weight.numel() * output.shape[2:].numel()
        if isinstance(layer, nn.Linear):
            macs += batch * layer.weight.numel() * output.shape[1:-1].numel()
        if isinstance(layer, MultipliesMatrices):
            macs += batch * layer.product_macs(output.shape[2:].numel())
            elements += batch * layer.product_elements(output.shape[2:].numel())
        if not any(True for _ in layer.children()):
            elements += batch * output.shape[1:].numel()

    for layer in module.modules():
        layer.register_forward_hook(count)
    with torch.inference_mode():
        result = module(*arguments)
    params = sum(parameter.numel() for parameter in module.parameters())
    norm_channels = sum(layer.num_features for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))
    return StepCost((batch, *result.shape[1:]), macs, params, elements, norm_channels)


@dataclass(frozen=True)
class Complexity:
    """A whole program over one input."""

    macs: int
    params: int
    activation_elements: int
    params_by_operation: dict[str, int]
    """Parameters by operation name."""
    macs_by_operation: dict[str, int]


def training_bytes(cost: Complexity) -> int:
    """Bytes of the activations that a training step in float32 keeps, and of weights, gradients and momentum."""
    return 4 * (cost.activation_elements + 3 * cost.params)


def memory_violations(needed_bytes: int, limit_bytes: int) -> tuple[Violation, ...]:
    """What is wrong with a network whose training takes so many bytes; nothing if they are allowed."""
    if needed_bytes <= limit_bytes:
        return ()
    words = f"training takes {needed_bytes / 2**30:.2f} GiB, allowed are {limit_bytes / 2**30:.2f}"
    return (Violation("memory", needed_bytes / limit_bytes - 1, words),)


class ComplexityCounter:
    """Counts programs of one space; each distinct step size is looked at once."""

    def __init__(self, build: Callable[[Operation], nn.Module]) -> None:
        self._cost = functools.lru_cache(maxsize=None)(functools.partial(step_cost, build))

    def costs(self, program: Program, image: Shape) -> dict[str, StepCost]:
        """The cost of each step by its id, for an input of shape `image`."""
        shapes: dict[str, Shape] = {IMAGE: image}
        costs: dict[str, StepCost] = {}
        for step in program.steps:
            costs[step.id] = self._cost(step.operation, *(shapes[name] for name in step.inputs))
            shapes[step.id] = costs[step.id].shape
        return costs

    def count(self, program: Program, image: Shape) -> Complexity:
        """Multiply-adds of one forward pass and parameters of all steps.

        image: (batch, 3, height, width) of the input.
        """
        costs = self.costs(program, image)
        params: dict[str, int] = {}
        macs: dict[str, int] = {}
        for step in program.steps:
            name = step.operation.name
            params[name] = params.get(name, 0) + costs[step.id].params
            macs[name] = macs.get(name, 0) + costs[step.id].macs
        elements = sum(cost.activation_elements for cost in costs.values())
        return Complexity(sum(macs.values()), sum(params.values()), elements, params, macs)
