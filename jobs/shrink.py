"""Search by shrinking: a training for each penalty, side by side with Ray Tune, or one after the other in this process.

Each one goes on from its last checkpoint in the study's store, and leaves there what is left of its network after each
removal. When all have ended, the weights of all of it become those of the study, and the search goes on as any other:
the snapshots are its candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from infra.weights import load_weights, save_weights, weights_key
from jobs.checkpoints import Checkpoints, train_to_end
from jobs.composition import load_data, make_space, snapshot_space
from jobs.progress import Display
from jobs.retrain import overridden
from jobs.retrained import Chosen
from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.protocols import Store, StoreError
from orchestrator.randomness import generator
from orchestrator.shrinking import read_snapshot, record_snapshot, training_place
from orchestrator.study import read_study, read_weights, record_weights
from search_spaces.base import architecture_id
from search_spaces.hrnas.snapshots import Snapshot, SnapshotSpace, island_of
from search_spaces.hrnas.units import random_of_macs
from search_spaces.training.endings import TrainingStopped
from search_spaces.training.settings import RetrainingSettings, TrainingProgress, TrialProgress
from search_spaces.training.shrinking import ShrinkingTrainer


def shrunk_weights(
    recipe: Recipe,
    store: Store,
    display: Display,
    stop: Callable[[], bool],
    address: str | None = None,
    in_process: bool = False,
) -> dict[str, np.ndarray]:
    """The weights of all snapshots: from the store, or trained now.

    Raises:
        DataError: the data set is missing or broken.
        StoreError: the store cannot be read or written.
        TrainingStopped: `stop` said so.
        TrainingFailed: a training's processes died again and again.
    """
    assert recipe.shrinking is not None
    if read_weights(store, recipe.study) is None:
        jobs = [Shrinking(recipe, store, penalty) for penalty in recipe.shrinking.penalties]
        left = [job for job in jobs if not job.done]
        if left:
            with display.trials("shrinking", [job.island for job in left]) as show:
                _run(left, show, stop, address, in_process)
        if not all(job.done for job in jobs):
            raise TrainingStopped("stopped in training")
        _join(recipe, store)
    digest = read_weights(store, recipe.study)
    assert digest is not None, "they have been joined"
    return load_weights(store, recipe.study, digest)


def with_snapshots(recipe: Recipe, store: Store) -> SnapshotSpace:
    """The recipe's space, which lists what the trainings have left.

    Raises:
        StoreError: something of it is damaged or missing.
    """
    space = make_space(recipe)
    assert isinstance(space, SnapshotSpace)
    found = _snapshots(recipe, store)
    return space.listing({island: [snapshot for snapshot, _ in of] for island, of in found.items()})


def random_rivals(study: Study, chosen: Sequence[Chosen], count: int, overrides: Sequence[str]) -> list[Chosen]:
    """Random networks of the multiply-adds of each chosen candidate, to be trained from scratch beside it.

    Raises:
        ValueError: the study's networks do not shrink.
        DataError: the data set is missing or broken.
    """
    recipe = overridden(read_study(study.store, study.name).recipe, overrides)
    if recipe.shrinking is None:
        raise ValueError(f"--random is for studies that shrink networks: `archipelago trust {study.name}` trains "
                         "random networks beside those that a search has found")  # fmt: skip
    data = load_data(recipe)
    space, image = snapshot_space(recipe, data.n_classes).space, (1, 3, *data.validation.size)
    found = []
    for one in chosen:
        for index in range(count):
            rng = generator(recipe.seed, "random", one.name, str(index))
            network = random_of_macs(space, int(one.metrics["macs"]), image, rng)
            rival = replace(one.architecture, network=network)
            name = f"{one.name} random {index}"
            found.append(Chosen(name, one.island, rival, architecture_id(rival), {}))
    return found


def _snapshots(recipe: Recipe, store: Store) -> dict[str, list[tuple[Snapshot, str]]]:
    """By island: the snapshots in order, each with the digest of its weights."""
    space = make_space(recipe)
    assert isinstance(space, SnapshotSpace)
    snapshots: dict[str, list[tuple[Snapshot, str]]] = {island: [] for island in space.islands}
    for island, found in snapshots.items():
        for step in space.steps:
            known = read_snapshot(store, recipe.study, island, step)
            if known is None:
                key = f"{training_place(recipe.study, island)}/{step}.json"
                raise StoreError(f"{key} is missing, and its training has ended: restore it")
            found.append((space.architecture_from_json(known[0]), known[1]))
    return snapshots


def _join(recipe: Recipe, store: Store) -> None:
    """Makes the weights of all snapshots the study's; those of each one alone are forgotten."""
    every = [one for of in _snapshots(recipe, store).values() for one in of]
    joined = {
        f"{snapshot.place}/{name}": array
        for snapshot, digest in every
        for name, array in load_weights(store, recipe.study, digest).items()
    }
    record_weights(store, recipe.study, save_weights(store, recipe.study, joined))
    for digest in {digest for _, digest in every}:
        store.delete(weights_key(recipe.study, digest))


