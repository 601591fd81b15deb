"""The truth of a study: what was asked and what came of it, per island, in the order in which the sampler is told.

    <study>/HEAD                                               {"islands": {name: {"segment": key, "events": n}}}
    <study>/journal/<island>/<first>-<last>-<hash>.parquet     immutable, names the segment before it; first and last:
                                                               positions in the island's journal, counted from 0

A write is the segment, then HEAD, which is swapped only if it still holds what this journal wrote last: a driver that
dies between the two loses the write and nothing else, and of two drivers one is refused. Readers start at HEAD and
follow the names backwards; the hash in a name is the hash of the bytes.

Results come a few at a time, and a chain of thousands of tiny segments would be slow to read: so a segment of less
than `SEGMENT_EVENTS` events is not followed by the next one but replaced by a longer one that begins like it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

from orchestrator import segments
from orchestrator.protocols import ObjectExists, ObjectMissing, Store
from orchestrator.records import Event
from orchestrator.segments import Segment

SEGMENT_EVENTS = 64


class JournalCorrupt(RuntimeError):
    """A journal's object is missing or holds something else than was written; the message names it."""


class Journal:
    """The journal of one study. `append` is for its one driver; any number may read."""

    def __init__(self, store: Store, study: str, head: bytes) -> None:
        """Use `create` or `open`."""
        self._store, self._study, self._head = store, study, head
        try:
            islands = json.loads(head)["islands"]
            self._newest: dict[str, str | None] = {name: entry["segment"] for name, entry in islands.items()}
            self._count: dict[str, int] = {name: int(entry["events"]) for name, entry in islands.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalCorrupt(f"{study}/HEAD is not a journal's head: {error!r}") from error
        self._tail = {island: self._read_newest(island) for island in self._newest}

    @classmethod
    def create(cls, store: Store, study: str, islands: Sequence[str]) -> Journal:
        """An empty journal.

        Raises:
            ObjectChanged: the study has a journal already.
        """
        head = _head(dict.fromkeys(islands), dict.fromkeys(islands, 0))
        store.replace(f"{study}/HEAD", head, None)
        return cls(store, study, head)

    @classmethod
    def open(cls, store: Store, study: str) -> Journal:
        """The journal as HEAD names it.

        Raises:
            ObjectMissing: the study has no journal.
            JournalCorrupt: HEAD, or a newest segment, is not what was written.
        """
        return cls(store, study, store.read(f"{study}/HEAD"))

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
        """
        if not events:
            return
        newest, count, tail = dict(self._newest), dict(self._count), dict(self._tail)
        for island, group in groupby(sorted(events, key=_island), key=_island):
            fresh = tuple(segments.writable(event) for event in group)
            last = tail[island]
            if len(last.events) + len(fresh) <= SEGMENT_EVENTS:
                segment = Segment(last.events + fresh, last.previous)
            else:
                segment = Segment(fresh, newest[island])
            count[island] += len(fresh)
            newest[island], tail[island] = self._write(island, segment, count[island]), segment
        head = _head(newest, count)
        self._store.replace(f"{self._study}/HEAD", head, self._head)
        self._head, self._newest, self._count, self._tail = head, newest, count, tail

    def events(self, island: str) -> tuple[Event, ...]:
        """Every event of an island, in order.

        Raises:
            JournalCorrupt: a segment is missing, torn, or not where it belongs; the message names it.
        """
        pieces: list[tuple[Event, ...]] = []
        segment, end = self._tail[island], self._count[island]
        while True:
            pieces.append(segment.events)
            end -= len(segment.events)
            if segment.previous is None:
                break
            segment = self._read(island, segment.previous, end)
        if end != 0:
            raise JournalCorrupt(f"{self._study}/journal/{island} begins at event {end} instead of 0")
        return tuple(event for piece in reversed(pieces) for event in piece)

    def table(self, island: str) -> pa.Table:
        """Every event of an island, as a table of `segments.SCHEMA`."""
        return segments.to_table(self.events(island))

    def _write(self, island: str, segment: Segment, end: int) -> str:
        """Writes a segment whose events are those up to position `end`, exclusive; returns its key."""
        data = segments.to_bytes(segment)
        key = f"{self._study}/journal/{island}/{_span(segment, end)}-{_hash(data)}.parquet"
        try:
            self._store.create(key, data)
        except ObjectExists:  # by a driver that died before HEAD named it
            if self._store.read(key) != data:
                raise JournalCorrupt(f"{key} holds something else than its name says") from None
        return key

    def _read_newest(self, island: str) -> Segment:
        key = self._newest[island]
        return Segment((), None) if key is None else self._read(island, key, self._count[island])

    def _read(self, island: str, key: str, end: int) -> Segment:
        """The segment under `key`, whose events must be those up to position `end`, exclusive."""
        try:
            data = self._store.read(key)
        except ObjectMissing as error:
            raise JournalCorrupt(f"{key} is missing, and the journal needs it") from error
        name, _, digest = key.removesuffix(".parquet").rpartition("-")
        if _hash(data) != digest:
            raise JournalCorrupt(f"{key} is torn or was changed: the hash of its {len(data)} bytes is {_hash(data)}")
        try:
            segment = segments.from_bytes(data)
        except ValueError as error:
            raise JournalCorrupt(f"{key} is {error}") from error
        needed = f"{self._study}/journal/{island}/{_span(segment, end)}"
        if name != needed or {event.candidate.island for event in segment.events} != {island}:
            raise JournalCorrupt(f"{key} holds events of another place than {needed}")
        return segment


def _island(event: Event) -> str:
    return event.candidate.island


def _span(segment: Segment, end: int) -> str:
    """Positions of the first and the last event of a segment that ends before position `end`."""
    return f"{end - len(segment.events):06d}-{end - 1:06d}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _head(newest: dict[str, str | None], count: dict[str, int]) -> bytes:
    islands = {island: {"segment": newest[island], "events": count[island]} for island in newest}
    return json.dumps({"islands": islands}, indent=1).encode()
