"""A damaged journal, cut before the damage; what is damaged is kept under <study>/damaged/.

The one place that lists the segments: the name of a segment that cannot be read any more is only in the one after it.
Of the chains that are whole from the first event on, the longest one that HEAD does not forbid is kept; so a replaced
segment that is still there may save a part of the one that replaced it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256

from orchestrator.journal import Journal, JournalCorrupt, head_bytes, read_segment
from orchestrator.protocols import ObjectExists, ObjectMissing, Store
from orchestrator.sealed import unseal


def repair(store: Store, study: str, islands: Sequence[str], epoch: int) -> Iterator[str]:
    """Cuts the journal where it is damaged, for the holder of the lease with that epoch; yields what it does, in words.

    Raises:
        ObjectChanged: another driver writes to the study.
    """
    if _is_whole(store, study):
        yield f"the journal of {study} is whole: nothing to repair"
        return
    head = _read(store, f"{study}/HEAD")
    counts = _counts(head)
    keys = store.list(f"{study}/journal/")
    newest: dict[str, str | None] = {}
    kept: dict[str, int] = {}
    damaged: list[str] = []
    for island in islands:
        own = [key for key in keys if key.startswith(f"{study}/journal/{island}/")]
        ends, bad = _chains(store, study, island, own)
        allowed = {key: end for key, end in ends.items() if counts is None or end <= counts.get(island, 0)}
        newest[island] = max(allowed, key=lambda key: allowed[key], default=None)
        kept[island] = max(allowed.values(), default=0)
        lost = "" if counts is None else f" of {counts.get(island, 0)}"
        yield f"island {island}: {kept[island]}{lost} events are whole and stay"
        damaged += bad + [key for key in own if key not in bad and key not in ends]
    for key in damaged:
        yield f"{key} is now {_set_aside(store, study, key)}"
    if head is not None and counts is None:
        yield f"{study}/HEAD as it was is now {_set_aside(store, study, f'{study}/HEAD')}"
    store.replace(f"{study}/HEAD", head_bytes(newest, kept, epoch), head)
    for key in damaged:
        store.delete(key)


def _is_whole(store: Store, study: str) -> bool:
    try:
        journal = Journal.open(store, study)
        for island in journal.islands:
            journal.events(island)
    except (JournalCorrupt, ObjectMissing):
        return False
    return True


def _chains(store: Store, study: str, island: str, keys: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Segments that are whole down to the island's first event, each with the position after its last; and what is
    damaged."""
    previous: dict[str, str | None] = {}
    spans: dict[str, tuple[int, int]] = {}
    bad: list[str] = []
    for key in keys:
        try:
            first, last, _ = key.rpartition("/")[2].split("-")
            spans[key] = int(first), int(last) + 1
            previous[key] = read_segment(store, study, island, key, int(last) + 1).previous
        except (JournalCorrupt, ValueError):
            bad.append(key)
    ends: dict[str, int] = {}
    for key in sorted(previous, key=lambda key: spans[key]):
        before = previous[key]
        if spans[key][0] == (0 if before is None else ends.get(before, -1)):
            ends[key] = spans[key][1]
    return ends, bad


def _counts(head: bytes | None) -> dict[str, int] | None:
    """How many events HEAD says each island has; None: it says nothing."""
    try:
        return None if head is None else {name: int(one["events"]) for name, one in unseal(head)["islands"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _set_aside(store: Store, study: str, key: str) -> str:
    """Copies a damaged object to where it is in nobody's way; returns the key of the copy."""
    data = store.read(key)
    copy = f"{study}/damaged/{key.removeprefix(f'{study}/')}-{sha256(data).hexdigest()[:8]}"
    with suppress(ObjectExists):
        store.create(copy, data)
    return copy


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key)
    except ObjectMissing:
        return None
