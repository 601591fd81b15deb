"""Trains a study's supernet: resumes from the newest checkpoint, ends with the weights in the store.

<study>/training/HEAD                     {"step": n, "digest": ...}, swapped when a checkpoint is complete
<study>/weights/<digest>.safetensors      checkpoints and, at the end, the weights that are searched
<study>/weights.json                      the digest of the latter

In this process, or in one or several on Ray; the first of them writes, all of them resume from what it wrote.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from infra.weights import load_weights, save_weights
from jobs.checkpoints import Checkpoints, train_to_end
from jobs.composition import load_data, make_network_space
from orchestrator.config import Recipe
from orchestrator.protocols import Store, StoreError
from orchestrator.study import StudyMissing, read_study, read_weights, record_weights
from search_spaces.training.endings import TrainingStopped
from search_spaces.training.ranks import ALONE, Ranks
from search_spaces.training.settings import TrainingProgress, TrainingSettings
from search_spaces.training.trainer import SupernetTrainer


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
        recipe, store = self.recipe, self.store
        assert recipe.training is not None
        self._check_store()
        if read_weights(store, recipe.study) is not None:
            return
        data = load_data(recipe)
        space = make_network_space(recipe, data.n_classes)
        trainer = SupernetTrainer(space, data, recipe.training, recipe.seed, device, ranks)
        checkpoints = Checkpoints(store, recipe.study, f"{recipe.study}/training")
        if (state := checkpoints.newest()) is not None:
            trainer.restore(state)

        def save() -> None:
            if ranks.rank == 0:
                checkpoints.save(trainer.step, trainer.checkpoint())
                saved()

        if train_to_end(trainer, on_progress, stop, save) and ranks.rank == 0:
            record_weights(store, recipe.study, save_weights(store, recipe.study, trainer.weights()))
            checkpoints.clear()

    def _check_store(self) -> None:
        """Finds out whether this is the store that the driver sees."""
        try:
            read_study(self.store, self.recipe.study)
        except StudyMissing as error:
            advice = "a training process must reach it, so put it into a folder that all machines share"
            raise StoreError(f"the store is not the driver's on {socket.gethostname()}: {error}; {advice}") from None
