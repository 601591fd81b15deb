"""Who runs a study: one driver at a time, and none for longer than it gives signs of life.

    <study>/lease.json    owner, since, epoch, heartbeat, ttl_s, nonce; every write compares with the one before

A holder rewrites the lease several times within its time to live. A newcomer believes no clock but its own: it takes
the lease over when it has seen the very same bytes for a whole time to live, or knows that the process that wrote them
has ended. The new epoch goes into the journal's HEAD before anything else, so what the old holder writes there next is
refused, however late it wakes up. A lease that is given back stays, without an owner, for the sake of its epoch.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.protocols import Clock, ObjectChanged, ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal

WATCH_S = 0.5
"""How often a newcomer looks for a sign of life."""


class LeaseHeld(StoreError):
    """Another driver runs the study."""


class LeaseLost(StoreError):
    """Another driver has taken the study over; this one must stop."""


@dataclass(frozen=True)
class Owner:
    """A driver."""

    name: str
    """For people: where it runs."""
    process: str
    """For machines: by this a process of the same machine can be told from all others that it ever ran."""


def take(
    store: Store,
    study: str,
    owner: Owner,
    clock: Clock,
    *,
    ttl_s: float,
    epoch: int = 0,
    has_ended: Callable[[str], bool] = lambda process: False,
    say: Callable[[str], None] = lambda line: None,
) -> Lease:
    """The study's lease; waits for as long as it takes to see whether another holder is alive.

    epoch: the one in HEAD, 0 without any; ours is higher. `has_ended`: whether a process, by `Owner.process`, is known
    to have ended.

    Raises:
        LeaseHeld: another driver runs the study; the message says who and since when.
    """
    key = _key(study)
    data = _read(store, key)
    found = _document(study, data)
    if data is not None and found.get("owner") and not has_ended(str(found.get("process"))):
        wait_s = float(found.get("ttl_s", ttl_s))
        say(f"{_words(study, found)}; it is taken over unless a sign of life comes within {wait_s:.0f} s")
        began_s = clock.monotonic_s()
        while clock.monotonic_s() - began_s < wait_s:
            clock.sleep(min(WATCH_S, wait_s / 4))
            now = _read(store, key)
            if now != data:
                found = _document(study, now)
                if now is None or not found.get("owner"):  # given back just now
                    data = now
                    break
                raise LeaseHeld(f"{_words(study, found)}; end it, or look on with `archipelago status {study}`")
    body = {
        "owner": owner.name,
        "process": owner.process,
        "since": clock.now(),
        "epoch": max(epoch, int(found.get("epoch", 0))) + 1,
        "ttl_s": ttl_s,
    }
    fresh = _sealed(body, 0)
    started_s = clock.monotonic_s()
    try:
        store.replace(key, fresh, data)
    except ObjectChanged:
        raise LeaseHeld(_words(study, _document(study, _read(store, key)))) from None
    return Lease(store, study, clock, body, fresh, started_s)


def is_held(store: Store, study: str, has_ended: Callable[[str], bool] = lambda process: False) -> bool:
    """Whether a driver holds the study that is not known to have ended."""
    found = _document(study, _read(store, _key(study)))
    return bool(found.get("owner")) and not has_ended(str(found.get("process")))


class Lease:
    """The right to write to a study, as long as `check` says so. Safe to share by threads; made by `take`."""

    def __init__(
        self, store: Store, study: str, clock: Clock, body: dict[str, Any], data: bytes, confirmed_s: float
    ) -> None:
        self._store, self._study, self._clock, self._body, self._data = store, study, clock, body, data
        self._confirmed_s = confirmed_s
        self._heartbeat = 0
        self._unconfirmed: bytes | None = None
        self._lost: str | None = None
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        return int(self._body["epoch"])

    @property
    def ttl_s(self) -> float:
        """Within which the holder must have given a sign of life."""
        return float(self._body["ttl_s"])

    @property
    def lost(self) -> bool:
        """Whether another driver is known to have taken over."""
        return self._lost is not None

    def beat(self) -> None:
        """Gives a sign of life.

        Raises:
            LeaseLost: another driver has taken over.
            StoreError: the store does not answer; whether the sign was given is not known.
        """
        with self._lock:
            if self._lost is not None:
                raise LeaseLost(self._lost)
            self._heartbeat += 1
            fresh, started_s = _sealed(self._body, self._heartbeat), self._clock.monotonic_s()
            before, self._unconfirmed = self._unconfirmed, fresh
            try:
                self._store.replace(_key(self._study), fresh, self._data)
            except ObjectChanged:
                found = _read(self._store, _key(self._study))
                if found is None or found not in (before, fresh):
                    self._lost = (
                        f"{_words(self._study, _document(self._study, found))}: this driver has lost it and stopped"
                    )
                    raise LeaseLost(self._lost) from None
                fresh = found
            self._data, self._confirmed_s, self._unconfirmed = fresh, started_s, None

    def check(self) -> None:
        """Makes sure that the lease is ours, by asking the store if the last sign of life is too long ago.

        Raises:
            LeaseLost: another driver has taken over.
            StoreError: the store does not answer.
        """
        if self.lost or self._clock.monotonic_s() - self._confirmed_s >= self.ttl_s / 2:
            self.beat()

    def release(self) -> None:
        """Gives the lease back, if it is still ours."""
        with self._lock, suppress(StoreError):
            if self._lost is None:
                self._store.replace(_key(self._study), _sealed({**self._body, "owner": None}, 0), self._data)


def _key(study: str) -> str:
    return f"{study}/lease.json"


def _sealed(body: dict[str, Any], heartbeat: int) -> bytes:
    return seal({**body, "heartbeat": heartbeat, "nonce": secrets.token_hex(8)})


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key)
    except ObjectMissing:
        return None


def _document(study: str, data: bytes | None) -> dict[str, Any]:
    """What a lease says; a damaged one has an owner, of whom nothing is known."""
    if data is None:
        return {}
    try:
        return unseal(data)
    except ValueError as error:
        return {"owner": f"a driver that cannot be read, for {_key(study)} is {error}"}


def _words(study: str, found: dict[str, Any]) -> str:
    owner = found.get("owner") or "nobody: it was given back"
    return f"study {study} is held by {owner}" + (f", since {found['since']}" if "since" in found else "")
