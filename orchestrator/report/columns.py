"""A study as columns: what the report's page draws from, an entry a candidate, small enough for thousands of them.

Candidates come island by island, in the order of the journal; a candidate's index is its place in these columns. `null`
stands where a candidate has no such number. Places are counted from 0, and so are islands and kinds of choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from orchestrator.archive import Archive, front
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.report.picks import picks
from orchestrator.report.spent import busy, failures, own_timings
from orchestrator.report.words import LABELS
from search_spaces import looks
from search_spaces.base import SearchSpace

Columns = dict[str, Any]
ABSENT = "."
"""Where an architecture has nothing at a place."""
CODES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""A character for each kind of choice; the last one for all that are left."""
CLASS = "/"
"""In the names of metrics that a candidate has for each class, such as iou/Sky."""


@dataclass(frozen=True)
class Found:
    """What a study has found, and the space that it searched."""

    study: str
    objectives: Objectives
    space: SearchSpace[Any]
    events: Mapping[str, Sequence[Event]]
    """By island."""
    generation_size: int
    """Candidates in a generation."""

    @property
    def flat(self) -> list[Event]:
        """All events, island by island."""
        return [event for events in self.events.values() for event in events]

    def architecture(self, event: Event) -> Any:
        return self.space.decode(event.candidate.island, event.candidate.genotype)


def columns(found: Found) -> Columns:
    """Everything that the page draws from, as JSON."""
    events = found.flat
    architectures = [found.architecture(event) for event in events]
    merged = {event.candidate for event in front(found.objectives, events)}
    return {
        "study": found.study,
        "islands": list(found.events),
        "objectives": [_objective(found.objectives, name) for name in found.objectives.names],
        "island": [place for place, of in enumerate(found.events.values()) for _ in of],
        "number": [event.candidate.number for event in events],
        "generation": [event.candidate.number // found.generation_size for event in events],
        "words": [str(architecture) for architecture in architectures],
        "metrics": _metrics(events),
        "labels": dict(LABELS),
        "classes": _classes(events),
        **_histories(found),
        "merged": [int(event.candidate in merged) for event in events],
        "merged_hypervolume": _merged_hypervolume(found),
        "seconds": [_short(sum(own_timings(event).values())) for event in events],
        "properties": _properties(found, architectures),
        "choices": _choices(found, architectures),
        "picks": [[place, why] for place, why in picks(found.objectives, found.events)],
        "busy": busy(events),
        "failures": failures(events),
        "drawings": _drawings(found, events, architectures),
    }


def _objective(objectives: Objectives, name: str) -> Columns:
    one = next(each for each in objectives.each if each.name == name)
    return {"name": name, "maximised": one.maximised, "at_most": one.at_most, "at_least": one.at_least}


def _short(value: float | None) -> float | int | None:
    """The value to five significant digits."""
    if value is None:
        return None
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded.is_integer() else rounded


def _known(event: Event) -> Mapping[str, float]:
    return event.result.metrics if isinstance(event.result, Measurement) else {}


def _metrics(events: Sequence[Event]) -> Columns:
    """A column for each metric of the whole image, those that people ask for first."""
    found = dict.fromkeys(name for event in events for name in _known(event) if CLASS not in name)
    names = sorted(found, key=lambda name: list(LABELS).index(name) if name in LABELS else len(LABELS))
    return {name: [_short(_known(event).get(name)) for event in events] for name in names}


def _classes(events: Sequence[Event]) -> Columns:
    """A column for each class, by its name."""
    names = dict.fromkeys(name for event in events for name in _known(event) if CLASS in name)
    return {
        name.partition(CLASS)[2]: [None if (value := _known(event).get(name)) is None else round(value, 3)
                                   for event in events]
        for name in names
    }  # fmt: skip


def _histories(found: Found) -> dict[str, list[Any]]:
    """`hypervolume` of its island after each candidate; `until`: events of its island after which a candidate left the
    front, 0: it never was there, null: it still is."""
    until: list[int | None] = []
    hypervolume: list[float | int | None] = []
    for events in found.events.values():
        archive, there = Archive(found.objectives), dict[int, int | None]()
        for event in events:
            archive.add(event)
            left = [number for number, at in there.items() if at is None and number not in archive.front]
            there |= dict.fromkeys(left, archive.done)
            there[event.candidate.number] = None if event.candidate.number in archive.front else 0
            hypervolume.append(_short(archive.hypervolume))
        until += [there[event.candidate.number] for event in events]
    return {"until": until, "hypervolume": hypervolume}


def _merged_hypervolume(found: Found) -> list[float | int | None]:
    """Of all islands together, after each round in which every island has given its next candidate."""
    archive, after = Archive(found.objectives), []
    for turn in zip_longest(*found.events.values()):
        for event in filter(None, turn):
            archive.add(replace(event, candidate=replace(event.candidate, number=archive.done)))
        after.append(_short(archive.hypervolume))
    return after


def _properties(found: Found, architectures: Sequence[Any]) -> Columns:
    """A column for each number that describes architectures, unless it is the same for all of them."""
    rows = [looks.properties(found.space, architecture) for architecture in architectures]
    names = dict.fromkeys(name for row in rows for name in row)
    table = {name: [_short(row.get(name)) for row in rows] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def _choices(found: Found, architectures: Sequence[Any]) -> Columns:
    """`places`: pairs of row and column; `kinds` and their `colours`; `each`: a character for each place."""
    chosen = [looks.choices(found.space, architecture) for architecture in architectures]
    largest_first = sorted(chosen, key=len, reverse=True)  # with all rows, in the space's order
    places = list(dict.fromkeys((one.row, one.column) for choices in largest_first for one in choices))
    palette = looks.palette(found.space, {one.kind for choices in chosen for one in choices})
    kinds = {kind: CODES[min(code, len(CODES) - 1)] for code, kind in enumerate(palette)}
    each = []
    for choices in chosen:
        here = {(one.row, one.column): kinds[one.kind] for one in choices}
        each.append("".join(here.get(place, ABSENT) for place in places))
    return {"places": places, "kinds": list(palette), "colours": list(palette.values()), "each": each, "codes": CODES}


def _drawings(found: Found, events: Sequence[Event], architectures: Sequence[Any]) -> Columns:
    """SVG elements of the candidates on an island's front, by index."""
    fronts = {event.candidate for of in found.events.values() for event in front(found.objectives, of)}
    drawn: Columns = {}
    for index, (event, architecture) in enumerate(zip(events, architectures, strict=True)):
        if event.candidate in fronts:
            picture = looks.drawing(found.space, architecture)
            drawn |= {} if picture is None else {str(index): picture}
    return drawn
