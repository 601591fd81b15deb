"""Runs programs: BatchNorm statistics are taken over calibration images, then results over any images.

Each step has a module of its own, cut out of the shared weights, so its statistics belong to the step's id and to
nothing else: a candidate's results do not depend on what is evaluated with it, before it or after it.

Activations lie channels last: on CPUs that takes two thirds to three quarters of the time of channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.evaluation.schedule import Schedule, merge
from search_spaces.base import IMAGE, NetworkSpace, Program
from search_spaces.supernet import Weights, cut


class Executor:
    """Several programs over one supernet's weights, recalibrated together.

    Args:
        space: builds the steps' modules.
        weights: shared tensors by name; read, never written.
        programs: run as one; each distinct step is computed once per batch.
        device: where modules and images lie.
        dtype: of parameters and activations; BatchNorm is float32 until it is folded, because means of many batches do
            not add up in bfloat16.
    """

    def __init__(
        self,
        space: NetworkSpace[Any],
        weights: Weights,
        programs: Sequence[Program],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.schedule: Schedule = merge(programs)
        self.modules = {step.id: cut(space, step.operation, weights) for step in self.schedule.steps}
        for module in self.modules.values():
            _laid_out(module, torch.device(device), dtype)

    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Replaces all BatchNorm statistics by the mean over `batches` of each batch's own.

        batches: images (b, 3, h, w); a batch is normalised by its own statistics while they are taken.
        """
        for layer in self._norms():
            layer.reset_running_stats()
            layer.momentum = None
        self._train(True)
        for images in batches:
            self.run(images, lambda _index, _output: None)
        self._train(False)

    def fold(self) -> None:
        """Folds each BatchNorm that follows a convolution into it: fewer passes over activations from here on."""
        for module in self.modules.values():
            fold_norms(module)

    @torch.inference_mode()
    def run(self, images: Tensor, take: Callable[[int, Tensor], None]) -> None:
        """Gives each program's result over `images` (b, 3, h, w) to `take(index, result)`, as soon as it is there."""
        readers: dict[str, list[int]] = {}
        for index, output in enumerate(self.schedule.outputs):
            readers.setdefault(output, []).append(index)
        results = {IMAGE: images.contiguous(memory_format=torch.channels_last)}
        for instruction in self.schedule.instructions:
            step = instruction.step
            result = self.modules[step.id](*(results[name] for name in step.inputs))
            results[step.id] = result
            for index in readers.get(step.id, ()):
                take(index, result)
            del result
            for name in instruction.frees:
                del results[name]

    def _norms(self) -> Iterable[nn.BatchNorm2d]:
        for module in self.modules.values():
            yield from (layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))

    def _train(self, mode: bool) -> None:
        for module in self.modules.values():
            module.train(mode)


def _laid_out(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Puts a module's parameters where and how the executor wants them: kernels channels last, BatchNorm in float32."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.to(device)
            continue
        for parameter in layer.parameters(recurse=False):
            layout = torch.channels_last if parameter.dim() == 4 else torch.preserve_format
            parameter.data = parameter.data.to(device, dtype, memory_format=layout)


def fold_norms(module: nn.Module) -> None:
    """Folds every BatchNorm2d that directly follows a Conv2d among its parent's children into that convolution."""
    for parent in module.modules():
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(parent, nn.Sequential):
                folded = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                setattr(parent, name, folded)
                setattr(parent, norm_name, nn.Identity())
