"""What a study has found, as rows for programs and tables for people. Read from the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from jobs.composition import make_space
from jobs.search import Study
from orchestrator.archive import Archive, front
from orchestrator.config import Recipe
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.study import read_study, read_weights
from search_spaces.base import SearchSpace
from search_spaces.hyctas.published import NetworkComplexity

METRICS = ("miou", "macs", "params", "latency_ms")
"""Metrics that every row has a column for; None where they were not measured."""


@dataclass(frozen=True)
class StudyReport:
    """A study as its journal has it now."""

    recipe: Recipe
    space: SearchSpace[Any]
    objectives: Objectives
    events: dict[str, tuple[Event, ...]]
    """By island."""
    trained: bool
    """Whether the weights that are searched are there."""

    @classmethod
    def read(cls, study: Study) -> StudyReport:
        """The study's recipe and journal.

        Raises:
            StudyMissing: there is none.
            JournalCorrupt: the journal is not what was written.
        """
        recipe = read_study(study.store, study.name).recipe
        journal = Journal.open(study.store, study.name)
        events = {island: journal.events(island) for island in journal.islands}
        trained = recipe.training is None or read_weights(study.store, study.name) is not None
        return cls(recipe, make_space(recipe), Objectives.from_settings(recipe.objectives), events, trained)

    def candidate_rows(self) -> list[dict[str, Any]]:
        """A row for each candidate."""
        return [self._row(event) for events in self.events.values() for event in events]

    def front_rows(self) -> list[dict[str, Any]]:
        """A row for each candidate on its island's front, by the first objective."""
        return [self._row(event) for events in self.events.values() for event in front(self.objectives, events)]

    def status_rows(self) -> list[dict[str, Any]]:
        """A row for each island."""
        rows = []
        for island, events in self.events.items():
            archive = Archive(self.objectives, events)
            rows.append(
                {
                    "island": island,
                    "done": archive.done,
                    "budget": self.recipe.budget.evaluations_per_island,
                    "failed": archive.failed,
                    "best_miou": archive.best_miou,
                    "hypervolume": archive.hypervolume,
                    "front": len(archive.front),
                }
            )
        return rows

    def _row(self, event: Event) -> dict[str, Any]:
        candidate, result = event.candidate, event.result
        metrics = result.metrics if isinstance(result, Measurement) else {}
        row = {
            "island": candidate.island,
            "number": candidate.number,
            "arch_id": candidate.architecture_id,
            "architecture": self.space.decode(candidate.island, candidate.genotype).to_json(),
            "status": event.status,
            "objectives": {one.name: metrics.get(one.name) for one in self.objectives.each},
        }
        row |= {name: metrics.get(name) for name in METRICS}
        return row if isinstance(result, Measurement) else row | {"failure": f"{result.kind}: {result.message}"}

    def status_table(self) -> Table:
        """An island a line."""
        title = self.recipe.study if self.trained else f"{self.recipe.study} (its supernet is not trained yet)"
        table = _table(title, ("island",), ("done", "budget", "failed", "best mIoU", "hypervolume", "front"))
        for row in self.status_rows():
            best = "–" if row["best_miou"] is None else f"{row['best_miou']:.4f}"
            hypervolume = f"{row['hypervolume']:.4f}"
            table.add_row(row["island"], *map(str, (row["done"], row["budget"], row["failed"])), best, hypervolume,
                          str(row["front"]))  # fmt: skip
        return table

    def front_tables(self) -> list[Table]:
        """A table for each island: its front by the first objective."""
        return [self._candidates(f"{island}: front of {len(events)} candidates", front(self.objectives, events))
                for island, events in self.events.items()]  # fmt: skip

    def candidate_table(self) -> Table:
        """A candidate a line."""
        return self._candidates(self.recipe.study, [event for events in self.events.values() for event in events])

    def _candidates(self, title: str, events: Sequence[Event]) -> Table:
        table = _table(title, ("candidate",), tuple(HEADINGS.values()), ("architecture",))
        for event in events:
            candidate, result = event.candidate, event.result
            metrics = result.metrics if isinstance(result, Measurement) else {}
            architecture = self.space.decode(candidate.island, candidate.genotype)
            words = str(architecture) if isinstance(result, Measurement) else f"failed: {result.message}"
            cells = (quantity(name, metrics.get(name)) for name in HEADINGS)
            table.add_row(f"{candidate.island}/{candidate.number:04d}", *cells, words)
        return table


HEADINGS = {"miou": "mIoU", "macs": "MACs", "params": "params", "latency_ms": "latency ms"}
"""Column headings by metric."""


def complexity_table(counts: Sequence[NetworkComplexity]) -> Table:
    """A network a line."""
    table = _table("", ("network",), ("params", "of the backbone", "MACs"))
    for one in counts:
        table.add_row(one.name, *(f"{count:,}" for count in (one.params_total, one.params_backbone, one.macs)))
    return table


def quantity(name: str, value: float | None) -> str:
    """A metric for people: three significant digits with a unit's prefix, mIoU with four decimals."""
    if value is None:
        return "–"
    if name == "miou":
        return f"{value:.4f}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


def _table(title: str, *columns: tuple[str, ...]) -> Table:
    """Columns in groups: names to the left, numbers to the right, words to the left."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for index, group in enumerate(columns):
        for name in group:
            table.add_column(name, justify="right" if index == 1 else "left", overflow="fold")
    return table
