"""How candidates rank and crowd, and how much of the objective space a front covers. Everything is minimised."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(F: ArrayLike) -> NDArray[np.int64]:
    """The front that each row belongs to: 0 for those that no row dominates, 1 for those that only these do, and so on.

    F: (n_candidates, n_objectives), minimised. Returns (n_candidates,).

    Raises:
        ValueError: F is not a finite matrix.
    """
    points = _checked(F)
    if len(points) == 0:
        return np.empty(0, dtype=np.int64)
    if points.shape[1] == 1:  # moocore starts at two objectives
        return np.asarray(np.unique(points[:, 0], return_inverse=True)[1], dtype=np.int64)
    return np.asarray(moocore.pareto_rank(points), dtype=np.int64)


def crowding(F: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much room each row of a front has: the crowding distance, larger is lonelier, infinite at the ends.

    Of equal rows the first counts; the others have none.

    F: (n_candidates, n_objectives), minimised, finite. Returns (n_candidates,).

    Source: Deb et al. 2002, NSGA-II, section III.B; the distances of equal rows as in pymoo.
    """
    distinct = _distinct(F)
    distances = np.zeros(len(F))
    for values in F[distinct].T:
        order = np.argsort(values, kind="stable")
        ordered, span = values[order], float(np.ptp(values)) or 1.0
        gaps = np.full(len(distinct), np.inf)
        gaps[order[1:-1]] = (ordered[2:] - ordered[:-2]) / span
        distances[distinct] += gaps
    return distances


def _distinct(F: NDArray[np.float64]) -> NDArray[np.intp]:
    """The index of the first row of each kind, in the order of values: `np.unique(axis=0)` takes longer."""
    order = np.lexsort(F.T[::-1])
    new = np.ones(len(F), dtype=bool)
    new[1:] = (np.diff(F[order], axis=0) != 0).any(axis=1)
    return order[new]


def hypervolume(F: ArrayLike, reference: Sequence[float]) -> float:
    """The volume that the rows of F dominate, up to the reference point; rows beyond it add nothing.

    F: (n_candidates, n_objectives), minimised. reference: (n_objectives,).

    Raises:
        ValueError: F is not a finite matrix, or the reference point has another length.
    """
    points = _checked(F)
    if len(points) == 0:
        return 0.0
    if points.shape[1] != len(reference):
        raise ValueError(f"reference point must have {points.shape[1]} coordinates, got {len(reference)}")
    inside = points[np.all(points < np.asarray(reference, dtype=float), axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:  # moocore starts at two objectives
        return float(reference[0] - inside.min())
    return float(moocore.hypervolume(inside, ref=np.asarray(reference, dtype=float)))


def _checked(F: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(F, dtype=np.float64)
    if points.size == 0:
        return points.reshape(0, points.shape[-1] if points.ndim == 2 else 0)
    if points.ndim != 2:
        raise ValueError(f"F must be (n_candidates, n_objectives), got shape {points.shape}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f"F must be finite, row {row} is {points[row].tolist()}: objectives.admit keeps these out")
    return points
