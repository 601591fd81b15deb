"""What a study was foretold to take, and what it has taken.

plans/<study>.json     what `archipelago plan` foretold, the newest
<study>/spells.json    how long the study's drivers have trained and searched, a spell for each time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.config import Recipe
from orchestrator.protocols import ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal
from search_spaces.base import digest

Phase = Literal["training", "searching"]
BUSY = 0.95
"""Share of their time that several workers have work."""
NO_MATTER = ("study", "tracking", "lease")
"""Sections of a recipe that change nothing about what a study takes."""


@dataclass(frozen=True)
class Foresight:
    """What a study is expected to take, from a handful of steps and candidates of it. Seconds are of wall time on the
    devices that they were measured on."""

    recipe: str
    """Digest of what it was measured with, see `recipe_digest`."""
    workers: int
    training_workers: int
    candidates: int
    training_s: float
    """0 where nothing is trained."""
    start_s: float
    """Until workers are ready."""
    accuracy_s: float
    """Of one worker, for all candidates."""
    latency_s: float
    """Of one lane, for all candidates."""
    lanes_apart: bool
    """Whether candidates are timed while workers work."""
    store_bytes: int
    """When the study is done; while it trains, a checkpoint or two more."""
    worker_bytes: int
    """Most memory of a worker that evaluates a batch."""

    def searching_with(self, workers: int) -> float:
        """Seconds of the search with so many workers, each with a device of its own."""
        accuracy_s = self.accuracy_s / workers / (1 if workers == 1 else BUSY)
        together = max if self.lanes_apart else sum
        return self.start_s + together((accuracy_s, self.latency_s))

    @property
    def searching_s(self) -> float:
        return self.searching_with(self.workers)

    @property
    def wall_s(self) -> float:
        return self.training_s + self.searching_s

    @property
    def device_s(self) -> float:
        """Of training and of all workers together."""
        return self.training_s * self.training_workers + self.accuracy_s + self.latency_s

    def row(self) -> dict[str, Any]:
        """What `plan --json` prints."""
        times = {name: getattr(self, name) for name in ("searching_s", "wall_s", "device_s")}
        return {**asdict(self), **times}


@dataclass(frozen=True)
class Spell:
    """A time without interruption in which a driver did one thing."""

    phase: Phase
    duration_s: float
    candidates: int = 0
    """That the journal got in it."""


def recipe_digest(recipe: Recipe) -> str:
    """16 hex digits over all of a recipe that may change what a study takes."""
    return digest(recipe.model_dump(mode="json", exclude=set(NO_MATTER)))


def write_foresight(store: Store, study: str, foresight: Foresight) -> None:
    """Keeps it, in place of what was foretold before."""
    _replace(store, _plan_key(study), asdict(foresight))


def read_foresight(store: Store, study: str) -> Foresight | None:
    """What was foretold of the study; None: nothing.

    Raises:
        StoreError: it is damaged.
    """
    body = _read(store, _plan_key(study))
    return None if body is None else Foresight(**body)


def note_spell(store: Store, study: str, spell: Spell) -> None:
    """Adds to what the study has taken.

    Raises:
        StoreError: what is there is damaged, or somebody else writes it.
    """
    spells = [asdict(one) for one in read_spells(store, study)]
    _replace(store, _spells_key(study), {"spells": [*spells, asdict(spell)]})


def read_spells(store: Store, study: str) -> Sequence[Spell]:
    """The spells of the study's drivers, the first first; those that were killed left none.

    Raises:
        StoreError: they are damaged.
    """
    body = _read(store, _spells_key(study))
    return [] if body is None else [Spell(**spell) for spell in body["spells"]]


def _plan_key(study: str) -> str:
    return f"plans/{study}.json"


def _spells_key(study: str) -> str:
    return f"{study}/spells.json"


def _read(store: Store, key: str) -> dict[str, Any] | None:
    try:
        return unseal(store.read(key))
    except ObjectMissing:
        return None
    except ValueError as error:
        raise StoreError(f"{key} is damaged: {error}; delete it: no result depends on it") from None


def _replace(store: Store, key: str, body: dict[str, Any]) -> None:
    try:
        before = store.read(key)
    except ObjectMissing:
        before = None
    store.replace(key, seal(body), before)
