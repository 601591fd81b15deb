"""A space whose architectures and metrics are rows of a CSV file: a benchmark, or networks that somebody trained.

The recipe says which columns are genes, categories by their text, and which are metrics. A genotype that the table has
no row for stands for the row that differs from it in the fewest genes, the first of them: so every genotype decodes,
nothing is guessed, and a table that holds but a part of all combinations can be searched too.

    space:
      name: tabular
      path: ${ARCHIPELAGO_DATA:-data}/nasbench201/nasbench201.csv
      genes: [edge0, edge1, edge2, edge3, edge4, edge5]
      metrics:
        accuracy: {column: accuracy, scale: 0.01}
        macs: {column: mflops, scale: 1.0e+6}
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from search_spaces.base import Genotype, InvalidGenotype, Json, Violation
from search_spaces.checks import check_fields, check_genotype, check_island
from search_spaces.data.settings import DataError, expand_root
from search_spaces.settings import FRACTIONS, Settings

ISLAND = "table"
"""The name of a table's only island."""

RANGES = dict.fromkeys(FRACTIONS, (0.0, 1.0)) | dict.fromkeys(("macs", "params", "latency_ms"), (0.0, math.inf))
"""Least and largest value by metric; any other metric is only finite."""


class ColumnSettings(Settings):
    """Where a metric's values are."""

    column: str
    """The column's name in the table's first line."""
    scale: PositiveFloat = 1.0
    """What the column's values are multiplied with: 0.01 makes a fraction of percent."""


class TabularSettings(Settings):
    """`space:` of a recipe that searches a table instead of networks."""

    name: Literal["tabular"] = "tabular"
    path: str
    """The CSV file, with the columns' names in its first line. `~`, `${NAME}` and `${NAME:-default}` are expanded when
    it is read, wherever a worker lives."""
    genes: tuple[str, ...] = Field(min_length=1)
    """The columns that tell architectures apart, by name."""
    metrics: dict[str, ColumnSettings] = Field(min_length=1)
    """The metrics by name: those of `objectives`, and any others that candidates should have."""

    @model_validator(mode="after")
    def _genes_differ(self) -> Self:
        if len(set(self.genes)) != len(self.genes):
            raise ValueError(f"genes must be distinct columns, got {list(self.genes)}")
        return self


@dataclass(frozen=True)
class Table:
    """A table that has been read."""

    genes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    """By gene: the texts that it has in the table, numbers by size."""
    rows: Mapping[Genotype, Mapping[str, float]]
    """Metrics by genotype, in the order of the file."""
    fingerprint: str
    """SHA-256 of the file."""

    @property
    def complete(self) -> bool:
        """Whether there is a row for every combination of values."""
        return len(self.rows) == math.prod(map(len, self.values))

    def texts(self, genotype: Genotype) -> tuple[tuple[str, str], ...]:
        """(column, text) of each gene."""
        values = (texts[gene] for texts, gene in zip(self.values, genotype, strict=True))
        return tuple(zip(self.genes, values, strict=True))


