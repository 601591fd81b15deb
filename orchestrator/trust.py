"""How far the scores of a search can be believed: statistics over networks that were also trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr

from orchestrator.protocols import ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal

SEARCH = "as searched"
"""The name of the score that the search saw."""
RESAMPLES = 1000
"""Of the bootstrap."""
INTERVAL = (5, 95)
"""Percentiles between which the bootstrap's values lie."""


@dataclass(frozen=True)
class Network:
    """A network of the evidence, scored with shared weights and trained from scratch."""

    group: str
    """sampled, searched, random, or distorted."""
    island: str
    name: str
    """The candidate's, or how the network came about."""
    architecture_id: str
    macs: float
    shared: Mapping[str, float]
    """mIoU with shared weights, by the name of the supernet or of the protocol."""
    scratch: Sequence[float]
    """mIoU from scratch, by seed."""
    scratch_test: Sequence[float]
    """The same on the test split, which no search has looked at."""


@dataclass(frozen=True)
class Evidence:
    """What was found about the scores of a study, as far as it goes."""

    study: str
    retraining: Mapping[str, Any]
    """Settings by which networks were trained from scratch."""
    networks: Sequence[Network]
    noise: Mapping[str, Sequence[float]]
    """By architecture: mIoU with shared weights under other recalibration subsets."""
    left: int = 0
    """Trainings that were not done."""


def write_evidence(store: Store, evidence: Evidence) -> None:
    """Keeps the evidence in the store, in place of what was known before."""
    key = _key(evidence.study)
    try:
        before = store.read(key)
    except ObjectMissing:
        before = None
    store.replace(key, seal(asdict(evidence)), before)


def read_evidence(store: Store, study: str) -> Evidence | None:
    """The evidence that the store holds; None: nobody has gathered any.

    Raises:
        StoreError: it is damaged.
    """
    try:
        body = unseal(store.read(_key(study)))
        networks = [Network(**network) for network in body.pop("networks")]
        return Evidence(networks=networks, **body)
    except ObjectMissing:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{_key(study)} is damaged: {error}; run `archipelago trust {study}` again") from None


def _key(study: str) -> str:
    return f"{study}/trust.json"


@dataclass(frozen=True)
class Correlation:
    """How far two orders of the same networks agree."""

    n: int
    kendall: float
    """Kendall's tau-b."""
    kendall_low: float
    """End of the bootstrap's interval over networks, 5 % to 95 %."""
    kendall_high: float
    pearson: float


def correlation(x: Sequence[float], y: Sequence[float], seed: int = 0) -> Correlation | None:
    """Kendall's and Pearson's correlation of two scores; None with fewer than three networks, or where one is constant.

    x, y: (n,) scores of the same networks.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    assert a.shape == b.shape, f"{a.shape} and {b.shape} scores cannot be of the same networks"
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    low, high = _interval(a, b, np.random.default_rng(seed))
    return Correlation(len(a), float(kendalltau(a, b).statistic), low, high, float(pearsonr(a, b).statistic))


def _interval(a: NDArray[np.float64], b: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """Percentiles of Kendall's tau over networks drawn with replacement; where a score is constant it has none."""
    draws = rng.integers(len(a), size=(RESAMPLES, len(a)))
    usable = [draw for draw in draws if np.ptp(a[draw]) > 0 and np.ptp(b[draw]) > 0]
    low, high = np.percentile([kendalltau(a[draw], b[draw]).statistic for draw in usable], INTERVAL)
    return float(low), float(high)


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return float(np.mean(values)) if len(values) else None


def deviation(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; None of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def better_share(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The share of pairs in which ours is the larger one, ties half: 0.5 where there is no difference."""
    if not ours or not theirs:
        return None
    difference = np.subtract.outer(np.asarray(ours), np.asarray(theirs))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def seed_deviation(networks: Sequence[Network]) -> float | None:
    """The standard deviation of mIoU from scratch between seeds, pooled over networks with several."""
    squares = [(np.var(one.scratch, ddof=1), len(one.scratch) - 1) for one in networks if len(one.scratch) > 1]
    if not squares:
        return None
    return float(np.sqrt(sum(v * f for v, f in squares) / sum(f for _, f in squares)))
