"""Runs a study from its recipe to its fronts, or goes on with one: checks, supernet, search."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from infra.file_store import FileStore
from infra.local import InProcessPool
from infra.machine import SystemClock, has_ended, heartbeat, this_process
from infra.mlflow_ui import sqlite_uri
from infra.stores import STUDIES, StudyStore, make_store
from jobs.composition import make_evaluator_factory, make_space
from jobs.progress import Display
from orchestrator.canary import Canary, canary_candidate
from orchestrator.config import Recipe
from orchestrator.island import make_islands
from orchestrator.journal import Journal, read_epoch
from orchestrator.lease import Lease, take
from orchestrator.limits import check_limits
from orchestrator.loop import Ending, EndReason, Search
from orchestrator.memo import MemoPool
from orchestrator.objectives import Objectives
from orchestrator.projection import describer, project
from orchestrator.protocols import EvaluationPool, ObjectChanged, StoreError, Tracker
from orchestrator.report.fronts import fronts_png
from orchestrator.study import StudyMissing, check_free, create_study, read_study, read_weights
from search_spaces.base import SearchSpace


@dataclass(frozen=True)
class Study:
    """A study's place."""

    store: StudyStore
    name: str

    @classmethod
    def at(cls, name: str, store: str) -> Study:
        """The study that a person means: its name in the store, the path of its folder, or s3://bucket/prefix/study.

        Raises:
            StudyMissing: there is none.
            StoreError: the store cannot be read.
        """
        path = Path(name)
        if "://" in name:
            store, _, name = name.rstrip("/").rpartition("/")
        elif (path / "manifest.json").is_file():
            store, name = str(path.absolute().parent), path.absolute().name
        place = make_store(store)
        found = place.studies()
        if name not in found:
            held = f"it holds {', '.join(found)}" if found else "it holds none"
            raise StudyMissing(f"there is no study {name} in the store {store}: {held}; say --store for another store")
        return cls(place, name)

    @property
    def where(self) -> str:
        return f"{self.store.where}/{self.name}"

    @property
    def tracking_folder(self) -> Path:
        return tracking_folder(self.store)

    def tracking_uri(self, recipe: Recipe) -> str:
        return recipe.tracking.uri or sqlite_uri(self.tracking_folder / "mlflow.db")


def tracking_folder(store: StudyStore) -> Path:
    """Where MLflow's SQLite file and artifacts lie, unless a recipe says otherwise: a database needs a file system."""
    return store.root if isinstance(store, FileStore) else Path(STUDIES).absolute()


class Stop:
    """Whether SIGINT or SIGTERM has asked this process to end. The second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals for as long as the block runs."""
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def search(recipe: Recipe, study: Study, display: Display, address: str | None, in_process: bool) -> Ending:
    """Begins a study and runs it to its end.

    Raises:
        ValueError: the study exists, or something in the recipe cannot be run here; one sentence.
        StoreError: the store cannot be written.
    """
    study.store.probe()
    check_free(study.store, recipe.study)
    if recipe.training is not None:
        from jobs.train_supernet import check_place

        check_place(recipe.training, in_process)
    _check_limits(recipe)
    if address is not None and not in_process:
        from infra.ray_cluster import connect

        connect(address, cpus=0, weights_bytes=0)
    create_study(study.store, recipe)
    display.say(f"study {study.name} in {study.where}")
    return resume(study, display, address, in_process)


def resume(study: Study, display: Display, address: str | None, in_process: bool) -> Ending:
    """Goes on where the study's journal ends: trains the rest of the supernet, searches the rest of the budget.

    Raises:
        ValueError: there is no such study, or its journal cannot be continued by this code; one sentence.
        StoreError: the store cannot be read or written.
    """
    recipe = read_study(study.store, study.name).recipe
    signals = Stop()
    with signals.listening(), _held(study, recipe, display) as lease:

        def stop() -> bool:
            lease.check()
            return signals()

        objectives, space = Objectives.from_settings(recipe.objectives), make_space(recipe)
        journal = Journal.take(study.store, study.name, space.islands, lease.epoch)
        weights = _weights(recipe, study, display, stop, journal, address, in_process)
        if isinstance(weights, Ending):
            return weights
        islands = make_islands(recipe, space, objectives, journal)
        journal.sweep()
        tracker = _tracker(recipe, study)
        tracker.start(study.name, _parameters(recipe, read_weights(study.store, study.name)))
        if any(journal.count(island) for island in journal.islands):
            project(journal, objectives, describer(space), tracker)
        pool = _pool(recipe, study, space, weights, address, in_process)
        if recipe.workers.memo:
            pool = MemoPool(pool, study.store, read_weights(study.store, study.name))
        try:
            with display.searching() as show:
                ending = Search(
                    islands=islands,
                    pool=pool,
                    journal=journal,
                    tracker=tracker,
                    describe=describer(space),
                    batch_size=recipe.workers.batch,
                    stop=stop,
                    pictures=lambda: {"fronts.png": draw_fronts(study.name, objectives, journal)},
                    on_progress=show,
                ).run()
        finally:
            pool.close()
        lease.beat()
        journal.sweep()
        return ending


