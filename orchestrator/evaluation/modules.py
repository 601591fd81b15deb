"""A module per step over weights that are held once: steps of one operation differ in BatchNorm statistics alone.

Parameters are views of the shared weights, which lie where they were put: in a worker on a CPU in the object store's
memory, read in place. So a merged batch of forty networks holds hardly more than one network does, and making a
step's module takes a quarter of the time of building one.
"""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.base import NetworkSpace, Operation
from search_spaces.supernet import Weights


class StepModules:
    """Makes modules for steps.

    Args:
        space: builds the modules.
        weights: shared tensors by name; read, never written.
        device: where the modules run. On a CPU nothing is copied.
        dtype: of parameters and activations; BatchNorm is float32 until it is folded, because means of many batches do
            not add up in bfloat16.
    """

    def __init__(
        self,
        space: NetworkSpace[Any],
        weights: Weights,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.space, self.device, self.dtype = space, torch.device(device), dtype
        self._weights = {name: _read_only(array).to(self.device) for name, array in weights.items()}
        self._templates: dict[Operation, nn.Module] = {}

    def new(self, operation: Operation) -> nn.Module:
        """A module for one step, with statistics of its own."""
        if operation not in self._templates:
            self._templates[operation] = self._template(operation)
        return _twin(self._templates[operation])

    def _template(self, operation: Operation) -> nn.Module:
        module = self.space.build(operation).to(self.device).requires_grad_(False)
        shared = self.space.shared_names(operation)
        for path, layer in module.named_modules():
            dtype = torch.float32 if isinstance(layer, nn.BatchNorm2d) else self.dtype
            for name, parameter in layer.named_parameters(recurse=False):
                whole = self._weights[shared(f"{path}.{name}" if path else name)]
                part = whole[tuple(slice(size) for size in parameter.shape)]
                setattr(layer, name, nn.Parameter(part.to(dtype), requires_grad=False))
        return module


def _read_only(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)  # nor is it written
        return torch.from_numpy(array)


def _twin(module: nn.Module) -> nn.Module:
    """The same module over the same parameters, with buffers of its own."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {name: child and _twin(child) for name, child in module._modules.items()}
    twin.__dict__["_buffers"] = {
        name: buffer if buffer is None else buffer.clone() for name, buffer in module._buffers.items()
    }
    return twin


class FoldedConv(nn.Module):
    """A convolution and the BatchNorm behind it as one convolution, whose kernel is scaled when it runs.

    The scaled kernel is as good as free beside the convolution, and holding it would take a copy of every step's.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.conv = conv
        root = torch.rsqrt(norm.running_var + norm.eps)
        self.scale = (norm.weight * root).view(-1, 1, 1, 1)
        before = 0.0 if conv.bias is None else conv.bias
        self.bias = ((before - norm.running_mean) * root * norm.weight + norm.bias).to(conv.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        kernel = (conv.weight * self.scale).to(conv.weight.dtype)
        return F.conv2d(x, kernel, self.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def fold_norms(module: nn.Module, *, in_place: bool = True) -> None:
    """Folds every BatchNorm2d that directly follows a Conv2d among its parent's children into that convolution.

    in_place: the convolution gets a kernel of its own, so its module must be nobody else's; otherwise the kernel
    stays what it is and is scaled whenever it is used.
    """
    for parent in module.modules():
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(parent, nn.Sequential):
                fold = torch.nn.utils.fusion.fuse_conv_bn_eval if in_place else FoldedConv
                setattr(parent, name, fold(conv, norm))
                setattr(parent, norm_name, nn.Identity())
