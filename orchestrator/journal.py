"""The truth of a study: what was asked and what came of it, per island, in the order in which the sampler is told.

    <study>/HEAD                                               {"epoch": of the lease, "islands": {name: {"segment":
                                                               key, "events": n}}}
    <study>/journal/<island>/<first>-<last>-<hash>.parquet     immutable, names the segment before it; first and last:
                                                               positions in the island's journal, counted from 0

A write is the segment, then HEAD, which is swapped only if it still holds what this journal wrote last: a driver that
dies between the two loses the write and nothing else, and of two drivers one is refused, and takes its segment back.
Readers start at HEAD and follow the names backwards; the hash in a name is the hash of the bytes.

Results come a few at a time, and a chain of thousands of tiny segments would be slow to read: so a segment of less
than `SEGMENT_EVENTS` events is not followed by the next one but replaced by a longer one that begins like it. What has
been replaced is deleted a little later; a reader who had it in mind begins again at HEAD.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

import pyarrow as pa

from orchestrator import segments
from orchestrator.lease import LeaseLost
from orchestrator.protocols import ObjectChanged, ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.records import Event
from orchestrator.sealed import seal, unseal
from orchestrator.segments import Segment

SEGMENT_EVENTS = 64
SUPERSEDED = 16
"""Segments that have been replaced and are still there, for slow readers."""


class JournalCorrupt(RuntimeError):
    """A journal's object is missing or holds something else than was written; the message names it."""

    def __init__(self, words: str) -> None:
        super().__init__(f"{words}; `archipelago resume --repair` cuts the journal before the damage")


def _unchecked() -> None:
    pass


