"""A regressor in the place of a table that holds but a part of its combinations, and how good it is.

Kernel ridge regression with a Gaussian kernel, over the logarithms of genes that are positive numbers and indicators of
all others; costs are fitted in their logarithm. Predictions stay within what the table holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import spearmanr

from orchestrator.objectives import Objective
from search_spaces.base import Genotype
from search_spaces.tabular import Table, TabularArchitecture, TabularSpace

Matrix = NDArray[np.float64]

GAMMA = 0.1
"""Of the kernel exp(-GAMMA |x - y|^2 / features), x and y standardised."""
RIDGE = 0.02
"""Added to the kernel's diagonal: the noise of training, as a share of the spread. Both by cross-validation."""
FOLDS = 5


class GridSpace(TabularSpace):
    """Every combination of a table's values, whether it has a row or not."""

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        return tuple(map(int, rng.integers(0, self.cardinalities(island))))

    def _architecture(self, genotype: Genotype) -> TabularArchitecture:
        return TabularArchitecture(self.table.texts(genotype), {})


@dataclass(frozen=True)
class Quality:
    """How good predictions of one metric are on rows that were left out, in `FOLDS` folds."""

    r2: float
    """Share of the variance that is explained; of the logarithm for a cost."""
    spearman: float
    """Rank correlation."""


class KernelRidge:
    """The regressor of one metric.

    X: (n_rows, n_features), standardised. y: (n_rows,).
    """

    def __init__(self, X: Matrix, y: Matrix) -> None:
        self._X, self._mean, self._scale = X, y.mean(), float(np.std(y)) or 1.0
        kernel = _kernel(X, X)
        kernel[np.diag_indices_from(kernel)] += RIDGE
        self._weights = cho_solve(cho_factor(kernel, overwrite_a=True), (y - self._mean) / self._scale)

    def __call__(self, X: Matrix) -> Matrix:
        """The predictions (n,) for the rows of X."""
        predicted: Matrix = self._mean + self._scale * (_kernel(X, self._X) @ self._weights)
        return predicted


class Surrogate:
    """Metrics of any combination of a table's values, as its rows suggest."""

    def __init__(self, table: Table, objectives: Sequence[Objective]) -> None:
        self._columns = _features(table)
        self._logarithmic = {one.name: not one.maximised for one in objectives}
        X = self._encode(list(table.rows))
        self._regressors: dict[str, KernelRidge] = {}
        self._range: dict[str, tuple[float, float]] = {}
        self.quality: dict[str, Quality] = {}
        for name, logarithmic in self._logarithmic.items():
            y = np.array([row[name] for row in table.rows.values()])
            self._range[name] = float(y.min()), float(y.max())
            y = np.log(y) if logarithmic else y
            self.quality[name] = _quality(X, y)
            self._regressors[name] = KernelRidge(X, y)

    def __call__(self, genotype: Genotype) -> Mapping[str, float]:
        """The predicted metrics of one genotype."""
        X = self._encode([genotype])
        found = {name: float(predict(X)[0]) for name, predict in self._regressors.items()}
        found = {name: np.exp(value) if self._logarithmic[name] else value for name, value in found.items()}
        return {name: float(np.clip(value, *self._range[name])) for name, value in found.items()}

    def _encode(self, genotypes: Sequence[Genotype]) -> Matrix:
        """(n, n_features): each gene's features side by side."""
        codes = np.array(genotypes)
        return np.concatenate([column[codes[:, gene]] for gene, column in enumerate(self._columns)], axis=1)


def _features(table: Table) -> list[Matrix]:
    """By gene: (n_values, n_features of the gene), standardised over the table's rows."""
    columns = []
    for gene, texts in enumerate(table.values):
        try:
            column = np.log([[float(text)] for text in texts])
        except ValueError:
            column = np.eye(len(texts))
        if not np.isfinite(column).all():
            column = np.eye(len(texts))
        seen = column[[row[gene] for row in table.rows]]
        spread = seen.std(axis=0)
        columns.append((column - seen.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
    return columns


def _kernel(X: Matrix, Y: Matrix) -> Matrix:
    squares: Matrix = (X**2).sum(1)[:, None] + (Y**2).sum(1)[None, :] - 2 * X @ Y.T
    kernel: Matrix = np.exp(-GAMMA / X.shape[1] * np.maximum(squares, 0))
    return kernel


def _quality(X: Matrix, y: Matrix) -> Quality:
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    predicted = np.empty_like(y)
    for left_out in range(FOLDS):
        train = fold != left_out
        predicted[~train] = KernelRidge(X[train], y[train])(X[~train])
    r2 = 1 - float(((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return Quality(r2, float(spearmanr(predicted, y).statistic))
