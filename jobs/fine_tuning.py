"""A supernet's weights, trained further for one island alone.

<place>/HEAD     where training stands, while it runs
<place>.json     {"digest": ...}: the weights that it ended with
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from infra.weights import load_weights, save_weights, weights_key
from jobs.checkpoints import Checkpoints, train_to_end
from jobs.composition import make_island_space
from orchestrator.config import Recipe
from orchestrator.protocols import ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal
from search_spaces.base import NetworkSpace
from search_spaces.data.images import ImageData
from search_spaces.supernet import Weights
from search_spaces.training.ranks import ALONE, Ranks
from search_spaces.training.settings import TrainingProgress
from search_spaces.training.trainer import SupernetTrainer


@dataclass(frozen=True)
class Process:
    """One process of a training, and who follows it."""

    device: torch.device
    on_progress: Callable[[TrainingProgress], None]
    stop: Callable[[], bool]
    ranks: Ranks = ALONE
    saved: Callable[[], None] = lambda: None
    """Called after each checkpoint."""

    def for_island(self, island: str) -> Process:
        """The same, which says that it trains for that island."""
        return replace(self, on_progress=lambda progress: self.on_progress(replace(progress, island=island)))


def trained(
    trainer: SupernetTrainer, store: Store, study: str, place: str, process: Process, record: Callable[[str], None]
) -> dict[str, np.ndarray] | None:
    """The weights at the training's end; None: it was stopped, and goes on from there when it is called again.

    trainer: as it begins. record: keeps the digest of the weights, in the first process alone.
    """
    checkpoints = Checkpoints(store, study, place)
    if (state := checkpoints.newest()) is not None:
        trainer.restore(state)

    def save() -> None:
        if process.ranks.rank == 0:
            checkpoints.save(trainer.step, trainer.checkpoint())
            process.saved()

    if not train_to_end(trainer, process.on_progress, process.stop, save):
        return None
    weights = trainer.weights()
    if process.ranks.rank == 0:
        record(save_weights(store, study, weights))
        checkpoints.clear()
    return weights


@dataclass(frozen=True)
class FineTuning:
    """Trains an island's part of the weights for so many steps more, with its subnets only."""

    recipe: Recipe
    store: Store
    data: ImageData
    island: str
    steps: int
    place: str
    """The beginning of its keys in the store."""

    def space(self) -> NetworkSpace[Any]:
        """The space of the island alone."""
        return make_island_space(self.recipe, self.island, self.data.n_classes)

    def __call__(self, begin: Weights, process: Process) -> dict[str, np.ndarray] | None:
        """The island's weights, from the store if it has them; None: it was stopped, and saved.

        begin: weights by shared name, of which the island's are leading parts.
        """
        recipe, store = self.recipe, self.store
        assert recipe.training is not None
        if (known := read_digest(store, self.place)) is not None:
            return load_weights(store, recipe.study, known)
        settings = recipe.training.for_island(self.steps)
        trainer = SupernetTrainer(self.space(), self.data, settings, recipe.seed + 1, process.device, process.ranks)
        sizes = {name: array.shape for name, array in trainer.supernet.to_numpy().items()}
        trainer.supernet.load_numpy({name: _leading(begin[name], size) for name, size in sizes.items()})
        return trained(trainer, store, recipe.study, self.place, process.for_island(self.island),
                       lambda digest: keep_digest(store, self.place, digest))  # fmt: skip


def keep_digest(store: Store, place: str, digest: str) -> None:
    """Notes which weights a training ended with."""
    with suppress(ObjectExists):  # another process was faster, with the same weights
        store.create(f"{place}.json", seal({"digest": digest}))


def read_digest(store: Store, place: str) -> str | None:
    """The digest of the weights that a training ended with; None: it is not at its end.

    Raises:
        StoreError: the object that says so is damaged.
    """
    key = f"{place}.json"
    try:
        return str(unseal(store.read(key))["digest"])
    except ObjectMissing:
        return None
    except (ValueError, KeyError) as error:
        raise StoreError(f"{key} does not say what training ended with: {error}; delete it to train again") from None


def forget(store: Store, study: str, place: str) -> None:
    """Deletes what a training ended with."""
    if (digest := read_digest(store, place)) is not None:
        store.delete(f"{place}.json")
        store.delete(weights_key(study, digest))


def _leading(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(length) for length in size)]
