"""Candidates to go on with, chosen by rule or by name: `archipelago select`, and what `retrain` begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from jobs.retrained import Chosen
from jobs.study import Study
from jobs.tables import StudyReport, heading, quantity, simple_table
from orchestrator.records import Event, Measurement
from orchestrator.selection import Limit, Selected, select


@dataclass(frozen=True)
class Selection:
    """What was selected of a study."""

    report: StudyReport
    selected: Sequence[Selected]

    @classmethod
    def of(cls, study: Study, limits: Sequence[str], spread: int = 0) -> Selection:
        """The best and the knee of each front, and `spread` more.

        Raises:
            ValueError: a limit is not one.
            StudyMissing, JournalCorrupt: the study cannot be read.
        """
        parsed = [Limit.parse(limit) for limit in limits]
        report = StudyReport.read(study)
        return cls(report, select(report.objectives, report.events, parsed, spread))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each selected candidate of each front."""
        return [
            {
                "front": one.front,
                "roles": list(one.roles),
                "candidate": name_of(one.event),
                **self.report.row(one.event),
            }
            for one in self.selected
        ]

    def tables(self) -> list[RenderableType]:
        """A table for each front."""
        names = self.report.columns()
        headings = tuple(heading(name) for name in names)
        tables: list[RenderableType] = []
        for front in dict.fromkeys(one.front for one in self.selected):
            table = simple_table(front, ("candidate", "as"), headings, ("architecture",))
            for one in (one for one in self.selected if one.front == front):
                metrics = _metrics(one.event)
                words = Text(self.report.words(one.event))
                cells = (quantity(name, metrics.get(name)) for name in names)
                table.add_row(name_of(one.event), ", ".join(one.roles), *cells, words)
            tables.append(table)
        return tables or [Text("nothing was measured within these limits")]


def name_of(event: Event) -> str:
    """What a person calls a candidate: ISLAND/NUMBER."""
    return f"{event.candidate.island}/{event.candidate.number}"


def chosen(study: Study, names: Sequence[str], limits: Sequence[str]) -> list[Chosen]:
    """The named candidates, or those that `Selection.of` selects.

    Raises:
        ValueError: a name is no measured candidate's, or nothing is there to be selected.
    """
    selection = Selection.of(study, limits)
    events = {name_of(one.event): one.event for one in selection.selected}
    if names:
        events = {name: named(selection.report, name) for name in names}
    if not events:
        raise ValueError(f"study {study.name} has no measured candidate within the limits: nothing can be trained")
    return [_chosen(selection.report, name, event) for name, event in events.items()]


def named(report: StudyReport, name: str) -> Event:
    """The measured candidate that a person calls ISLAND/NUMBER.

    Raises:
        ValueError: there is none.
    """
    island, _, number = name.rpartition("/")
    islands = ", ".join(report.events)
    if island not in report.events or not number.isdigit():
        raise ValueError(f"a candidate is ISLAND/NUMBER with an island of {islands}, got {name!r}")
    found = [event for event in report.events[island] if event.candidate.number == int(number)]
    if not found or not isinstance(found[0].result, Measurement):
        state = "has failed" if found else "does not exist"
        raise ValueError(f"candidate {name} {state}: see `archipelago candidates {report.recipe.study}`")
    return found[0]


def chosen_candidate(report: StudyReport, name: str) -> Chosen:
    """The candidate that a person calls ISLAND/NUMBER, to be trained.

    Raises:
        ValueError: there is no measured one of that name.
    """
    return _chosen(report, name, named(report, name))


def _chosen(report: StudyReport, name: str, event: Event) -> Chosen:
    candidate = event.candidate
    architecture = report.space.decode(candidate.island, candidate.genotype)
    return Chosen(name, candidate.island, architecture, candidate.architecture_id, _metrics(event))


def _metrics(event: Event) -> dict[str, float]:
    assert isinstance(event.result, Measurement)
    return dict(event.result.metrics)
