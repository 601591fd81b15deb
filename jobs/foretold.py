"""What a study was foretold to take and what it has taken, as sheets for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.progress import duration
from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.foresight import Foresight, Spell, read_foresight, read_spells, recipe_digest
from orchestrator.records import Event
from orchestrator.report.sheet import Sheet
from orchestrator.report.spent import own_timings

WORKERS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers for which wall time is foretold."""


def foresight_sheet(foresight: Foresight) -> Sheet:
    """What is foretold, for people."""
    rows = [
        ["training the supernet", duration(foresight.training_s)],
        [f"searching, {foresight.candidates:,} candidates", duration(foresight.searching_s)],
        ["in all", duration(foresight.wall_s)],
        ["device-hours", f"{foresight.device_s / 3600:.2f}"],
        ["memory of a worker", size(foresight.worker_bytes)],
        ["in the store, at the end", size(foresight.store_bytes)],
    ]
    several = f"{foresight.workers} worker{'s' * (foresight.workers != 1)}"
    return Sheet(f"Foretold, with {several}", ["", "foretold"], rows)


def workers_sheet(foresight: Foresight) -> Sheet:
    """How wall time goes with the number of workers."""
    rows = [[str(count), duration(foresight.searching_with(count))] for count in WORKERS]
    return Sheet("Searching, by workers", ["workers", "time"], rows)


def taken_sheets(study: Study, recipe: Recipe, events: Mapping[str, Sequence[Event]]) -> list[Sheet]:
    """What was foretold beside what was taken; empty where nothing was foretold, or nothing is there to compare."""
    foresight, spells = read_foresight(study.store, study.name), read_spells(study.store, study.name)
    if foresight is None or not spells or foresight.recipe != recipe_digest(recipe):
        return []
    done = [event for island in events.values() for event in island]
    share = len(done) / foresight.candidates
    rows = [
        _row("training the supernet", foresight.training_s, _took(spells, "training")),
        _row(f"searching, {len(done):,} candidates", foresight.searching_s * share, _took(spells, "searching")),
        _row("workers' time", _workers_s(foresight) * share, sum(sum(own_timings(event).values()) for event in done)),
    ]
    return [Sheet("Foretold and taken", ["", "foretold", "taken", "taken / foretold"], [row for row in rows if row])]


def size(n_bytes: float) -> str:
    """Bytes as people read them."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def _workers_s(foresight: Foresight) -> float:
    return foresight.accuracy_s + foresight.latency_s


def _took(spells: Sequence[Spell], phase: str) -> float:
    return sum(spell.duration_s for spell in spells if spell.phase == phase)


def _row(name: str, foretold_s: float, taken_s: float) -> list[str]:
    if not foretold_s or not taken_s:
        return []
    return [name, duration(foretold_s), duration(taken_s), f"{taken_s / foretold_s:.2f}"]
