"""Weights in a store: safetensors objects that are named by the hash of their bytes. Nothing is ever unpickled.

They pass through files, never through memory as a whole: written from the arrays, mapped into the arrays.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from orchestrator.protocols import ObjectExists, Store, StoreError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""NumPy's type of each safetensors type that it can hold."""


def weights_key(study: str, digest: str) -> str:
    """Where a study's weights lie in a store."""
    return f"{study}/weights/{digest}.safetensors"


def content_digest(weights: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of names, types, shapes and bytes: tells whether two processes hold the same weights."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        hasher.update(f"{name}\0{array.dtype.str}\0{weights[name].shape}\0".encode())
        hasher.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return hasher.hexdigest()


def save_weights(store: Store, study: str, weights: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of the weights' file, under which they now lie in the store. Equal weights are kept once."""
    with tempfile.TemporaryDirectory(prefix="archipelago-") as folder:
        file = Path(folder) / "weights.safetensors"
        arrays = {name: np.ascontiguousarray(weights[name]).reshape(weights[name].shape) for name in sorted(weights)}
        save_file(arrays, file)
        digest = _digest(file)
        with suppress(ObjectExists):
            store.create_from(weights_key(study, digest), file)
    return digest


def load_weights(store: Store, study: str, digest: str) -> dict[str, np.ndarray]:
    """The weights of that digest, as read-only arrays that are mapped from a file.

    Raises:
        ObjectMissing: the store has none.
        StoreError: the object's bytes are not those that its name says.
    """
    key = weights_key(study, digest)
    with store.fetch(key) as file:
        found = _digest(file)
        if found != digest:
            raise StoreError(f"{key} is damaged: its bytes have the SHA-256 {found}; restore it or train again")
        try:
            return _mapped(file)
        except (SafetensorError, KeyError) as error:
            raise StoreError(f"{key} is not a safetensors file that NumPy can hold: {error}") from None


def _mapped(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: 8 bytes with the length of a JSON header, the header, the data."""
    with safe_open(file, framework="np"):
        pass  # it checks that the header's types, shapes and offsets fit together and fill the file
    data = np.memmap(file, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        arrays[name] = data[start + first : start + end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