def read_table(settings: TabularSettings) -> Table:
    """The table that a recipe names.

    Raises:
        DataError: it cannot be read, lacks a column, or a row is not what it must be; the message names the line.
    """
    path = expand_root(settings.path, "space.path")
    try:
        content = path.read_bytes()
        lines = list(csv.reader(content.decode("utf-8-sig").splitlines(), strict=True))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: mend space.path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {' '.join(str(error).split())}") from None
    if len(lines) < 2:
        raise DataError(f"{path} must have a line of column names and at least one row, got {len(lines)} lines")
    header = lines[0]
    wanted = {f"space.genes.{position}": name for position, name in enumerate(settings.genes)}
    wanted |= {f"space.metrics.{name}.column": of.column for name, of in settings.metrics.items()}
    for key, name in wanted.items():
        if header.count(name) != 1:
            problem = "two columns of that name" if name in header else "no such column"
            raise DataError(f"{key} is {name}, but {path} has {problem}: its columns are {', '.join(header)}")
    rows: dict[tuple[str, ...], tuple[int, dict[str, float]]] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: must have {len(header)} cells as the first line, got {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        texts = tuple(row[name].strip() for name in settings.genes)
        if "" in texts:
            raise DataError(f"{path}, line {number}: gene {settings.genes[texts.index('')]} is empty")
        if texts in rows:
            raise DataError(f"{path}, line {number}: has the genes of line {rows[texts][0]}: remove one of them, or "
                            "name the column that tells them apart in space.genes")  # fmt: skip
        where = f"{path}, line {number}"
        rows[texts] = number, {name: _metric(name, of, row, where) for name, of in settings.metrics.items()}
    if not rows:
        raise DataError(f"{path} must have at least one row, all {len(lines) - 1} lines after the first are empty")
    values = tuple(_ordered(column) for column in zip(*rows, strict=True))
    codes = [{text: code for code, text in enumerate(texts)} for texts in values]
    coded = {
        tuple(code[text] for code, text in zip(codes, texts, strict=True)): metrics
        for texts, (_, metrics) in rows.items()
    }
    return Table(settings.genes, values, coded, hashlib.sha256(content).hexdigest())


def _metric(name: str, settings: ColumnSettings, row: Mapping[str, str], where: str) -> float:
    text = row[settings.column]
    try:
        value = float(text) * settings.scale
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {settings.column} must be a finite number, got {text!r}")
    least, most = RANGES.get(name, (-math.inf, math.inf))
    if not least <= value <= most:
        limits = f"in {least:g}..{most:g}" if most < math.inf else f">= {least:g}"
        raise DataError(f"{where}: {name} must be {limits}, got {settings.column} {text} times "
                        f"space.metrics.{name}.scale {settings.scale:g}")  # fmt: skip
    return value


def _ordered(texts: Sequence[str]) -> tuple[str, ...]:
    """The distinct texts: by size where all are numbers, else by the alphabet."""
    distinct = sorted(set(texts))
    try:
        return tuple(sorted(distinct, key=float))
    except ValueError:
        return tuple(distinct)


@dataclass(frozen=True)
class TabularArchitecture:
    """A row of a table."""

    genes: tuple[tuple[str, str], ...]
    """(column, text) of each gene."""
    known: Mapping[str, float] = field(compare=False, repr=False)
    """Its metrics."""

    def to_json(self) -> dict[str, Json]:
        return dict(self.genes)

    def __str__(self) -> str:
        return ", ".join(f"{name} {text}" for name, text in self.genes)

    def metrics(self) -> dict[str, float]:
        return dict(self.known)


class TabularSpace:
    """The rows of a table, as one island."""

    name = "tabular"

    def __init__(self, table: Table) -> None:
        self.table = table
        self._genotypes = tuple(table.rows)
        self._matrix = np.array(self._genotypes)

    @property
    def islands(self) -> tuple[str, ...]:
        return (ISLAND,)

    def cardinalities(self, island: str) -> tuple[int, ...]:
        check_island(island, self.islands)
        return tuple(map(len, self.table.values))

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        check_island(island, self.islands)
        return self._genotypes[rng.integers(len(self._genotypes))]

    def decode(self, island: str, genotype: Genotype) -> TabularArchitecture:
        check_genotype(genotype, self.cardinalities(island), island)
        return self._architecture(genotype)

    def encode(self, architecture: TabularArchitecture) -> tuple[str, Genotype]:
        pairs = zip(self.table.values, architecture.genes, strict=True)
        return ISLAND, tuple(values.index(text) for values, (_, text) in pairs)

    def violations(self, architecture: TabularArchitecture) -> tuple[Violation, ...]:
        return ()

    def architecture_from_json(self, description: Mapping[str, Json]) -> TabularArchitecture:
        check_fields(description, self.table.genes)
        genes = []
        for name, values in zip(self.table.genes, self.table.values, strict=True):
            text = description[name]
            if not isinstance(text, str) or text not in values:
                raise InvalidGenotype(f"the table's {name} must be one of {', '.join(values)}, got {text!r}")
            genes.append(values.index(text))
        if tuple(genes) not in self.table.rows:
            raise InvalidGenotype(f"the table has no row with {dict(description)}")
        return self.decode(ISLAND, tuple(genes))

    def _architecture(self, genotype: Genotype) -> TabularArchitecture:
        row = genotype if genotype in self.table.rows else self._nearest(genotype)
        return TabularArchitecture(self.table.texts(row), self.table.rows[row])

    def _nearest(self, genotype: Genotype) -> Genotype:
        return self._genotypes[int((self._matrix != genotype).sum(axis=1).argmin())]