class Journal:
    """The journal of one study. `append` is for its one driver; any number may read."""

    def __init__(self, store: Store, study: str, head: bytes) -> None:
        """Use `create`, `open` or `take`."""
        self._store, self._study, self._head = store, study, head
        self._check = _unchecked
        self._keys: dict[str, list[str]] = {}
        """The segments that are followed by another one, of the islands whose events have been read."""
        self._superseded: deque[str] = deque()
        try:
            body = unseal(head)
            islands = body["islands"]
            self.epoch = int(body.get("epoch", 0))
            self._newest: dict[str, str | None] = {name: entry["segment"] for name, entry in islands.items()}
            self._count: dict[str, int] = {name: int(entry["events"]) for name, entry in islands.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalCorrupt(f"{study}/HEAD is not a journal's head: {error}") from error
        self._tail = {island: self._read_newest(island) for island in self._newest}

    @classmethod
    def create(cls, store: Store, study: str, islands: Sequence[str], epoch: int = 0) -> Journal:
        """An empty journal, for the holder of the lease with that epoch.

        Raises:
            ObjectChanged: the study has a journal already.
        """
        head = head_bytes(dict.fromkeys(islands), dict.fromkeys(islands, 0), epoch)
        store.replace(f"{study}/HEAD", head, None)
        return cls(store, study, head)

    @classmethod
    def open(cls, store: Store, study: str) -> Journal:
        """The journal as HEAD names it.

        Raises:
            ObjectMissing: the study has no journal.
            JournalCorrupt: HEAD, or a newest segment, is not what was written; or there are segments and no HEAD.
        """
        while True:
            head = _read_head(store, study)
            try:
                return cls(store, study, head)
            except JournalCorrupt:
                if store.read(f"{study}/HEAD") == head:
                    raise

    @classmethod
    def take(
        cls, store: Store, study: str, islands: Sequence[str], epoch: int, check: Callable[[], None] = _unchecked
    ) -> Journal:
        """The journal, for the holder of the lease with that epoch: from here on nobody else's `append` succeeds.

        `check` is called before anything is written, and raises where the lease is lost.

        Raises:
            JournalCorrupt: as `open`.
            ObjectChanged: a later holder was here already.
        """
        while True:
            try:
                journal = cls.open(store, study)
            except ObjectMissing:
                journal = cls.create(store, study, islands, epoch)
                journal._check = check
                return journal
            if journal.epoch > epoch:
                raise ObjectChanged(f"{study}/HEAD is at epoch {journal.epoch}: a later driver than {epoch} was here")
            journal.epoch, journal._check = epoch, check
            with suppress(ObjectChanged):  # the one before is still writing
                journal._swap(journal._newest, journal._count)
                return journal

    @property
    def islands(self) -> tuple[str, ...]:
        return tuple(self._newest)

    def count(self, island: str) -> int:
        """How many events an island's journal holds."""
        return self._count[island]

    def append(self, events: Sequence[Event]) -> None:
        """Writes events of any islands, each island's in the order given, durable when this returns.

        Raises:
            ObjectChanged: somebody else writes to this study.
            LeaseLost: as `check` says.
        """
        if not events:
            return
        newest, count, tail = dict(self._newest), dict(self._count), dict(self._tail)
        written: list[str] = []
        try:
            for island, group in groupby(sorted(events, key=_island), key=_island):
                fresh, last = tuple(segments.writable(event) for event in group), tail[island]
                fits = len(last.events) + len(fresh) <= SEGMENT_EVENTS
                tail[island] = Segment(last.events + fresh, last.previous) if fits else Segment(fresh, newest[island])
                count[island] += len(fresh)
                newest[island] = key = self._write(island, tail[island], count[island])
                written.append(key)
            self._swap(newest, count)
        except (ObjectChanged, LeaseLost):  # nothing leads to what was written, and its epoch makes it nobody else's
            for key in written:
                self._forget(key)
            raise
        self._leave(newest, tail)
        self._newest, self._count, self._tail = newest, count, tail

    def _leave(self, newest: Mapping[str, str | None], tail: Mapping[str, Segment]) -> None:
        """Notes which of the newest segments so far are followed by another one, and forgets the replaced in time."""
        for island, key in self._newest.items():
            if key is None or key == newest[island]:
                continue
            if tail[island].previous == key:
                self._keys.setdefault(island, []).append(key)
            else:
                self._superseded.append(key)
        while len(self._superseded) > SUPERSEDED:
            self._forget(self._superseded.popleft())

    def sweep(self) -> None:
        """Deletes the segments that HEAD does not lead to. For the holder of the lease, after `events` of all islands.

        What fails is left for the next time.
        """
        needed = self.segments()
        with suppress(StoreError):
            for key in self._store.list(f"{self._study}/journal/"):
                if key not in needed:
                    self._forget(key)
        self._superseded.clear()

    def segments(self) -> frozenset[str]:
        """The keys of the segments to which HEAD leads, in a journal whose `events` have been read of all islands."""
        assert self._keys.keys() == self._newest.keys(), "segments before events: they are not known"
        newest = {key for key in self._newest.values() if key is not None}
        return frozenset(newest.union(*self._keys.values()))

    def events(self, island: str) -> tuple[Event, ...]:
        """Every event of an island, in order.

        Raises:
            JournalCorrupt: a segment is missing, torn, or not where it belongs; the message names it.
        """
        pieces: list[tuple[Event, ...]] = []
        segment, end = self._tail[island], self._count[island]
        self._keys[island] = []
        while True:
            pieces.append(segment.events)
            self._keys[island] += [segment.previous] if segment.previous else []
            end -= len(segment.events)
            if segment.previous is None:
                break
            segment = read_segment(self._store, self._study, island, segment.previous, end)
        if end != 0:
            raise JournalCorrupt(f"{self._study}/journal/{island} begins at event {end} instead of 0")
        return tuple(event for piece in reversed(pieces) for event in piece)

    def table(self, island: str) -> pa.Table:
        """Every event of an island, as a table of `segments.SCHEMA`."""
        return segments.to_table(self.events(island))

    def _swap(self, newest: Mapping[str, str | None], count: Mapping[str, int]) -> None:
        head = head_bytes(newest, count, self.epoch)
        self._store.replace(f"{self._study}/HEAD", head, self._head)
        self._head = head

    def _forget(self, key: str) -> None:
        with suppress(StoreError):
            self._store.delete(key)

    def _write(self, island: str, segment: Segment, end: int) -> str:
        """Writes a segment whose events are those up to position `end`, exclusive; returns its key."""
        data = segments.to_bytes(segment, self.epoch)
        key = f"{self._study}/journal/{island}/{_span(segment, end)}-{_hash(data)}.parquet"
        self._check()
        try:
            self._store.create(key, data)
        except ObjectExists:  # an append whose HEAD could not be written, tried again
            if self._store.read(key) != data:
                raise JournalCorrupt(f"{key} holds something else than its name says") from None
        return key

    def _read_newest(self, island: str) -> Segment:
        key = self._newest[island]
        return (
            Segment((), None)
            if key is None
            else read_segment(self._store, self._study, island, key, self._count[island])
        )


def read_segment(store: Store, study: str, island: str, key: str, end: int) -> Segment:
    """The segment under `key`, whose events must be those of the island up to position `end`, exclusive.

    Raises:
        JournalCorrupt: it is missing, or something else; the message names it.
    """
    try:
        data = store.read(key)
    except ObjectMissing as error:
        raise JournalCorrupt(f"{key} is missing, and the journal needs it") from error
    name, _, digest = key.removesuffix(".parquet").rpartition("-")
    if _hash(data) != digest:
        raise JournalCorrupt(f"{key} is torn or was changed: the hash of its {len(data)} bytes is {_hash(data)}")
    try:
        segment = segments.from_bytes(data)
    except ValueError as error:
        raise JournalCorrupt(f"{key} is {error}") from error
    needed = f"{study}/journal/{island}/{_span(segment, end)}"
    if name != needed or {event.candidate.island for event in segment.events} != {island}:
        raise JournalCorrupt(f"{key} holds events of another place than {needed}")
    return segment


def _read_head(store: Store, study: str) -> bytes:
    """HEAD's bytes.

    Raises:
        ObjectMissing: the study has no journal.
        JournalCorrupt: it has one, whose HEAD is missing.
    """
    key = f"{study}/HEAD"
    while True:
        try:
            return store.read(key)
        except ObjectMissing:
            if not (left := store.list(f"{study}/journal/")):
                raise
            if key not in store.list(key):  # else the journal has just been made
                raise JournalCorrupt(f"{key} is missing, and {left[0]} is there") from None


def _island(event: Event) -> str:
    return event.candidate.island


def _span(segment: Segment, end: int) -> str:
    """Positions of the first and the last event of a segment that ends before position `end`."""
    return f"{end - len(segment.events):06d}-{end - 1:06d}"


def read_epoch(store: Store, study: str) -> int:
    """The epoch in the study's HEAD; 0 where there is none that can be read."""
    try:
        return int(unseal(store.read(f"{study}/HEAD")).get("epoch", 0))
    except (ObjectMissing, ValueError):
        return 0


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def head_bytes(newest: Mapping[str, str | None], count: Mapping[str, int], epoch: int) -> bytes:
    """HEAD, from each island's newest segment and its number of events."""
    islands = {island: {"segment": newest[island], "events": count[island]} for island in newest}
    return seal({"epoch": epoch, "islands": islands})
