"""What trainings that remove units have left, in the study's store.

<study>/shrinking/<island>/<step>.json    a network and the digest of its weights, written once
<study>/shrinking/<island>/HEAD           where the training stands, while it runs
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from orchestrator.protocols import ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal


def training_place(study: str, island: str) -> str:
    """The beginning of a training's keys in a store."""
    return f"{study}/shrinking/{island}"


def record_snapshot(
    store: Store, study: str, island: str, step: int, architecture: Mapping[str, Any], weights: str
) -> None:
    """Writes a network, as JSON, and the digest of its weights, unless it is there: training repeats itself."""
    with suppress(ObjectExists):
        key = f"{training_place(study, island)}/{step}.json"
        store.create(key, seal({"architecture": dict(architecture), "weights": weights}))


def read_snapshot(store: Store, study: str, island: str, step: int) -> tuple[Mapping[str, Any], str] | None:
    """A network, as JSON, and the digest of its weights; None: its training has not come there.

    Raises:
        StoreError: the object that says so is damaged.
    """
    key = f"{training_place(study, island)}/{step}.json"
    try:
        body = unseal(store.read(key))
        return body["architecture"], str(body["weights"])
    except ObjectMissing:
        return None
    except (ValueError, KeyError) as error:
        raise StoreError(f"{key} does not say what was left after step {step}: {error}; restore it") from None
