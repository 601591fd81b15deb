"""Weights in a store."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from infra.file_store import FileStore
from infra.weights import load_weights, save_weights, weights_key
from orchestrator.protocols import ObjectMissing, StoreError

WEIGHTS = {
    "stem.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "stem.count": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float16),
}


def test_round_trip_under_the_hash_of_the_bytes(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    digest = save_weights(store, "demo", WEIGHTS)
    assert hashlib.sha256((tmp_path / "demo" / "weights" / f"{digest}.safetensors").read_bytes()).hexdigest() == digest
    loaded = load_weights(store, "demo", digest)
    assert loaded.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)
        assert not loaded[name].flags.writeable


def test_equal_weights_are_kept_once(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    reordered = dict(reversed([(name, array.copy()) for name, array in WEIGHTS.items()]))
    assert save_weights(store, "demo", WEIGHTS) == save_weights(store, "demo", reordered)
    assert len(store.list("demo/weights/")) == 1


def test_damage_is_named(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    digest = save_weights(store, "demo", WEIGHTS)
    path = tmp_path / weights_key("demo", digest)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=rf"demo/weights/{digest}.safetensors is damaged"):
        load_weights(store, "demo", digest)
    with pytest.raises(ObjectMissing, match=r"demo/weights/0+.safetensors"):
        load_weights(store, "demo", "0" * 64)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    data = b"not weights"
    digest = hashlib.sha256(data).hexdigest()
    store.create(weights_key("demo", digest), data)
    with pytest.raises(StoreError, match="is not a safetensors file"):
        load_weights(store, "demo", digest)
