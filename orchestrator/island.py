"""An island in a running study: who proposes, what is under way, what has been found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.archive import Archive
from orchestrator.config import Recipe
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.randomness import generator
from orchestrator.records import Event
from orchestrator.replay import replay
from orchestrator.samplers.registry import make_sampler
from orchestrator.scheduler import Scheduler
from search_spaces.base import SearchSpace


@dataclass
class Island:
    """One island's scheduler, and the archive of what its journal holds."""

    scheduler: Scheduler
    archive: Archive
    restored: int = 0
    """Events that the journal held when this session began."""
    shown: dict[int, Event] = field(default_factory=dict)
    """Events that were on the front when the tracker got them, by number."""

    @property
    def name(self) -> str:
        return self.scheduler.island


@dataclass(frozen=True)
class IslandProgress:
    """How far an island is."""

    island: str
    done: int
    """Candidates in the journal, failed ones included."""
    failed: int
    budget: int
    exhausted: bool
    """Whether the island holds no more new architectures, so that its budget cannot be used up."""
    finished: bool
    objective: str
    """The first one of the study."""
    best: float | None
    """The first objective's best, of the candidates within the limits; None: there is none yet."""
    hypervolume: float
    """Share of the box between ideal and reference point, 0 to 1."""
    front_size: int


@dataclass(frozen=True)
class Progress:
    """How far a study is."""

    islands: tuple[IslandProgress, ...]
    elapsed_s: float
    """Since this session began."""
    evaluated: int
    """Candidates recorded in this session."""

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this session's pace; None: too early to say."""
        left = sum(0 if one.finished else one.budget - one.done for one in self.islands)
        if left == 0:
            return 0.0
        return self.elapsed_s / self.evaluated * left if self.evaluated else None


def make_islands(
    recipe: Recipe, space: SearchSpace[Any], objectives: Objectives, journal: Journal
) -> tuple[Island, ...]:
    """The islands of a study, brought to where its journal ends; an empty journal: to the start.

    Raises:
        ReplayMismatch: the journal was made by another recipe, code or library version.
        JournalCorrupt: a segment is not what was written.
    """
    return tuple(_island(name, recipe, space, objectives, journal.events(name)) for name in space.islands)


def progress_of(islands: Sequence[Island], elapsed_s: float) -> Progress:
    """How far the islands are."""
    each = tuple(
        IslandProgress(
            island=island.name,
            done=island.archive.done,
            failed=island.archive.failed,
            budget=island.scheduler.budget,
            exhausted=island.scheduler.exhausted,
            finished=island.scheduler.finished,
            objective=island.archive.objective,
            best=island.archive.best.get(island.archive.objective),
            hypervolume=island.archive.hypervolume,
            front_size=len(island.archive.front),
        )
        for island in islands
    )
    return Progress(each, elapsed_s, sum(island.archive.done - island.restored for island in islands))


def _island(
    name: str, recipe: Recipe, space: SearchSpace[Any], objectives: Objectives, events: Sequence[Event]
) -> Island:
    scheduler = Scheduler(
        space,
        name,
        make_sampler(recipe.sampler, space, name, len(objectives.each), recipe.seed),
        objectives,
        budget=recipe.candidates_per_island,
        window=recipe.workers.window,
        max_attempts=recipe.workers.max_attempts,
        rng=generator(recipe.seed, name, "fallback"),
        ordered=recipe.workers.order == "ordered",
    )
    replay(scheduler, events)
    archive = Archive(objectives, events)
    shown = {event.candidate.number: event for event in events if event.candidate.number in archive.front}
    return Island(scheduler, archive, len(events), shown)
