"""Weights in a store: safetensors objects that are named by the hash of their bytes. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from orchestrator.protocols import ObjectExists, Store, StoreError


def weights_key(study: str, digest: str) -> str:
    """Where a study's weights lie in a store."""
    return f"{study}/weights/{digest}.safetensors"


def save_weights(store: Store, study: str, weights: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the weights' file, under which they now lie in the store. Equal weights are kept once."""
    data = save({name: np.ascontiguousarray(weights[name]).reshape(weights[name].shape) for name in sorted(weights)})
    digest = hashlib.sha256(data).hexdigest()
    with suppress(ObjectExists):
        store.create(weights_key(study, digest), data)
    return digest


def load_weights(store: Store, study: str, digest: str) -> dict[str, np.ndarray]:
    """The weights of that digest, as read-only arrays over the bytes that were read.

    Raises:
        ObjectMissing: the store has none.
        StoreError: the object's bytes are not those that its name says.
    """
    key = weights_key(study, digest)
    data = store.read(key)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise StoreError(f"{key} is damaged: its bytes have the SHA-256 {found}; restore it or train again")
    try:
        weights = load(data)
    except (SafetensorError, KeyError) as error:
        raise StoreError(f"{key} is not a safetensors file that NumPy can hold: {error}") from None
    for array in weights.values():
        array.flags.writeable = False
    return weights
