"""A search of the three-branch island of HyCTAS as the cluster benches run it: all of it real but the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from infra.file_store import FileStore
from jobs.composition import make_space
from jobs.tracking import NoTracker
from orchestrator.config import Recipe, read_recipe
from orchestrator.island import Progress, make_islands
from orchestrator.journal import Journal
from orchestrator.loop import Search
from orchestrator.objectives import Objectives
from orchestrator.projection import describer
from orchestrator.protocols import EvaluationPool, Store
from orchestrator.records import Event

STUDY, ISLAND = "bench", "branches-3"


def bench_recipe(
    candidates: int, *, workers: int, window: int, batch: int = 1, mode: str = "steady-state", population: int = 40
) -> Recipe:
    """A recipe whose one island is asked for so many candidates."""
    document = {
        "study": STUDY,
        "space": {"name": "hyctas", "branches": [3]},
        "data": {"name": "synthetic"},
        "training": {"steps": 1},
        "objectives": [{"name": "miou"}, {"name": "macs", "reference": 1e8}],
        "latency": {"measure": False},
        "sampler": {"mode": mode, "population_size": population},
        "budget": {"evaluations_per_island": candidates},
        "workers": {"count": workers, "window": window, "batch": batch},
    }
    return read_recipe(document, "bench")


def bench_search(
    recipe: Recipe,
    pool: EvaluationPool,
    journal: Journal,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Search:
    """The recipe's search from its start; nothing is tracked."""
    space, objectives = make_space(recipe), Objectives.from_settings(recipe.objectives)
    return Search(
        islands=make_islands(recipe, space, objectives, journal),
        pool=pool,
        journal=journal,
        tracker=NoTracker(),
        describe=describer(space),
        batch_size=recipe.workers.batch,
        on_progress=on_progress,
    )


def bench_journal(recipe: Recipe, store: Store) -> Journal:
    """The search's journal, empty."""
    return Journal.create(store, recipe.study, make_space(recipe).islands)


class NoJournal(Journal):
    """A journal that stays empty, for searches on a clock that the disk would not move."""

    def append(self, events: Sequence[Event]) -> None:
        pass


def bench_store(folder: Path) -> FileStore:
    """A store in a folder, as a study has it: what is written is on the disk."""
    store = FileStore(folder)
    store.probe()
    return store