def _check_limits(recipe: Recipe) -> None:
    """Reads the data set and looks for an architecture within the limits, before anything expensive starts."""
    objectives = Objectives.from_settings(recipe.objectives)
    if recipe.data is None:
        check_limits(make_space(recipe), objectives, lambda architecture: architecture.metrics())
        return
    from jobs.composition import load_data, make_network_space
    from search_spaces.complexity import ComplexityCounter

    data = load_data(recipe)
    space = make_network_space(recipe, data.n_classes)
    counter, shape = ComplexityCounter(space.build), (1, 3, *data.validation.size)

    def counted(architecture: Any) -> dict[str, float]:
        cost = counter.count(space.lower(architecture), shape)
        return {"macs": cost.macs, "params": cost.params}

    check_limits(space, objectives, counted)


@contextmanager
def _held(study: Study, recipe: Recipe, display: Display) -> Iterator[Lease]:
    """The study's lease, with a heartbeat, for as long as the block runs.

    Raises:
        LeaseHeld: another driver runs the study.
        LeaseLost: another driver has taken it over meanwhile.
    """
    epoch, owner = read_epoch(study.store, study.name), this_process()
    lease = take(
        study.store,
        study.name,
        owner,
        SystemClock(),
        ttl_s=recipe.lease.ttl_s,
        epoch=epoch,
        has_ended=has_ended,
        say=display.say,
    )
    try:
        with heartbeat(lease):
            yield lease
    except ObjectChanged:
        lease.beat()  # says who has taken the study over
        raise
    finally:
        lease.release()


def _weights(
    recipe: Recipe,
    study: Study,
    display: Display,
    stop: Callable[[], bool],
    journal: Journal,
    address: str | None,
    in_process: bool,
) -> Mapping[str, np.ndarray] | Ending:
    """The supernet's weights; none in a space without networks; how it ended where training came to no end."""
    if recipe.training is None:
        return {}
    if any(map(journal.count, journal.islands)) and read_weights(study.store, study.name) is None:
        raise StoreError(f"{study.name}/weights.json is missing, and candidates were measured with what it names: "
                         "restore it")  # fmt: skip
    from jobs.train_supernet import TrainingStopped, supernet_weights
    from search_spaces.training.ranks import TrainingFailed

    try:
        with display.training() as show:
            return supernet_weights(recipe, study.store, show, stop, address, in_process)
    except TrainingStopped as stopped:
        return Ending(EndReason.STOPPED, str(stopped))
    except TrainingFailed as failed:
        return Ending(EndReason.NO_WORKERS, str(failed))


def _pool(
    recipe: Recipe,
    study: Study,
    space: SearchSpace[Any],
    weights: Mapping[str, np.ndarray],
    address: str | None,
    in_process: bool,
) -> EvaluationPool:
    factory = make_evaluator_factory(recipe)
    if in_process:
        return InProcessPool(factory(weights), measure_latency=recipe.latency.measure)
    from infra.ray_pool import RayPool

    canary = Canary(study.store, study.name, canary_candidate(space, recipe.seed))
    return RayPool(factory, weights, recipe.workers, recipe.latency, address, canary)


def _tracker(recipe: Recipe, study: Study) -> Tracker:
    if not recipe.tracking.enabled:
        return NoTracker()
    from infra.mlflow_tracker import MlflowTracker

    experiment = recipe.tracking.experiment or recipe.study
    manifest = hashlib.sha256(study.store.read(f"{study.name}/manifest.json")).hexdigest()
    artifacts = study.tracking_folder / "mlflow-artifacts"
    return MlflowTracker(study.tracking_uri(recipe), experiment, artifacts=artifacts, identity=manifest[:16])


def _parameters(recipe: Recipe, digest: str | None) -> dict[str, str]:
    """The recipe, flattened, for people who compare studies."""
    flat: dict[str, str] = {"weights": digest or "none"}

    def visit(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{path}.{key}" if path else str(key), inner)
        else:
            flat[path] = str(value)

    visit("", recipe.model_dump(mode="json"))
    return flat


def draw_fronts(title: str, objectives: Objectives, journal: Journal) -> bytes:
    """A PNG of what the journal holds."""
    return fronts_png(title, objectives, {island: journal.events(island) for island in journal.islands})


class NoTracker:
    """A `Tracker` for studies that nobody tracks."""

    def start(self, study: str, parameters: Mapping[str, str]) -> None: ...

    def record(self, event: Any, description: Mapping[str, str], on_front: bool) -> None: ...

    def progress(self, island: str, evaluated: int, metrics: Mapping[str, float]) -> None: ...

    def attach(self, name: str, data: bytes) -> None: ...

    def finish(self, status: str) -> None: ...
