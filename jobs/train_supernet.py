"""Trains a study's supernet: resumes from the newest checkpoint, ends with the weights in the store.

<study>/training/HEAD                     {"step": n, "digest": ...}, swapped when a checkpoint is complete
<study>/weights/<digest>.safetensors      checkpoints and, at the end, the weights that are searched
<study>/weights.json                      the digest of the latter

and, where each island is trained further alone (`training.island_steps`):

<study>/training.json                     the digest of the weights that all islands begin with; it stays
<study>/training/<island>/HEAD, .json     the same for the island

In this process, or in one or several on Ray; the first of them writes, all of them resume from what it wrote.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from infra.weights import load_weights, save_weights
from jobs.composition import load_data, make_network_space
from jobs.fine_tuning import FineTuning, Process, forget, keep_digest, read_digest, trained
from orchestrator.config import Recipe
from orchestrator.protocols import Store, StoreError
from orchestrator.study import StudyMissing, read_study, read_weights, record_weights
from search_spaces.apart import brought_together
from search_spaces.data.images import ImageData
from search_spaces.supernet import Weights
from search_spaces.training.endings import TrainingStopped
from search_spaces.training.ranks import ALONE, Ranks
from search_spaces.training.settings import TrainingProgress, TrainingSettings
from search_spaces.training.trainer import SupernetTrainer


def shared_place(study: str) -> str:
    """The beginning of a training's keys in the store: of that for all islands."""
    return f"{study}/training"


def check_place(training: TrainingSettings, in_process: bool) -> None:
    """Raises ValueError where several processes are to train in this one."""
    if in_process and training.workers > 1:
        raise ValueError(
            f"training.workers is {training.workers}, which needs Ray: leave out --in-process, or begin the study with "
            f"--set training.workers=1"
        )


def supernet_weights(
    recipe: Recipe,
    store: Store,
    on_progress: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
    address: str | None = None,
    in_process: bool = False,
) -> dict[str, np.ndarray]:
    """The study's weights: from the store, or trained now.

    They are trained in this process, unless there are to be several, or a cluster at `address`, whose device may be
    the better one. `in_process`: here and nowhere else.

    Raises:
        ValueError: several processes are to train here and nowhere else.
        DataError: the data set is missing or broken.
        TrainingStopped: `stop` said so.
        TrainingFailed: the cluster could not do it.
    """
    training, job = recipe.training, SupernetTraining(recipe, store)
    assert training is not None
    if read_weights(store, recipe.study) is None:
        check_place(training, in_process)
        if in_process or (training.workers == 1 and address is None):
            torch.set_num_threads(training.threads)
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            job(ALONE, device, on_progress, stop)
        else:
            from infra.ray_train import train_on_ray

            train_on_ray(job, training.workers, training.threads, address, on_progress, stop)
    digest = read_weights(store, recipe.study)
    if digest is None:
        raise TrainingStopped("stopped in training")
    return load_weights(store, recipe.study, digest)


@dataclass(frozen=True)
class SupernetTraining:
    """Trains what is left to train, in one process of `ranks.count`."""

    recipe: Recipe
    store: Store

    def __call__(
        self,
        ranks: Ranks,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None],
        stop: Callable[[], bool],
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        """Ends when the weights are recorded, or after a checkpoint where `stop` asked for it in any process.

        Raises:
            DataError: the data set is missing or broken.
            StoreError: the store cannot be read or written here.
        """
        self._check_store()
        if read_weights(self.store, self.recipe.study) is not None:
            return
        assert self.recipe.training is not None
        data, process = load_data(self.recipe), Process(device, on_progress, stop, ranks, saved)
        if not self.recipe.training.island_steps:
            self._train(data, process, self._record)
        elif (shared := self._shared(data, process)) is not None:
            self._train_islands(data, process, shared)

    def _train(self, data: ImageData, process: Process, record: Callable[[str], None]) -> dict[str, np.ndarray] | None:
        """The weights that all islands share; None: it was stopped."""
        recipe = self.recipe
        assert recipe.training is not None
        space = make_network_space(recipe, data.n_classes)
        trainer = SupernetTrainer(space, data, recipe.training, recipe.seed, process.device, process.ranks)
        return trained(trainer, self.store, recipe.study, shared_place(recipe.study), process, record)

    def _shared(self, data: ImageData, process: Process) -> dict[str, np.ndarray] | None:
        """The same, from the store if it has them, where they are what islands begin with."""
        place = shared_place(self.recipe.study)
        if (known := read_digest(self.store, place)) is not None:
            return load_weights(self.store, self.recipe.study, known)
        return self._train(data, process, lambda digest: keep_digest(self.store, place, digest))

    def _train_islands(self, data: ImageData, process: Process, shared: Weights) -> None:
        """All processes train the same island at a time, so that none reads what another one is about to write."""
        recipe, store = self.recipe, self.store
        assert recipe.training is not None
        islands = make_network_space(recipe, data.n_classes).islands
        places = {island: f"{shared_place(recipe.study)}/{island}" for island in islands}
        found: dict[str, dict[str, np.ndarray]] = {}
        for island, place in places.items():
            tuned = FineTuning(recipe, store, data, island, recipe.training.island_steps, place)(shared, process)
            if tuned is None:
                return
            found[island] = tuned
        if process.ranks.rank == 0:
            self._record(save_weights(store, recipe.study, brought_together(found)))
            for place in places.values():
                forget(store, recipe.study, place)

    def _record(self, digest: str) -> None:
        record_weights(self.store, self.recipe.study, digest)

    def _check_store(self) -> None:
        """Finds out whether this is the store that the driver sees."""
        try:
            read_study(self.store, self.recipe.study)
        except StudyMissing as error:
            advice = "a training process must reach it, so put it into a folder that all machines share"
            raise StoreError(f"the store is not the driver's on {socket.gethostname()}: {error}; {advice}") from None
