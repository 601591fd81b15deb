"""Studies with made-up metrics: the journal that a long search would leave, without the search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.config import ObjectiveSettings
from orchestrator.objectives import Objectives
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Result
from orchestrator.report.columns import Found
from search_spaces.base import architecture_id
from search_spaces.hyctas.architecture import HyctasArchitecture
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace

LATENCY_AND_MIOU = (ObjectiveSettings(name="miou"), ObjectiveSettings(name="latency_ms", reference=20.0))
MESSAGE = "RuntimeError: got </script><b>tokens</b> & more"


def made_up(architecture: HyctasArchitecture, number: int, rng: np.random.Generator) -> Result:
    """A result that costs more and is better with more and wider cells; every hundredth fails."""
    if number % 100 == 99:
        return Failure(FailureKind.EVALUATION, MESSAGE, "Traceback (most recent call last):\n  …")
    effort = sum(sum(branch.widths) for branch in architecture.branches) / 120
    latency_ms = 1.0 + 2.0 * effort * rng.uniform(0.9, 1.1)
    miou = 0.5 + 0.05 * (1 - np.exp(-latency_ms / 3)) + 0.005 * rng.normal() + number * 1e-5
    metrics = {"miou": miou, "latency_ms": latency_ms, "macs": 2e7 * latency_ms, "params": 1e5 * latency_ms}
    metrics |= {f"iou/{name}": float(rng.uniform()) for name in ("Sky", "Road", "Car")}
    timings_s = {"recalibration": 0.2, "validation": 0.25, "latency": 0.15}
    return Measurement(metrics, timings_s, f"CPU worker-{number % 2}; CPU lane-0")


def hyctas_study(candidates: int) -> Found:
    """A study of the HyCTAS space with so many candidates in each of three islands."""
    space, rng = HyctasSpace(HyctasSettings(layers=10), classes=11), np.random.default_rng(0)
    events: dict[str, list[Event]] = {island: [] for island in space.islands}
    for island, found in events.items():
        for number in range(candidates):
            genotype = space.sample(island, rng)
            architecture = space.decode(island, genotype)
            candidate = Candidate(island, number, genotype, architecture_id(architecture))
            found.append(Event(candidate, made_up(architecture, number, rng)))
    return Found("night", Objectives.from_settings(LATENCY_AND_MIOU), space, events, generation_size=40)


def failed(found: Found) -> Found:
    """The study with its failures alone."""
    events = {
        island: [event for event in of if isinstance(event.result, Failure)] for island, of in found.events.items()
    }
    return replace(found, events=events)


@pytest.fixture(scope="session")
def small_study() -> Found:
    return hyctas_study(120)


@pytest.fixture(scope="session")
def large_study() -> Found:
    """2,400 candidates: as many as the paper's search has."""
    return hyctas_study(800)
