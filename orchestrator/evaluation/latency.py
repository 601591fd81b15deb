"""Latency of one network where nothing else runs: batch 1, BatchNorm folded, warmed up, then timed for a window.

Source: HyCTAS, section 4.2 (warm up to a steady speed, then run for six seconds); median and inter-quartile range
instead of a mean, because a shared machine's disturbances are one-sided.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from orchestrator.config import LatencySettings
from orchestrator.evaluation.modules import fold_norms

UNSTEADY = 0.15
"""Inter-quartile range over median beyond which a measurement is repeated once."""
MIN_RUNS = 5
"""Runs that are timed at least, however short the window."""


class LatencyMeter:
    """Times networks on one device.

    Args:
        settings: length of the window.
        shape: (1, 3, height, width) of the input.
        device: where the networks run.
        dtype: of parameters and activations.
    """

    def __init__(
        self, settings: LatencySettings, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.window_s = settings.window_s
        self.device, self.dtype = device, dtype
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        self.image = image.contiguous(memory_format=torch.channels_last)

    def measure(self, network: nn.Module) -> dict[str, float]:
        """latency_ms (median), latency_iqr_ms and latency_runs of one forward pass; the network's norms are folded."""
        network = network.eval().to(self.device, self.dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
        fold_norms(network)
        with torch.inference_mode():
            self._warm_up(network)
            times = self._window(network)
            if _spread(times) > UNSTEADY:
                times = min(times, self._window(network), key=_spread)
        low, median, high = np.percentile(times, (25, 50, 75)) * 1e3
        return {
            "latency_ms": float(median),
            "latency_iqr_ms": float(high - low),
            "latency_runs": float(len(times)),
        }

    def _warm_up(self, network: nn.Module) -> None:
        """Runs until three runs in a row are no faster than the three before, a quarter of the window at most."""
        end = time.perf_counter() + self.window_s / 4
        before = float("inf")
        while True:
            now = min(self._run(network) for _ in range(3))
            if now > 0.95 * before or time.perf_counter() > end:
                return
            before = now

    def _window(self, network: nn.Module) -> list[float]:
        end = time.perf_counter() + self.window_s
        times: list[float] = []
        while time.perf_counter() < end or len(times) < MIN_RUNS:
            times.append(self._run(network))
        return times

    def _run(self, network: nn.Module) -> float:
        """Seconds of one forward pass, until its result is there."""
        began = time.perf_counter()
        network(self.image)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _spread(times: list[float]) -> float:
    low, median, high = np.percentile(times, (25, 50, 75))
    return float((high - low) / median)
