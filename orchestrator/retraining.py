"""Architectures trained from scratch: what was trained, and what came of it, in the study's store.

    <study>/retrained/<trial>.json     a trial and its result, written once
    <study>/retrained/<trial>/HEAD     where its training stands, while it runs

A trial is named by all that its result depends on, so none is trained twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.protocols import ObjectExists, Store, StoreError
from orchestrator.sealed import seal, unseal
from search_spaces.base import Json, digest
from search_spaces.settings import score_of

NO_RESULT = ("threads", "checkpoint_s")
"""Settings of training that change no result."""


@dataclass(frozen=True)
class Trial:
    """One training from scratch."""

    island: str
    architecture: Mapping[str, Any]
    """As JSON."""
    architecture_id: str
    seed: int
    settings: Mapping[str, Any]
    """The recipe's `retraining`."""
    circumstances: str
    """Digest of space, data and evaluation protocol."""

    @property
    def id(self) -> str:
        """16 hex digits."""
        settings: Json = {name: value for name, value in self.settings.items() if name not in NO_RESULT}
        return digest([self.architecture_id, self.seed, settings, self.circumstances])

    def place(self, study: str) -> str:
        """The beginning of its keys in a store."""
        return f"{study}/retrained/{self.id}"


@dataclass(frozen=True)
class Retrained:
    """What came of a trial."""

    trial: Trial
    metrics: Mapping[str, float]
    """The task's metrics, macs, params: of the network as it was trained. Empty where training failed."""
    weights: str
    """Digest of its weights in the store; empty where training failed."""
    failure: str = ""
    """Why there are no metrics."""
    losses: Sequence[tuple[int, float]] = ()
    """Step and training loss, a running mean, some fifty of them."""
    device_s: float = 0.0
    """Seconds of training and evaluation, those of processes that were lost left out."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library versions, for people."""

    @property
    def score(self) -> float | None:
        """The metric by which networks of its task are compared; None where training failed."""
        return score_of(self.metrics)


def record_retrained(store: Store, study: str, result: Retrained) -> None:
    """Writes the result, unless the trial has one: then another process was faster, with the same one."""
    with suppress(ObjectExists):
        store.create(f"{result.trial.place(study)}.json", seal(asdict(result)))


def read_retrained(store: Store, study: str) -> tuple[Retrained, ...]:
    """All results of a study, in no order that means anything.

    Raises:
        StoreError: one of them is damaged; the message names it.
    """
    keys = [key for key in store.list(f"{study}/retrained/") if key.endswith(".json")]
    return tuple(_read(store, key) for key in sorted(keys))


def _read(store: Store, key: str) -> Retrained:
    try:
        body = unseal(store.read(key))
        losses = tuple((int(step), float(loss)) for step, loss in body.pop("losses"))
        return Retrained(Trial(**body.pop("trial")), losses=losses, **body)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{key} is not the result of a training: {error}; delete it to train again") from None
