"""Scores candidates on a data set of images with a supernet's weights: what an evaluation worker runs.

A score is a pure function of weights, architecture and evaluation protocol: calibration and validation images are
fixed subsets in a fixed order and batch size, and every step's module and statistics are its own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.config import EvaluationSettings, LatencySettings
from orchestrator.evaluation.executor import Executor
from orchestrator.evaluation.latency import LatencyMeter
from orchestrator.evaluation.memory import fitting_batches
from orchestrator.evaluation.modules import StepModules
from orchestrator.evaluation.protocol import hardware
from orchestrator.records import Candidate, Failure, FailureKind, Hardware, Measurement, Result
from search_spaces.base import NetworkSpace, Program
from search_spaces.complexity import ComplexityCounter
from search_spaces.data.images import ImageData, ImageSplit
from search_spaces.settings import METRICS_OF
from search_spaces.subnet import materialise
from search_spaces.supernet import Weights
from search_spaces.tasks.base import Counter
from search_spaces.tasks.registry import TASKS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class NetworkEvaluator:
    """Implements `CandidateEvaluator` for networks over images, for the task of the data set.

    Args:
        space: lowers architectures and builds their modules.
        weights: shared tensors by name; read, never written.
        data: calibration images come from its training split, scores from its validation split.
        protocol: everything else that a score depends on.
        latency: how latency is measured.
        device: where networks and images lie.
        memory_limit_bytes: candidates that would take more together are evaluated in smaller batches.
        protocol_digest: names protocol, data, device and code, see `orchestrator.evaluation.protocol`; empty: unknown.
    """

    def __init__(
        self,
        space: NetworkSpace[Any],
        weights: Weights,
        data: ImageData,
        protocol: EvaluationSettings,
        latency: LatencySettings,
        device: torch.device | str = "cpu",
        memory_limit_bytes: int = 2**31,
        protocol_digest: str = "",
    ) -> None:
        self.space, self.weights, self.data, self.protocol = space, weights, data, protocol
        self.memory_limit_bytes, self.protocol_digest = memory_limit_bytes, protocol_digest
        self.device, self.dtype = torch.device(device), DTYPES[protocol.precision]
        self.modules = StepModules(space, weights, self.device, self.dtype)
        self.counter = ComplexityCounter(space.build)
        self.calibration = data.train.images[calibration_subset(data.train, protocol)].to(self.device)
        chosen = validation_subset(data.validation, protocol)
        self.images = data.validation.images[chosen].to(self.device)
        labels = data.validation.labels[chosen].to(self.device)
        self.task = TASKS[data.task]
        self.counters = [self.task.counter(part, data.n_classes) for part in torch.split(labels, protocol.batch_size)]
        self.meter = LatencyMeter(latency, (1, *self.images.shape[1:]), self.device, self.dtype)

    @property
    def hardware(self) -> Hardware:
        return hardware(self.device)

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        """The task's metrics (NaN where a logit is not finite), multiply-adds and params of each candidate, evaluated
        together.

        When the batch raises, each candidate is tried alone, so that a failure is its own.
        """
        try:
            programs = [self.space.lower(self.space.decode(one.island, one.genotype)) for one in candidates]
            image = (self.protocol.batch_size, *self.images.shape[1:])
            batches = fitting_batches(programs, self.counter, image, self.dtype, self.memory_limit_bytes)
            return [result for batch in batches for result in self._score([programs[index] for index in batch])]
        except Exception as error:  # whatever a candidate's own code raises is data, see records.Failure
            if len(candidates) == 1:
                return [_failure(error)]
            return [result for candidate in candidates for result in self.score([candidate])]

    def _score(self, programs: Sequence[Program]) -> list[Result]:
        began = time.perf_counter()
        executor = Executor(self.modules, programs)
        executor.recalibrate(self._batches(self.calibration))
        executor.fold()
        recalibrated = time.perf_counter()
        counts: dict[int, Tensor] = {}
        finite = torch.ones(len(programs), dtype=torch.bool, device=self.device)
        for images, counter in zip(self._batches(self.images), self.counters, strict=True):

            def take(index: int, logits: Tensor, counter: Counter = counter) -> None:
                finite[index] &= torch.isfinite(logits).all()
                found = counter.count(torch.nan_to_num(logits.float(), 0.0, 0.0, 0.0))
                counts[index] = counts[index] + found if index in counts else found

            executor.run(images, take)
        done = time.perf_counter()
        shape = (1, *self.images.shape[1:])
        share = len(programs)
        timings = {"recalibration": (recalibrated - began) / share, "validation": (done - recalibrated) / share}
        results: list[Result] = []
        for index, program in enumerate(programs):
            cost = self.counter.count(program, shape)
            counted = counts[index] * finite[index]  # nothing counts, so it is NaN, which is recorded as a failure
            scores = self.task.metrics(counted.cpu(), self.data.class_names)
            first = {name: scores.pop(name) for name in METRICS_OF[self.data.task]}
            costs = {"macs": float(cost.macs), "params": float(cost.params)}
            results.append(Measurement({**first, **costs, **scores}, timings))
        return results

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for batch in torch.split(images, self.protocol.batch_size):
            yield self.data.normalise(batch).to(self.dtype)

    def latency(self, candidate: Candidate) -> Result:
        """Latency of the materialised subnet, measured here and now."""
        try:
            architecture = self.space.decode(candidate.island, candidate.genotype)
            began = time.perf_counter()
            metrics = self.meter.measure(materialise(self.space, architecture, self.weights))
            return Measurement(metrics, {"latency": time.perf_counter() - began})
        except Exception as error:  # as in `score`
            return _failure(error)


def calibration_subset(train: ImageSplit, protocol: EvaluationSettings) -> Tensor:
    """Indices of the images over which BatchNorm statistics are taken: seeded, sorted, in whole batches.

    The last batch may be short; a batch of one image would have no statistics at the deepest features and is left
    out.
    """
    count = min(protocol.recalibration_images, len(train))
    if count % protocol.batch_size == 1 and count > 1:
        count -= 1
    rng = np.random.default_rng(np.random.SeedSequence([protocol.seed, 2]))
    return torch.from_numpy(np.sort(rng.permutation(len(train))[:count]))


def validation_subset(validation: ImageSplit, protocol: EvaluationSettings) -> Tensor:
    """Indices of the images that are scored, evenly spread over the split."""
    count = min(protocol.validation_images or len(validation), len(validation))
    return torch.from_numpy(np.arange(count) * len(validation) // count)


def _failure(error: Exception) -> Failure:
    return Failure(FailureKind.EVALUATION, f"{type(error).__name__}: {error}", traceback.format_exc())
