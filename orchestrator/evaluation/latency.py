"""Latency of one network where nothing else runs: batch 1, BatchNorm folded, warmed up, then timed for a window.

A device that grows hot or is disturbed gets slower for a while, evenly, so that no spread gives it away. Therefore a
small reference network is timed after every window. A window that is spread, or after which the reference is slower
than it has ever been here, is repeated after a rest; what is not steady in the end is marked as such.

Source: HyCTAS, section 4.2 (warm up to a steady speed, then run for six seconds); median and inter-quartile range
instead of a mean, because a shared machine's disturbances are one-sided. For the same reason the reference is compared
with its fastest time and not with its first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from orchestrator.config import LatencySettings
from orchestrator.evaluation.modules import fold_norms

UNSTEADY = 0.15
"""Inter-quartile range over median beyond which a window is not steady."""
DRIFT = 0.1
"""By how much the reference may be slower than its fastest time, as a share of it."""
WINDOWS = 3
"""Windows at most until one is steady."""
REFERENCE_SHARE = 0.1
"""Seconds for which the reference runs, as a share of the window."""
MIN_RUNS = 5
"""Runs that are timed at least, however short the window."""


@dataclass(frozen=True)
class _Window:
    """One window's times, and the reference after it."""

    times_s: tuple[float, ...]
    reference_s: float
    drift: float

    @property
    def unsteadiness(self) -> float:
        """Up to 1: steady."""
        return max(_spread(self.times_s) / UNSTEADY, self.drift / DRIFT)


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
        self._reference = self._prepared(_reference_network())
        self._fastest_s = float("inf")

    def measure(self, network: nn.Module) -> dict[str, float]:
        """One forward pass of the network, whose norms are folded.

        latency_ms (median), latency_iqr_ms, latency_runs; latency_reference_ms: the reference's median;
        latency_unsteady: 1 where no window was steady, else 0.
        """
        network = self._prepared(network)
        fold_norms(network)
        with torch.inference_mode():
            if self._fastest_s == float("inf"):
                self._warm_up(self._reference)
                self._fastest_s = self._reference_s()
            self._warm_up(network)
            windows = [self._window(network)]
            while windows[-1].unsteadiness > 1 and len(windows) < WINDOWS:
                time.sleep(self.window_s)
                windows.append(self._window(network))
        best = min(windows, key=lambda window: window.unsteadiness)
        low, median, high = np.percentile(best.times_s, (25, 50, 75)) * 1e3
        return {
            "latency_ms": float(median),
            "latency_iqr_ms": float(high - low),
            "latency_runs": float(len(best.times_s)),
            "latency_reference_ms": best.reference_s * 1e3,
            "latency_unsteady": float(best.unsteadiness > 1),
        }

    def _prepared(self, network: nn.Module) -> nn.Module:
        network = network.eval().to(self.device, self.dtype)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types

    def _warm_up(self, network: nn.Module) -> None:
        """Runs until three runs in a row are no faster than the three before, a quarter of the window at most."""
        end = time.perf_counter() + self.window_s / 4
        before = float("inf")
        while True:
            now = min(self._run(network) for _ in range(3))
            if now > 0.95 * before or time.perf_counter() > end:
                return
            before = now

    def _window(self, network: nn.Module) -> _Window:
        times = self._times(network, self.window_s)
        reference_s = self._reference_s()
        self._fastest_s = min(self._fastest_s, reference_s)
        return _Window(times, reference_s, reference_s / self._fastest_s - 1)

    def _reference_s(self) -> float:
        return float(np.median(self._times(self._reference, REFERENCE_SHARE * self.window_s)))

    def _times(self, network: nn.Module, window_s: float) -> tuple[float, ...]:
        end = time.perf_counter() + window_s
        times: list[float] = []
        while time.perf_counter() < end or len(times) < MIN_RUNS:
            times.append(self._run(network))
        return tuple(times)

    def _run(self, network: nn.Module) -> float:
        """Seconds of one forward pass, until its result is there."""
        began = time.perf_counter()
        network(self.image)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _reference_network() -> nn.Module:
    """Four convolutions down to stride 4, always with the same weights: a load like a candidate's first cells."""
    with torch.device("meta"):
        network = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1),
        )
    network = network.to_empty(device="cpu").requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.normal_(0, 0.05, generator=generator)
    return network


def _spread(times: tuple[float, ...]) -> float:
    low, median, high = np.percentile(times, (25, 50, 75))
    return float((high - low) / median)
