"""A journal is damaged in every way, repaired, and goes on."""

from __future__ import annotations

import pytest

from orchestrator import journal as journal_module
from orchestrator.journal import Journal, JournalCorrupt
from orchestrator.records import Candidate, Event, Measurement
from orchestrator.repair import repair
from tests.doubles import MemoryStore

ISLANDS = ("reef", "shoal")


def event(island: str, number: int) -> Event:
    return Event(Candidate(island, number, (number,), f"{number:016x}"), Measurement({"miou": number / 7}), 1)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Seven events of each island, in segments of two."""
    monkeypatch.setattr(journal_module, "SEGMENT_EVENTS", 2)
    store = MemoryStore()
    journal = Journal.create(store, "s", ISLANDS)
    for number in range(7):
        journal.append([event(island, number) for island in ISLANDS])
    for island in ISLANDS:
        journal.events(island)
    journal.sweep()
    return store


def mended(store: MemoryStore) -> tuple[list[str], Journal]:
    said = list(repair(store, "s", ISLANDS, 5))
    return said, Journal.open(store, "s")


def test_a_whole_journal_stays_as_it_is(store: MemoryStore) -> None:
    before = dict(store.objects)
    said, _ = mended(store)
    assert said == ["the journal of s is whole: nothing to repair"]
    assert store.objects == before


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("how", ["flipped", "torn", "missing", "empty"])
def test_it_is_cut_before_the_damage_and_the_damaged_object_is_kept(store: MemoryStore, which: int, how: str) -> None:
    key = store.list("s/journal/reef/")[which]
    good = store.objects.pop(key)
    bad = {"flipped": good[:40] + bytes([good[40] ^ 1]) + good[41:], "torn": good[:-9], "empty": b""}.get(how)
    if bad is not None:
        store.objects[key] = bad
    with pytest.raises(JournalCorrupt, match=f"{key} is .*resume --repair"):
        Journal.open(store, "s").events("reef")
    said, journal = mended(store)
    assert journal.events("reef") == tuple(event("reef", number) for number in range(2 * which))
    assert len(journal.events("shoal")) == 7
    assert f"island reef: {2 * which} of 7 events are whole and stay" in said
    kept = store.list("s/damaged/journal/reef/")
    assert len(kept) == 4 - which - (bad is None)
    assert bad is None or bad in [store.objects[one] for one in kept]
    for number in range(2 * which, 9):
        journal.append([event("reef", number)])
    assert Journal.open(store, "s").events("reef") == tuple(event("reef", number) for number in range(9))


@pytest.mark.parametrize(
    "head", [None, b"", b"{}", b'{"islands": {"reef": {"segment": null, "events": 0}}, "sha256": "0"}']
)
def test_a_head_is_made_anew_from_the_segments(store: MemoryStore, head: bytes | None) -> None:
    del store.objects["s/HEAD"]
    if head is not None:
        store.objects["s/HEAD"] = head
    said, journal = mended(store)
    assert "island reef: 7 events are whole and stay" in said
    assert (journal.count("reef"), journal.count("shoal"), journal.epoch) == (7, 7, 5)
    assert [store.objects[key] for key in store.list("s/damaged/")] == ([] if head is None else [head])


def test_what_was_replaced_serves_where_its_successor_is_damaged() -> None:
    store = MemoryStore()
    journal = Journal.create(store, "s", ISLANDS)
    for number in range(4):
        journal.append([event("reef", number)])
    newest = next(key for key in store.list("s/journal/reef/") if "000000-000003" in key)
    store.objects[newest] = b"damaged"
    _, journal = mended(store)
    assert journal.events("reef") == tuple(event("reef", number) for number in range(3))
