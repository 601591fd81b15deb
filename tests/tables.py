"""A small table of networks: four genes, formulas for metrics, as many of its 240 rows as a test wants."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.tabular import Table, TabularSettings, read_table

GENES: Mapping[str, tuple[str, ...]] = {
    "kernel": ("1", "3", "5", "11"),
    "kind": ("conv", "pool", "skip"),
    "depth": ("2", "4", "8", "16"),
    "width": ("8", "16", "24", "32", "100"),
}


def rows(share: float = 1.0) -> Iterator[str]:
    """Lines of the table with each row kept with probability `share`; the note is a column that nobody names."""
    rng = np.random.default_rng(0)
    yield "note," + ",".join(GENES) + ",top1,mflops"
    for kernel, kind, depth, width in product(*GENES.values()):
        effort = int(depth) * int(width) * (int(kernel) if kind == "conv" else 1)
        score = 90.0 * effort / (effort + 100.0) - 10.0 * (kind == "pool")
        if rng.random() < share:
            yield f"x,{kernel},{kind},{depth},{width},{max(score, 0):.4f},{effort / 10:.1f}"


def table_settings(path: Path, **changes: Any) -> TabularSettings:
    """The `space` section for the small table."""
    metrics = {"accuracy": {"column": "top1", "scale": 0.01}, "macs": {"column": "mflops", "scale": 1e6}}
    return TabularSettings.model_validate({"path": str(path), "genes": list(GENES), "metrics": metrics, **changes})


def written_table(share: float) -> Table:
    """The small table, written to a file and read back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text("\n".join(rows(share)))
        return read_table(table_settings(path))
