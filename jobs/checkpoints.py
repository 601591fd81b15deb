"""Training that survives its process: states in the store, and the loop that saves them.

<place>/HEAD                              {"step": n, "digest": ...}, swapped when a checkpoint is complete
<study>/weights/<digest>.safetensors      the checkpoint that it names
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from infra.weights import load_weights, save_weights, weights_key
from orchestrator.protocols import ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal
from search_spaces.training.settings import TrainingProgress
from search_spaces.training.trainer import SupernetTrainer


class Checkpoints:
    """The states of one training of a study; only the newest one is kept.

    Args:
        store: where they lie.
        study: whose weights they are.
        place: the key's beginning that belongs to this training alone.
    """

    def __init__(self, store: Store, study: str, place: str) -> None:
        self._store, self._study = store, study
        self._head_key = f"{place}/HEAD"
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
        head = seal({"step": step, "digest": digest})
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

    def _digest(self, head: bytes) -> str:
        try:
            return str(unseal(head)["digest"])
        except (ValueError, KeyError) as error:
            raise StoreError(f"{self._head_key} does not name a checkpoint: {error}; delete it to train anew") from None


def train_to_end(
    trainer: SupernetTrainer,
    on_progress: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
    save: Callable[[], None],
) -> bool:
    """Whether training got to its end; else it was stopped, and saved."""
    steps, first, began_s = trainer.settings.steps, trainer.step, time.monotonic()
    saved_s, mean = began_s, None
    while trainer.step < steps:
        report = trainer.train_step()
        mean = report.loss if mean is None else 0.98 * mean + 0.02 * report.loss
        now_s = time.monotonic()
        left_s = (now_s - began_s) / (trainer.step - first) * (steps - trainer.step)
        on_progress(TrainingProgress(trainer.step, steps, mean, left_s))
        stopping = trainer.agree(stop())
        if stopping or now_s - saved_s > trainer.settings.checkpoint_s:
            save()
            saved_s = now_s
        if stopping:
            return False
    return True
