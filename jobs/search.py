"""Runs a study from its recipe to its fronts, or goes on with one: checks, supernet, search."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from infra.local import InProcessPool
from jobs.composition import load_data, make_evaluator_factory, make_space
from jobs.progress import Display
from jobs.resumption import check_budget, check_origin, check_recipe, extended, held, origin_of
from jobs.study import Study
from jobs.tracking import draw, make_tracker, parameters_of
from orchestrator.canary import Canary, canary_candidate
from orchestrator.config import Recipe
from orchestrator.foresight import Spell, note_spell
from orchestrator.island import make_islands
from orchestrator.journal import Journal
from orchestrator.lease import Lease
from orchestrator.limits import check_limits
from orchestrator.loop import Ending, EndReason, Search
from orchestrator.memo import MemoPool
from orchestrator.objectives import Objectives
from orchestrator.projection import describer, project
from orchestrator.protocols import EvaluationPool, StoreError
from orchestrator.repair import repair
from orchestrator.study import check_free, create_study, read_study, read_weights
from search_spaces.base import SearchSpace
from search_spaces.training.endings import TrainingFailed, TrainingStopped

if TYPE_CHECKING:
    from search_spaces.data.images import ImageData


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
    data = None if recipe.data is None else load_data(recipe)
    check_limits_of(recipe, data)
    if address is not None and not in_process:
        from infra.ray_cluster import connect

        connect(address, cpus=0, weights_bytes=0)
    create_study(study.store, recipe, origin_of(recipe, data))
    display.say(f"study {study.name} in {study.where}")
    signals = Stop()
    with signals.listening(), held(study, recipe, display) as lease:
        return _run(recipe, study, lease, signals, display, address, in_process)


def search_or_resume(recipe: Recipe, study: Study, display: Display, address: str | None, in_process: bool) -> Ending:
    """Goes on with the study if it is there, else begins it: what a cluster may start as often as it likes.

    Raises:
        ValueError: what `search` and `resume` raise, or the study that is there has another recipe.
        StoreError: likewise.
        JournalCorrupt: likewise.
    """
    if study.name not in study.store.studies():
        return search(recipe, study, display, address, in_process)
    check_recipe(study, recipe)
    return resume(study, display, address, in_process)


def resume(
    study: Study,
    display: Display,
    address: str | None,
    in_process: bool,
    *,
    more: int = 0,
    mend: bool = False,
    accept_changes: bool = False,
) -> Ending:
    """Goes on where the study's journal ends: trains the rest of the supernet, searches the rest of the budget.

    more: candidates by which each island's budget grows, in a study that is finished; `mend`: whether a damaged journal
    is cut; `accept_changes`: whether it goes on although code, data or libraries have changed.

    Raises:
        ValueError: there is no such study, or it cannot be continued here; one sentence.
        StoreError: the store cannot be read or written, or another driver runs the study.
        JournalCorrupt: an object of the journal is not what was written.
    """
    signals = Stop()
    with signals.listening(), held(study, read_study(study.store, study.name).recipe, display) as lease:
        manifest = read_study(study.store, study.name)
        islands = make_space(manifest.recipe).islands
        for line in repair(study.store, study.name, islands, lease.epoch) if mend else ():
            display.say(line)
        check_origin(study, manifest, display, accept_changes)
        recipe = extended(study, manifest.recipe, lease, more) if more else manifest.recipe
        return _run(recipe, study, lease, signals, display, address, in_process)


def _run(
    recipe: Recipe,
    study: Study,
    lease: Lease,
    signals: Stop,
    display: Display,
    address: str | None,
    in_process: bool,
) -> Ending:
    """Trains and searches what is left, for the holder of the lease."""

    def stop() -> bool:
        lease.check()
        return signals()

    objectives, space = Objectives.from_settings(recipe.objectives), make_space(recipe)
    journal = Journal.take(study.store, study.name, space.islands, lease.epoch, lease.check)
    check_budget(recipe, journal)
    weights = _weights(recipe, study, display, stop, journal, address, in_process)
    if isinstance(weights, Ending):
        return weights
    if recipe.shrinking is not None:
        from jobs.shrink import with_snapshots

        space = with_snapshots(recipe, study.store)
    islands = make_islands(recipe, space, objectives, journal)
    journal.sweep()
    tracker = make_tracker(recipe, study)
    tracker.start(study.name, parameters_of(recipe, read_weights(study.store, study.name)))
    if any(journal.count(island) for island in journal.islands):
        project(journal, objectives, describer(space), tracker)
    began_s, before = time.monotonic(), sum(map(journal.count, journal.islands))
    pool = make_pool(recipe, study, space, weights, address, in_process)
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
                pictures=lambda: draw(recipe, space, objectives, journal),
                on_progress=show,
            ).run()
    finally:
        pool.close()
    lease.beat()
    journal.sweep()
    found = sum(map(journal.count, journal.islands)) - before
    note_spell(study.store, study.name, Spell("searching", time.monotonic() - began_s, found))
    return ending


def check_limits_of(recipe: Recipe, data: ImageData | None) -> None:
    """Looks for an architecture within the limits, before anything expensive starts.

    Raises:
        ObjectiveError: an island has none, it seems.
    """
    objectives = Objectives.from_settings(recipe.objectives)
    if recipe.shrinking is not None:
        return  # nobody knows what a penalty will leave
    if data is None:
        check_limits(make_space(recipe), objectives, lambda architecture: architecture.metrics())
        return
    from jobs.composition import make_network_space
    from search_spaces.complexity import ComplexityCounter

    space = make_network_space(recipe, data.n_classes)
    counter, shape = ComplexityCounter(space.build), (1, 3, *data.validation.size)

    def counted(architecture: Any) -> dict[str, float]:
        cost = counter.count(space.lower(architecture), shape)
        return {"macs": cost.macs, "params": cost.params}

    check_limits(space, objectives, counted)


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
    began_s, trained = time.monotonic(), read_weights(study.store, study.name) is not None
    try:
        weights = _trained(recipe, study, display, stop, address, in_process)
    except TrainingStopped as stopped:
        note_spell(study.store, study.name, Spell("training", time.monotonic() - began_s))
        return Ending(EndReason.STOPPED, str(stopped))
    except TrainingFailed as failed:
        return Ending(EndReason.NO_WORKERS, str(failed))
    if not trained:
        note_spell(study.store, study.name, Spell("training", time.monotonic() - began_s))
    return weights


def _trained(
    recipe: Recipe, study: Study, display: Display, stop: Callable[[], bool], address: str | None, in_process: bool
) -> Mapping[str, np.ndarray]:
    """The weights that are searched with, from the store or trained now."""
    if recipe.shrinking is not None:
        from jobs.shrink import shrunk_weights

        return shrunk_weights(recipe, study.store, display, stop, address, in_process)
    from jobs.train_supernet import supernet_weights

    with display.training() as show:
        return supernet_weights(recipe, study.store, show, stop, address, in_process)


def make_pool(
    recipe: Recipe,
    study: Study,
    space: SearchSpace[Any],
    weights: Mapping[str, np.ndarray],
    address: str | None,
    in_process: bool,
) -> EvaluationPool:
    """The workers that the recipe wants, on Ray or, one at a time, in this process.

    Raises:
        ConnectionError: no Ray answers at `address`.
    """
    factory = make_evaluator_factory(recipe)
    if in_process:
        return InProcessPool(factory(weights), measure_latency=recipe.latency.measure)
    from infra.ray_pool import RayPool

    canary = Canary(study.store, study.name, canary_candidate(space, recipe.seed))
    return RayPool(factory, weights, recipe.workers, recipe.latency, address, canary)
