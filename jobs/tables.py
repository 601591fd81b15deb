"""What a study has found, as rows for programs and tables for people. Read from the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from jobs.composition import make_space
from jobs.study import Study
from orchestrator.archive import Archive, front
from orchestrator.config import Recipe
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.protocols import ObjectMissing
from orchestrator.records import Event, Measurement
from orchestrator.report.sheet import Sheet
from orchestrator.study import read_study, read_weights
from search_spaces.base import SearchSpace
from search_spaces.hrnas.published import TransformerComplexity
from search_spaces.hyctas.architecture import LETTERS, WORDS
from search_spaces.hyctas.published import NetworkComplexity
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.settings import FRACTIONS, METRICS_OF

COSTS = ("macs", "params", "latency_ms")
"""What every row has a column for, besides its task's metrics; None where it was not measured."""


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
        space = make_space(recipe)
        try:
            journal = Journal.open(study.store, study.name)
            events = {island: journal.events(island) for island in journal.islands}
        except ObjectMissing:  # it is made when the weights are there
            events = dict.fromkeys(space.islands, ())
        trained = recipe.training is None or read_weights(study.store, study.name) is not None
        return cls(recipe, space, Objectives.from_settings(recipe.objectives), events, trained)

    def candidate_rows(self) -> list[dict[str, Any]]:
        """A row for each candidate."""
        return [self.row(event) for events in self.events.values() for event in events]

    def front_rows(self) -> list[dict[str, Any]]:
        """A row for each candidate on its island's front, by the first objective."""
        return [self.row(event) for events in self.events.values() for event in front(self.objectives, events)]

    def status_rows(self) -> list[dict[str, Any]]:
        """A row for each island."""
        rows = []
        for island, events in self.events.items():
            archive = Archive(self.objectives, events)
            best = {f"best_{name}": value for name, value in archive.best.items() if name in FRACTIONS}
            rows.append(
                {
                    "island": island,
                    "done": archive.done,
                    "budget": self.recipe.candidates_per_island,
                    "failed": archive.failed,
                    "objective": archive.objective,
                    "best": archive.best.get(archive.objective),
                    **best,
                    "hypervolume": archive.hypervolume,
                    "front": len(archive.front),
                }
            )
        return rows

    def row(self, event: Event) -> dict[str, Any]:
        """A candidate, as programs want it."""
        candidate, result = event.candidate, event.result
        metrics = result.metrics if isinstance(result, Measurement) else {}
        row = {
            "island": candidate.island,
            "number": candidate.number,
            "arch_id": candidate.architecture_id,
            "architecture": self.space.decode(candidate.island, candidate.genotype).to_json(),
            "status": event.status,
            "source": result.source.value if isinstance(result, Measurement) else None,
            "objectives": {one.name: metrics.get(one.name) for one in self.objectives.each},
        }
        row |= {name: metrics.get(name) for name in self._measured()}
        return row if isinstance(result, Measurement) else row | {"failure": f"{result.kind}: {result.message}"}

    def status_table(self) -> Table:
        """An island a line."""
        untrained = "supernet is not trained" if self.recipe.shrinking is None else "networks have not all shrunk"
        title = self.recipe.study if self.trained else f"{self.recipe.study} (its {untrained} yet)"
        first = self.objectives.names[0]
        table = simple_table(
            title, ("island",), ("done", "budget", "failed", f"best {heading(first)}", "hypervolume", "front")
        )
        for row in self.status_rows():
            counts = [str(row[name]) for name in ("done", "budget", "failed")]
            figures = [quantity(first, row["best"]), f"{row['hypervolume']:.4f}", str(row["front"])]
            table.add_row(row["island"], *counts, *figures)
        return table

    def front_tables(self) -> list[RenderableType]:
        """A table for each island: its front by the first objective."""
        fronts = {island: front(self.objectives, events) for island, events in self.events.items()}
        titles = {
            name: f"{name}: {len(of)} of {len(self.events[name])} are on the front" for name, of in fronts.items()
        }
        return [*(self._candidates(titles[name], of) for name, of in fronts.items()), self._legend()]

    def candidate_tables(self) -> list[RenderableType]:
        """A table for each island: every candidate, in the order of the journal."""
        tables = [self._candidates(f"{island}: all {len(of)}", of) for island, of in self.events.items()]
        return [*tables, self._legend()]

    def _candidates(self, title: str, events: Sequence[Event]) -> Table:
        """A candidate a row, which has a line for each branch."""
        names = self.columns()
        table = simple_table(title, ("number",), tuple(heading(name) for name in names), ("architecture",))
        for event in events:
            candidate, result = event.candidate, event.result
            metrics = result.metrics if isinstance(result, Measurement) else {}
            words = self.words(event)
            if not isinstance(result, Measurement):
                words += f"\nfailed: {' '.join(result.message.split())}"
            cells = [quantity(name, metrics.get(name)) for name in names]
            table.add_row(f"{candidate.number:04d}", *cells, Text(words))
        return table

    def words(self, event: Event) -> str:
        """The candidate's architecture for people, a branch a line."""
        candidate = event.candidate
        return str(self.space.decode(candidate.island, candidate.genotype)).replace(" | ", "\n")

    def columns(self) -> tuple[str, ...]:
        """The metrics that tables show: those that a space of networks has, and whichever the search looks at."""
        sought = self.objectives.names
        measured = () if self.recipe.task is None and "accuracy" in sought else self._measured()
        common = [name for name in HEADINGS if name in sought or name in measured]
        return (*common, *(name for name in sought if name not in HEADINGS))

    def _measured(self) -> tuple[str, ...]:
        """What is measured of every network."""
        return (*METRICS_OF[self.recipe.task or "segmentation"], *COSTS)

    def _legend(self) -> Text:
        """What the letters of architectures mean; empty in a space that has none."""
        if not isinstance(self.recipe.space, HyctasSettings):
            return Text()
        letters = ", ".join(f"{letter} {WORDS[name]}" for name, letter in LETTERS.items())
        return Text(f"A line is a branch: the resolution at its end, and a letter for each cell. {letters}; "
                    f"↓ follows a cell that halves the resolution.", style="dim")  # fmt: skip


