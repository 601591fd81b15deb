"""The weights that all architectures of a space share, and how a step takes its part of them.

A supernet holds one tensor per shared name at its largest size. A step's parameters are leading slices of them
(slimmable weights), handed to the plain module that the space builds for the step's operation: a subnet in training,
a subnet under evaluation and a network cut out for export run the same modules.

Source: slimmable networks (Yu et al., ICLR 2019), as HyCTAS uses them in section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces.base import IMAGE, NetworkSpace, Operation, Program
from search_spaces.drop_path import DropsPaths

Weights = Mapping[str, np.ndarray]
"""Shared tensors by name, as the store and the workers hold them."""


class Supernet(nn.Module):
    """Shared weights of a space, run one subnet at a time with batch statistics: what training optimises.

    Args:
        space: whose operations the steps name.
        generator: draws the initial weights.
        batch_norm: what computes BatchNorm.
    """

    def __init__(
        self,
        space: NetworkSpace[Any],
        generator: torch.Generator,
        batch_norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.space, self._batch_norm = space, batch_norm
        self._templates: dict[Operation, tuple[nn.Module, dict[str, str]]] = {}
        self._drop_path: tuple[float, torch.Generator | None] = 0.0, None
        sizes: dict[str, tuple[int, ...]] = {}
        for operation in dict.fromkeys(space.largest_operations()):
            module, names = self._template(operation)
            for name, parameter in module.named_parameters():
                size = sizes.get(names[name], parameter.shape)
                sizes[names[name]] = tuple(map(max, zip(size, parameter.shape, strict=True)))
        self.weights = nn.ParameterDict({_key(name): _initial(name, size, generator) for name, size in sizes.items()})

    def _template(self, operation: Operation) -> tuple[nn.Module, dict[str, str]]:
        """The operation's module without storage, using batch statistics, and its parameters' shared names."""
        if operation not in self._templates:
            with torch.device("meta"):
                module = self.space.build(operation)
                for name, layer in list(module.named_modules()):
                    if isinstance(layer, nn.BatchNorm2d):
                        norm = self._batch_norm(layer.num_features, layer.eps, track_running_stats=False)
                        module.set_submodule(name, norm)
            shared = self.space.shared_names(operation)
            self._templates[operation] = module, {name: shared(name) for name, _ in module.named_parameters()}
            _set_drop_path(module, *self._drop_path)
        return self._templates[operation]

    def set_drop_path(self, rate: float, generator: torch.Generator | None = None) -> None:
        """From now on residual branches are left out at this rate, drawn by `generator`, on the weights' device."""
        self._drop_path = rate, generator
        for module, _ in self._templates.values():
            _set_drop_path(module, rate, generator)

    def parameters_of(self, operation: Operation) -> dict[str, Tensor]:
        """The operation's parameters by their names in its module: views of the shared weights."""
        module, names = self._template(operation)
        wholes = {name: (self.weights[_key(names[name])], of.shape) for name, of in module.named_parameters()}
        return {
            name: whole if whole.shape == shape else whole[tuple(map(slice, shape))]
            for name, (whole, shape) in wholes.items()
        }

    def forward(self, programs: Sequence[Program], image: Tensor) -> list[list[Tensor]]:
        """Of each program the results of its output and its auxiliary steps, with gradients to the shared weights.

        Steps that programs have in common, such as the stem, are computed once, forwards and backwards.

        image: (batch, 3, height, width), float.
        """
        results = {IMAGE: image}
        for step in {step.id: step for program in programs for step in program.steps}.values():
            inputs = tuple(results[name] for name in step.inputs)
            module, _ = self._template(step.operation)
            results[step.id] = functional_call(module, self.parameters_of(step.operation), inputs)
        return [[results[name] for name in (program.output, *program.auxiliary)] for program in programs]

    def to_numpy(self) -> dict[str, np.ndarray]:
        """A copy of the shared weights by name."""
        return {shared_name(key): weight.detach().cpu().numpy().copy() for key, weight in self.weights.items()}

    def load_numpy(self, weights: Weights) -> None:
        """Takes over weights of the same space.

        Raises:
            ValueError: names or sizes are another space's.
        """
        mine = {shared_name(key): tuple(weight.shape) for key, weight in self.weights.items()}
        theirs = {name: tuple(weight.shape) for name, weight in weights.items()}
        if mine != theirs:
            name = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))[0]
            raise ValueError(
                f"weights are of another space: {name} is {theirs.get(name)}, this space has {mine.get(name)}"
            )
        with torch.no_grad():
            for name, weight in weights.items():
                self.weights[_key(name)].copy_(torch.tensor(weight))


def cut(space: NetworkSpace[Any], operation: Operation, weights: Weights) -> nn.Module:
    """A plain module of its own for one operation, its parameters copied from the shared weights."""
    module = space.build(operation)  # initialised for nothing: on the meta device, in Python, it takes twice as long
    shared = space.shared_names(operation)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            part = weights[shared(name)][tuple(slice(size) for size in parameter.shape)]
            parameter.copy_(torch.tensor(part))
    return module


def _set_drop_path(module: nn.Module, rate: float, generator: torch.Generator | None) -> None:
    for layer in module.modules():
        if isinstance(layer, DropsPaths):
            layer.drop_rate, layer.drop_generator = rate, generator


def _key(name: str) -> str:
    """A shared name as a parameter's name, which torch forbids dots in."""
    return name.replace(".", ":")


def shared_name(key: str) -> str:
    """The shared name of a parameter of `Supernet.weights`."""
    return key.replace(":", ".")


def _initial(name: str, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """He's normal initialisation for convolutions; scales start at 1, biases and gates of attention at 0."""
    if len(size) > 1:
        tensor = torch.empty(size)
        return nn.init.kaiming_normal_(tensor, nonlinearity="relu", generator=generator)
    return torch.ones(size) if name.endswith("weight") else torch.zeros(size)
