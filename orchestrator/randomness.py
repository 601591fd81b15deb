"""One root seed; everything random draws from a child of it that is keyed by what it is for."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(root_seed: int, *purpose: str) -> np.random.Generator:
    """The random numbers for a purpose, such as ("reef", "sampler"): equal on any machine, in any order of calls."""
    name = hashlib.sha256("\0".join(purpose).encode()).digest()
    key = tuple(int(word) for word in np.frombuffer(name, dtype="<u4"))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(root_seed, spawn_key=key)))