HEADINGS = {"miou": "mIoU", "accuracy": "accuracy", "top5": "top-5", "macs": "MACs", "params": "params"} | {
    "latency_ms": "latency ms"
}
"""Column headings by metric."""


def complexity_table(counts: Sequence[NetworkComplexity]) -> Table:
    """A network a line."""
    table = simple_table("", ("network",), ("params", "of the backbone", "MACs"))
    for one in counts:
        table.add_row(one.name, *(f"{count:,}" for count in (one.params_total, one.params_backbone, one.macs)))
    return table


def transformers_table(counts: Sequence[TransformerComplexity]) -> Table:
    """A lightweight transformer a line."""
    table = simple_table("", ("tokens",), ("of pixels", "channels", "of the output", "params", "MACs"))
    for one in counts:
        outputs = f"{one.c_out} at half size" if one.downsampling else str(one.c_out)
        table.add_row(str(one.n), f"{one.s} x {one.s}", str(one.c), outputs, f"{one.params:,}", f"{one.macs:,}")
    return table


def heading(name: str) -> str:
    """A metric's name for people."""
    return HEADINGS.get(name, name)


def quantity(name: str, value: float | None) -> str:
    """A metric for people: three significant digits with a unit's prefix, fractions with four decimals."""
    if value is None:
        return "–"
    if name in FRACTIONS:
        return f"{value:.4f}"
    for factor, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")):
        if value >= 0.9995 * factor or not prefix:
            scaled = value / factor
            decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{decimals}f}{prefix}"
    raise AssertionError("the last prefix takes everything")


def sheet_table(sheet: Sheet) -> Table:
    """A sheet for the terminal."""
    table = simple_table(sheet.title, tuple(sheet.header[: sheet.words]), tuple(sheet.header[sheet.words :]))
    for row in sheet.rows:
        table.add_row(*row)
    return table


def simple_table(title: str, *columns: tuple[str, ...]) -> Table:
    """Columns in groups: names to the left, numbers to the right, words to the left."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for index, group in enumerate(columns):
        for name in group:
            table.add_column(name, justify="right" if index == 1 else "left", no_wrap=index < 2)
    return table