def _run(
    jobs: list[Shrinking],
    show: Callable[[TrialProgress], None],
    stop: Callable[[], bool],
    address: str | None,
    in_process: bool,
) -> None:
    training = jobs[0].recipe.training
    assert training is not None
    if not in_process:
        from infra.ray_tune import run_trials

        run_trials(jobs, training.threads, address, None, show, stop)
        return
    torch.set_num_threads(training.threads)
    for place, job in enumerate(jobs):
        job(partial(_show, show, place), stop)


def _show(show: Callable[[TrialProgress], None], place: int, progress: TrainingProgress) -> None:
    show(TrialProgress(place, progress))


@dataclass(frozen=True)
class Shrinking:
    """The training under one penalty, in whichever process it is called; picklable."""

    recipe: Recipe
    store: Store
    penalty: float

    @property
    def island(self) -> str:
        return island_of(self.penalty)

    @property
    def done(self) -> bool:
        """Whether its last snapshot is in the store."""
        assert self.recipe.training is not None
        return read_snapshot(self.store, self.recipe.study, self.island, self.recipe.training.steps) is not None

    def __call__(self, on_progress: Callable[[TrainingProgress], None], stop: Callable[[], bool]) -> None:
        """Ends when all snapshots are in the store, or after a checkpoint where `stop` asked for it.

        Raises:
            DataError: the data set is missing or broken.
            StoreError: the store cannot be read or written here.
        """
        if stop() or self.done:
            return
        study, trainer = self.recipe.study, self._trainer()
        checkpoints = Checkpoints(self.store, study, training_place(study, self.island))
        if (state := checkpoints.newest()) is not None:
            trainer.restore(state)
        else:
            self._keep(trainer)

        def show(progress: TrainingProgress) -> None:
            self._keep(trainer)
            on_progress(progress)

        if train_to_end(trainer, show, stop, lambda: checkpoints.save(trainer.step, trainer.checkpoint())):
            checkpoints.clear()

    def _trainer(self) -> ShrinkingTrainer:
        recipe, data = self.recipe, load_data(self.recipe)
        assert recipe.training is not None
        assert recipe.shrinking is not None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        settings = RetrainingSettings.like(recipe.training).alone()
        space = snapshot_space(recipe, data.n_classes).space
        return ShrinkingTrainer(space, data, settings, recipe.shrinking, self.penalty, recipe.seed, device)

    def _keep(self, trainer: ShrinkingTrainer) -> None:
        """Puts what is left of the network into the store, if it is time for that."""
        if trainer.step not in trainer.shrinking.snapshot_steps(trainer.settings.steps):
            return
        snapshot = Snapshot(self.penalty, trainer.step, trainer.architecture)
        digest = save_weights(self.store, self.recipe.study, trainer.weights())
        record_snapshot(self.store, self.recipe.study, self.island, trainer.step, snapshot.to_json(), digest)
