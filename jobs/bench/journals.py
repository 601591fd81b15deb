"""Journals of two studies, made comparable; and what a study has in its store that nothing leads to."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from infra.file_store import FileStore
from infra.stores import StudyStore
from infra.weights import weights_key
from jobs.progress import Display
from jobs.search import search
from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.journal import Journal
from orchestrator.protocols import ObjectMissing, Store
from orchestrator.records import Event, Measurement
from orchestrator.study import read_weights

Record: TypeAlias = tuple[str, int, tuple[int, ...], str, Any]
"""Island, number, genotype and architecture of a candidate, and its metrics or how it failed."""
SINGLE = ("manifest.json", "lease.json", "HEAD", "weights.json", "amendments.json", "canary.json")
"""Objects of which a study has one."""


def quiet() -> Display:
    """A display that nobody sees."""
    return Display(Console(file=io.StringIO(), width=1000))


def records(store: Store, study: str) -> list[Record]:
    """A study's journal, island by island, without what depends on who measured when."""
    try:
        journal = Journal.open(store, study)
    except ObjectMissing:
        return []
    return [_record(event) for island in journal.islands for event in journal.events(island)]


def undisturbed(recipe: Recipe) -> list[Record]:
    """The journal of the recipe's study where nothing goes wrong."""
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        store = FileStore(Path(folder))
        search(calm(recipe), Study(store, recipe.study), quiet(), None, in_process=True)
        return records(store, recipe.study)


def calm(recipe: Recipe) -> Recipe:
    """The recipe with evaluations that take no time and are not logged, where it has formulas."""
    document: Mapping[str, Any] = recipe.model_dump(mode="json")
    if recipe.space.name != "toy":
        return recipe
    return Recipe.model_validate({**document, "space": {"name": "toy"}})


def strays(store: StudyStore, study: str) -> list[str]:
    """Objects of a finished study that nothing leads to."""
    journal = Journal.open(store, study)
    for island in journal.islands:
        journal.events(island)
    needed = {f"{study}/{name}" for name in SINGLE} | journal.segments()
    if digest := read_weights(store, study):
        needed.add(weights_key(study, digest))
    return [key for key in store.list(f"{study}/") if key not in needed and not key.startswith(f"{study}/canary/")]


def _record(event: Event) -> Record:
    one, result = event.candidate, event.result
    found = tuple(sorted(result.metrics.items())) if isinstance(result, Measurement) else (result.kind, result.message)
    return one.island, one.number, one.genotype, one.architecture_id, found
