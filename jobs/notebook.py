"""A study for notebooks: its candidates as Arrow tables, and candidates as networks. See `jobs.load_study`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.selection import name_of, named
from jobs.study import Study
from jobs.tables import StudyReport
from orchestrator.archive import front
from orchestrator.config import Recipe
from orchestrator.records import Event, Measurement
from orchestrator.retraining import read_retrained
from search_spaces.looks import drawing

if TYPE_CHECKING:
    from infra.exported import StandaloneNetwork
    from jobs.networks import StudyNetworks


class LoadedStudy:
    """A study as its journal was when it was loaded.

    Args:
        study: where it lies.
        data_root: where its data set lies, if elsewhere than its recipe says.
    """

    def __init__(self, study: Study, data_root: str | None = None) -> None:
        self._study, self._report = study, StudyReport.read(study)
        self._overrides = [] if data_root is None else [f"data.root={data_root}"]

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(events)} of {island}" for island, events in self._report.events.items())
        return f"study {self._study.where}: {counts}"

    @property
    def name(self) -> str:
        return self._study.name

    @property
    def recipe(self) -> Recipe:
        return self._report.recipe

    @property
    def islands(self) -> tuple[str, ...]:
        return tuple(self._report.events)

    def candidates(self) -> pa.Table:
        """A row for each candidate, failed ones too; a column for each metric, in its own unit, null if not measured.

        candidate is its name, ISLAND/NUMBER; architecture is in words, a branch between bars; on_front says whether
        no other candidate of its island is better in every objective.
        """
        return self._table([event for events in self._report.events.values() for event in events])

    def front(self, island: str | None = None) -> pa.Table:
        """The rows of `candidates` on an island's front, by the first objective; without an island: on that of all.

        Raises:
            ValueError: there is no such island.
        """
        events = self._report.events
        if island is not None and island not in events:
            raise ValueError(f"an island of study {self.name} is one of {', '.join(events)}, got {island!r}")
        found = [event for name in events if island in (None, name) for event in events[name]]
        return self._table(front(self._report.objectives, found))

    def architecture(self, name: str) -> Any:
        """The architecture of the measured candidate ISLAND/NUMBER; str() shows it, `to_json()` describes it.

        Raises:
            ValueError: there is none.
        """
        candidate = named(self._report, name).candidate
        return self._report.space.decode(candidate.island, candidate.genotype)

    def drawing(self, name: str) -> str:
        """A picture of a candidate's network: one SVG element.

        Raises:
            ValueError: there is no such candidate, or the space draws nothing.
        """
        picture = drawing(self._report.space, self.architecture(name))
        if picture is None:
            raise ValueError(f"space {self.recipe.space.name} draws no networks")
        return picture

    def module(self, name: str, retrained: bool = False, seed: int | None = None) -> StandaloneNetwork:
        """The candidate ISLAND/NUMBER as a module in eval mode on the CPU, its BatchNorm recalibrated, not folded.

        It maps images, uint8 (batch, 3, height, width) of red, green and blue, to logits float32 (batch, classes,
        height, width), or (batch, classes) where images are classified. The data set is read for the recalibration.

        retrained: trained from scratch instead of with shared weights: the trial of that seed, or the best one.

        Raises:
            ValueError: there is no such candidate, no such trial, or no networks in this space.
            DataError: the data set is missing or broken.
        """
        if seed is not None and not retrained:
            raise ValueError(
                f"seed={seed} says which training from scratch is meant: say retrained=True, or leave it out"
            )
        if retrained:
            return self._networks.retrained_network(name, seed).network
        return self._networks.network(name).network

    def retrained(self) -> pa.Table:
        """A row for each training from scratch: candidate (the first of that architecture), seed, metrics, settings."""
        names: dict[str, str] = {}
        for event in (event for events in self._report.events.values() for event in events):
            names.setdefault(event.candidate.architecture_id, name_of(event))
        results = read_retrained(self._study.store, self._study.name)
        rows = [
            {
                "candidate": names.get(one.trial.architecture_id),
                "arch_id": one.trial.architecture_id,
                "trial": one.trial.id,
                "seed": one.trial.seed,
                "failure": one.failure or None,
                "weights": one.weights or None,
                "device_s": one.device_s,
                **{f"retraining.{name}": _cell(value) for name, value in one.trial.settings.items()},
                **one.metrics,
            }
            for one in results
        ]
        return _table(
            rows, ("candidate", "arch_id", "trial", "seed", "failure", "weights", "device_s", self.recipe.metric)
        )

    @cached_property
    def _networks(self) -> StudyNetworks:
        from jobs.networks import StudyNetworks

        return StudyNetworks(self._study, self._overrides)

    @cached_property
    def _on_front(self) -> frozenset[str]:
        fronts = (front(self._report.objectives, events) for events in self._report.events.values())
        return frozenset(name_of(event) for events in fronts for event in events)

    def _table(self, events: Iterable[Event]) -> pa.Table:
        first = ("candidate", "island", "number", "arch_id", "architecture", "status", "source", "failure", "on_front")
        return _table([self._row(event) for event in events], (*first, *self._report.objectives.names))

    def _row(self, event: Event) -> dict[str, Any]:
        """As `StudyReport.row`, flat, with every metric."""
        row = self._report.row(event)
        row.pop("objectives")
        row["architecture"] = " | ".join(self._report.words(event).split("\n"))
        metrics = event.result.metrics if isinstance(event.result, Measurement) else {}
        return {**row, **metrics, "candidate": name_of(event), "on_front": name_of(event) in self._on_front}


def _table(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> pa.Table:
    """A table with a column for each name in any row, those in `first` in any case, null where a row has none."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _cell(value: Any) -> Any:
    """A setting as a table holds it: sections as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
