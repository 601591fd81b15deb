"""The journal as the tracker sees it: candidates in words, who is on the front, running figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.archive import Archive
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.protocols import Tracker
from orchestrator.records import Candidate
from search_spaces.base import SearchSpace

Describe = Callable[[Candidate], Mapping[str, str]]


def describer(space: SearchSpace[Any]) -> Describe:
    """A function that gives a candidate's parameters in words: its architecture's description, key by key."""

    def describe(candidate: Candidate) -> dict[str, str]:
        description = space.decode(candidate.island, candidate.genotype).to_json()
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}

    return describe


def running_figures(archive: Archive) -> dict[str, float]:
    """An island's figures so far, by metric name."""
    figures = {"hypervolume": archive.hypervolume, "front_size": len(archive.front), "failed": archive.failed}
    return figures | {f"best_{name}": value for name, value in archive.best.items() if name == archive.objective}


def project(journal: Journal, objectives: Objectives, describe: Describe, tracker: Tracker) -> None:
    """Gives a tracker that has been started everything that the journal holds, again if need be."""
    for island in journal.islands:
        events = journal.events(island)
        front = Archive(objectives, events).front
        archive = Archive(objectives)
        for event in events:
            archive.add(event)
            tracker.record(event, describe(event.candidate), event.candidate.number in front)
            tracker.progress(island, archive.done, running_figures(archive))
