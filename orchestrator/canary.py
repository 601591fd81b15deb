"""The canary: an architecture that every worker scores before it gets work, compared with what others found.

    <study>/canary.json                       what the study's first worker found
    <study>/canary/<protocol digest>.json     what the first worker under another protocol found

A score is a pure function of weights, architecture and protocol, and the protocol's digest names the kind of device.
So under one protocol the numbers must be equal to the bit, for as long as the study lives; a worker of another kind
may differ from the first one by no more than `TOLERANCE`. Both objects are created once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.protocols import ObjectExists, Store, StoreError
from orchestrator.randomness import generator
from orchestrator.records import Candidate, Failure, Result
from orchestrator.sealed import seal, unseal
from search_spaces.base import SearchSpace, architecture_id

TOLERANCE = 0.01
"""Largest difference of any metric between two kinds of devices: of mIoU, which is a fraction, other kernels change the
third digit; multiply-adds and parameters are counted, and differ by 1 at least if at all."""
NUMBER = -1
"""The canary's number: it is no candidate of the search."""


def canary_candidate(space: SearchSpace[Any], seed: int) -> Candidate:
    """The study's canary: the first sample, under this seed, of the first island."""
    island = space.islands[0]
    genotype = space.sample(island, generator(seed, "canary"))
    return Candidate(island, NUMBER, genotype, architecture_id(space.decode(island, genotype)))


@dataclass(frozen=True)
class Canary:
    """The canary of a study, and the door that it guards."""

    store: Store
    study: str
    candidate: Candidate

    def refusal(self, result: Result, protocol_digest: str, device: str) -> str:
        """Why a worker that has scored the canary so must not join; empty: it may.

        `device`: what the worker runs on, for people. An empty digest is equal to no other.

        Raises:
            StoreError: what was found before is damaged.
        """
        seen = {
            "architecture": self.candidate.architecture_id,
            "protocol": protocol_digest,
            "device": device,
            "metrics": {"failed": 1.0} if isinstance(result, Failure) else dict(result.metrics),
        }
        first = self._first(f"{self.study}/canary.json", seen)
        if first["protocol"] == protocol_digest != "":
            return self._difference(first, seen, 0.0)
        if refusal := self._difference(first, seen, TOLERANCE):
            return refusal
        if protocol_digest == "":
            return ""
        return self._difference(self._first(f"{self.study}/canary/{protocol_digest}.json", seen), seen, 0.0)

    def _first(self, key: str, seen: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is under the key, which is `seen` if nothing was."""
        with suppress(ObjectExists):
            self.store.create(key, seal(seen))
            return seen
        try:
            return unseal(self.store.read(key))
        except ValueError as error:
            raise StoreError(f"{key} is {error}; delete it, and the next worker's score takes its place") from None

    def _difference(self, first: Mapping[str, Any], seen: Mapping[str, Any], tolerance: float) -> str:
        if first["architecture"] != seen["architecture"]:
            return f"the study's canary is {first['architecture']}, and here it is {seen['architecture']}"
        before, now = first["metrics"], seen["metrics"]
        for name in sorted(before.keys() | now.keys()):
            a, b = before.get(name, math.nan), now.get(name, math.nan)
            if name in before and name in now and (a == b or abs(a - b) <= tolerance or (a != a and b != b)):
                continue
            allowed = f"at most {tolerance:g} apart" if tolerance else "equal to the bit"
            return (
                f"the canary {seen['architecture']} has {name} {b!r} on {seen['device']}, and it had {a!r} on "
                f"{first['device']}: they must be {allowed}"
            )
        return ""
