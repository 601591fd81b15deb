"""A supernet's weights, trained further for one island alone.

Source: few-shot NAS (Zhao et al., ICML 2021): the less a supernet's weights are shared, the better its ranking; islands
are a split that costs nothing to choose.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch

from infra.weights import load_weights, save_weights
from jobs.checkpoints import Checkpoints, train_to_end
from jobs.composition import make_network_space
from jobs.progress import Display
from orchestrator.config import Recipe
from orchestrator.protocols import ObjectExists, ObjectMissing, Store
from orchestrator.sealed import seal, unseal
from search_spaces.base import digest
from search_spaces.data.images import ImageData
from search_spaces.settings import NetworkSettings
from search_spaces.supernet import Weights
from search_spaces.training.endings import TrainingStopped
from search_spaces.training.trainer import SupernetTrainer

LEARNING_RATE_SHARE = 0.3
"""Of the supernet's peak learning rate."""


def fine_tuned(
    recipe: Recipe,
    store: Store,
    data: ImageData,
    weights: Weights,
    island: str,
    steps: int,
    display: Display,
    stop: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """The island's part of the weights after so many steps more with its subnets only; from the store, if it has them.

    Raises:
        TrainingStopped: `stop` said so.
    """
    assert recipe.training is not None
    assert isinstance(recipe.space, NetworkSettings)
    place = f"{recipe.study}/fine-tuned/{island}-{digest([steps, recipe.training.model_dump(mode='json')])}"
    if (known := _read(store, f"{place}.json")) is not None:
        return load_weights(store, recipe.study, known)
    branches = (recipe.space.branches[recipe.space.islands.index(island)],)
    only = recipe.model_copy(update={"space": recipe.space.model_copy(update={"branches": branches})})
    settings = recipe.training.model_copy(
        update={
            "steps": steps,
            "warmup_steps": 0,
            "warmup_largest_steps": 0,
            "island_probabilities": None,
            "learning_rate": recipe.training.learning_rate * LEARNING_RATE_SHARE,
        }
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = SupernetTrainer(make_network_space(only, data.n_classes), data, settings, recipe.seed + 1, device)
    checkpoints = Checkpoints(store, recipe.study, place)
    if (state := checkpoints.newest()) is not None:
        trainer.restore(state)
    else:
        sizes = {name: array.shape for name, array in trainer.supernet.to_numpy().items()}
        trainer.supernet.load_numpy({name: _leading(weights[name], size) for name, size in sizes.items()})
    display.say(f"fine-tuning the supernet for {island}")
    with display.training() as show:
        if not train_to_end(trainer, show, stop, lambda: checkpoints.save(trainer.step, trainer.checkpoint())):
            raise TrainingStopped(f"stopped while the supernet was fine-tuned for {island}: the same command goes on")
    tuned = trainer.weights()
    with suppress(ObjectExists):  # another process was faster, with the same weights
        store.create(f"{place}.json", seal({"digest": save_weights(store, recipe.study, tuned)}))
    checkpoints.clear()
    return tuned


def _leading(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(length) for length in size)]


def _read(store: Store, key: str) -> str | None:
    try:
        return str(unseal(store.read(key))["digest"])
    except ObjectMissing:
        return None
