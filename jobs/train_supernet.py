"""Trains a study's supernet: resumes from the newest checkpoint, ends with the weights in the store.

<study>/training/HEAD                     {"step": n, "digest": ...}, swapped when a checkpoint is complete
<study>/weights/<digest>.safetensors      checkpoints and, at the end, the weights that are searched
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from infra.weights import load_weights, save_weights, weights_key
from jobs.composition import load_data, make_network_space
from orchestrator.config import Recipe
from orchestrator.protocols import ObjectMissing, Store
from orchestrator.study import read_weights, record_weights
from search_spaces.training.settings import TrainingProgress
from search_spaces.training.trainer import SupernetTrainer


class TrainingStopped(RuntimeError):
    """Training ended on request; its last checkpoint is in the store."""


def supernet_weights(
    recipe: Recipe,
    store: Store,
    on_progress: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> dict[str, np.ndarray]:
    """The study's weights: from the store, or trained now.

    Raises:
        DataError: the data set is missing or broken.
        TrainingStopped: `stop` said so.
    """
    digest = read_weights(store, recipe.study)
    if digest is not None:
        return load_weights(store, recipe.study, digest)
    assert recipe.training is not None
    torch.set_num_threads(recipe.training.threads)
    data = load_data(recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = SupernetTrainer(make_network_space(recipe, data.n_classes), data, recipe.training, recipe.seed, device)
    checkpoints = Checkpoints(store, recipe.study)
    if (state := checkpoints.newest()) is not None:
        trainer.restore(state)
    _train(trainer, checkpoints, on_progress, stop)
    weights = trainer.weights()
    record_weights(store, recipe.study, save_weights(store, recipe.study, weights))
    checkpoints.clear()
    return weights


def _train(
    trainer: SupernetTrainer,
    checkpoints: Checkpoints,
    on_progress: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> None:
    steps, first, began_s = trainer.settings.steps, trainer.step, time.monotonic()
    saved_s, mean = began_s, None
    while trainer.step < steps:
        report = trainer.train_step()
        mean = report.loss if mean is None else 0.98 * mean + 0.02 * report.loss
        now_s = time.monotonic()
        left_s = (now_s - began_s) / (trainer.step - first) * (steps - trainer.step)
        on_progress(TrainingProgress(trainer.step, steps, mean, left_s))
        if stop() or now_s - saved_s > trainer.settings.checkpoint_s:
            checkpoints.save(trainer.step, trainer.checkpoint())
            saved_s = now_s
        if stop():
            raise TrainingStopped(f"stopped at step {trainer.step} of {steps}")


class Checkpoints:
    """The training states of a study; only the newest one is kept."""

    def __init__(self, store: Store, study: str) -> None:
        self._store, self._study = store, study
        self._head_key = f"{study}/training/HEAD"
        self._head = self._read_head()

    def _read_head(self) -> bytes | None:
        try:
            return self._store.read(self._head_key)
        except ObjectMissing:
            return None

    def newest(self) -> dict[str, np.ndarray] | None:
        """The newest state; None: there is none."""
        return None if self._head is None else load_weights(self._store, self._study, self._digest(self._head))

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Writes a state, makes it the newest, and forgets the one before."""
        before = self._head
        digest = save_weights(self._store, self._study, state)
        head = json.dumps({"step": step, "digest": digest}).encode()
        self._store.replace(self._head_key, head, before)
        self._head = head
        if before is not None and self._digest(before) != digest:
            self._store.delete(weights_key(self._study, self._digest(before)))

    def clear(self) -> None:
        """Forgets all states: training is done."""
        if self._head is not None:
            self._store.delete(weights_key(self._study, self._digest(self._head)))
            self._store.delete(self._head_key)
            self._head = None

    @staticmethod
    def _digest(head: bytes) -> str:
        return str(json.loads(head)["digest"])
