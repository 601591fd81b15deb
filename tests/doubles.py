"""In-memory twins of what surrounds the search, with a clock that only they move."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.config import Recipe, read_recipe
from orchestrator.island import Island, make_islands
from orchestrator.journal import Journal
from orchestrator.loop import Ending, Search
from orchestrator.objectives import Objectives
from orchestrator.projection import describer
from orchestrator.protocols import (
    CandidateEvaluator,
    EvaluationPool,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    PoolExhausted,
    Store,
    Tracker,
    check_key,
)
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Outcome, with_latency
from search_spaces.toy import ToySpace


class MemoryStore:
    """A `Store` in a dict; a copy of `objects` is what a killed driver leaves behind."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})

    def create(self, key: str, data: bytes) -> None:
        check_key(key)
        if key in self.objects:
            raise ObjectExists(f"{key} exists")
        self.objects[key] = data

    def create_from(self, key: str, file: Path) -> None:
        self.create(key, file.read_bytes())

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.read(key))
            file.flush()
            yield Path(file.name)

    def read(self, key: str) -> bytes:
        check_key(key)
        if key not in self.objects:
            raise ObjectMissing(f"{key} is missing")
        return self.objects[key]

    def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
        check_key(key)
        if self.objects.get(key) != expected:
            raise ObjectChanged(f"{key} was changed by somebody else")
        self.objects[key] = data

    def delete(self, key: str) -> None:
        check_key(key)
        self.objects.pop(key, None)

    def list(self, prefix: str) -> Sequence[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))


class SimulatedPool:
    """Workers on a virtual clock: `collect` jumps to the next completion, so results come out of order at once.

    `dies`: whether the worker dies under this attempt (from 1) at a candidate. `lasts`: outcomes until no worker
    is left.
    """

    def __init__(
        self,
        evaluator: CandidateEvaluator,
        workers: int,
        duration_s: Callable[[Candidate], float],
        dies: Callable[[Candidate, int], bool] = lambda candidate, attempt: False,
        lasts: float = float("inf"),
    ) -> None:
        self._evaluator, self._workers, self._duration_s = evaluator, workers, duration_s
        self._dies, self._lasts = dies, lasts
        self._running: list[tuple[float, int, Candidate]] = []
        self._submitted = 0
        self._attempts: dict[tuple[str, int], int] = {}
        self.now_s = 0.0
        self.evaluated: list[Candidate] = []
        self._scored: list[tuple[Candidate, Measurement]] = []

    @property
    def protocol_digest(self) -> str:
        return self._evaluator.protocol_digest

    def free_slots(self) -> int:
        return self._workers - len(self._running)

    def submit(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            assert self.free_slots() > 0, "more candidates than places"
            self._submitted += 1
            heapq.heappush(self._running, (self.now_s + self._duration_s(candidate), self._submitted, candidate))

    def submit_scored(self, candidate: Candidate, accuracy: Measurement) -> None:
        self._scored.append((candidate, accuracy))

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        if self._scored:
            scored, self._scored = self._scored, []
            return [Outcome(one, with_latency(known, self._evaluator.latency(one))) for one, known in scored]
        if len(self.evaluated) >= self._lasts:
            raise PoolExhausted("no worker is left")
        if not self._running:
            return ()
        self.now_s, _, candidate = heapq.heappop(self._running)
        name = (candidate.island, candidate.number)
        self._attempts[name] = self._attempts.get(name, 0) + 1
        if self._dies(candidate, self._attempts[name]):
            return (Outcome(candidate, Failure(FailureKind.INFRASTRUCTURE, "the worker died")),)
        self.evaluated.append(candidate)
        (result,) = self._evaluator.score([candidate])
        if isinstance(result, Measurement):
            result = with_latency(result, self._evaluator.latency(candidate))
        return (Outcome(candidate, result),)

    def close(self) -> None:
        self._running.clear()


@dataclass
class MemoryTracker:
    """A `Tracker` that remembers the last it heard of each candidate."""

    status: str = "not started"
    on_front: dict[tuple[str, int], bool] = field(default_factory=dict)
    descriptions: dict[tuple[str, int], Mapping[str, str]] = field(default_factory=dict)
    figures: dict[str, Mapping[str, float]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def start(self, study: str, parameters: Mapping[str, str]) -> None:
        self.status = "RUNNING"

    def record(self, event: Event, description: Mapping[str, str], on_front: bool) -> None:
        name = (event.candidate.island, event.candidate.number)
        self.on_front[name], self.descriptions[name] = on_front, description

    def progress(self, island: str, evaluated: int, metrics: Mapping[str, float]) -> None:
        self.figures[island] = {"evaluated": evaluated, **metrics}

    def attach(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def finish(self, status: str) -> None:
        self.status = status

    @property
    def complete(self) -> bool:
        return bool(self.status)


def toy_recipe(
    sampler: str = "nsga2",
    *,
    mode: str = "generational",
    budget: int = 40,
    window: int = 6,
    order: str = "ordered",
    seed: int = 0,
    population: int = 10,
    objectives: Sequence[Mapping[str, object]] = ({"name": "miou"}, {"name": "latency_ms", "reference": 12.0}),
    space: Mapping[str, object] | None = None,
) -> Recipe:
    """A small study of the toy space."""
    document = {
        "study": "toy",
        "seed": seed,
        "space": {"name": "toy", **(space or {})},
        "objectives": list(objectives),
        "sampler": {"name": sampler, "mode": mode, "population_size": population, "mutation_probability": 0.1},
        "budget": {"evaluations_per_island": budget},
        "workers": {"window": window, "order": order},
    }
    return read_recipe(document, "toy.yaml")


@dataclass
class ToyStudy:
    """A study that ran, and what it left."""

    islands: tuple[Island, ...]
    journal: Journal
    ending: Ending

    @property
    def events(self) -> dict[str, tuple[Event, ...]]:
        return {island: self.journal.events(island) for island in self.journal.islands}


def run_toy(
    recipe: Recipe,
    pool: EvaluationPool,
    store: Store | None = None,
    tracker: Tracker | None = None,
    **options: object,
) -> ToyStudy:
    """Runs the study, from the start or from where the store's journal ends."""
    store, space = store or MemoryStore(), ToySpace()
    try:
        journal = Journal.open(store, recipe.study)
    except ObjectMissing:
        journal = Journal.create(store, recipe.study, space.islands)
    islands = make_islands(recipe, space, Objectives.from_settings(recipe.objectives), journal)
    search = Search(islands, pool, journal, tracker or MemoryTracker(), describer(space), **options)  # type: ignore[arg-type]
    return ToyStudy(islands, journal, search.run())
