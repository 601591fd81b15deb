"""Runs programs: BatchNorm statistics are taken over calibration images, then results over any images.

Each step has a module of its own over the shared weights, so its statistics belong to the step's id and to nothing
else: a candidate's results do not depend on what is evaluated with it, before it or after it.

Activations lie channels last: on CPUs that takes two thirds to three quarters of the time of channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from orchestrator.evaluation.modules import StepModules, fold_norms
from orchestrator.evaluation.schedule import Schedule, merge
from search_spaces.base import IMAGE, Program


class Executor:
    """Several programs over one supernet's weights, recalibrated together.

    Args:
        modules: makes the steps' modules.
        programs: run as one; each distinct step is computed once per batch.
    """

    def __init__(self, modules: StepModules, programs: Sequence[Program]) -> None:
        self.schedule: Schedule = merge(programs)
        self.modules = {step.id: modules.new(step.operation) for step in self.schedule.steps}

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
            fold_norms(module, in_place=False)

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
