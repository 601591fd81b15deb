from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import journal as journal_module
from orchestrator import segments
from orchestrator.journal import Journal, JournalCorrupt
from orchestrator.lease import LeaseLost
from orchestrator.protocols import ObjectChanged, ObjectMissing
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Result, Source
from orchestrator.sealed import seal
from orchestrator.segments import SCHEMA
from tests.contracts.store_contract import StoreContract
from tests.doubles import MemoryStore

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.dictionaries(WORDS, st.floats(allow_nan=False), max_size=4)
RESULTS: st.SearchStrategy[Result] = st.one_of(
    st.builds(Measurement, NUMBERS, NUMBERS, WORDS, st.sampled_from(Source)),
    st.builds(Failure, st.sampled_from(FailureKind), WORDS, WORDS),
)


def event(number: int, island: str = "reef", result: Result | None = None) -> Event:
    genotype = (number, 0, 3)
    return Event(Candidate(island, number, genotype, f"{number:016x}"), result or Measurement({"miou": number / 7}), 2)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


@given(st.lists(st.tuples(RESULTS, st.integers(1, 9)), max_size=12), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_what_is_read_is_what_was_written(results: list[tuple[Result, int]], at_once: int) -> None:
    store = MemoryStore()
    written = [Event(event(number).candidate, one, attempts) for number, (one, attempts) in enumerate(results)]
    journal = Journal.create(store, "s", ["reef"])
    for start in range(0, len(written), at_once):
        journal.append(written[start : start + at_once])
    assert journal.events("reef") == Journal.open(store, "s").events("reef") == tuple(written)


def test_islands_keep_their_own_order() -> None:
    journal = Journal.create(MemoryStore(), "s", ["reef", "shoal"])
    journal.append([event(0), event(0, "shoal"), event(1)])
    journal.append([event(1, "shoal")])
    assert [one.candidate.number for one in journal.events("reef")] == [0, 1]
    assert [one.candidate.island for one in journal.events("shoal")] == ["shoal", "shoal"]
    assert (journal.count("reef"), journal.islands) == (2, ("reef", "shoal"))


def test_the_chain_stays_short() -> None:
    store = MemoryStore()
    journal = Journal.create(store, "s", ["reef"])
    for number in range(200):
        journal.append([event(number)])
    reads: list[str] = []

    class Counting(MemoryStore):
        def read(self, key: str) -> bytes:
            reads.append(key)
            return super().read(key)

    assert len(Journal.open(Counting(store.objects), "s").events("reef")) == 200
    assert len(reads) == 1 + 4  # HEAD, and 200 events in segments of 64


def test_a_journal_without_sources_is_read_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    with monkeypatch.context() as older:
        older.setattr(segments, "SCHEMA", pa.schema([field for field in SCHEMA if field.name != "source"]))
        Journal.create(store, "s", ["reef"]).append([event(0), event(1, result=Failure(FailureKind.EVALUATION, "no"))])
    journal = Journal.open(store, "s")
    known = event(2, result=Measurement({"miou": 0.5}, source=Source.MEMO))
    journal.append([known])
    first, failed, last = Journal.open(store, "s").events("reef")
    assert (first, last) == (event(0), known)
    assert failed.status == "failed"


def test_a_table_has_a_row_for_each_event() -> None:
    journal = Journal.create(MemoryStore(), "s", ["reef"])
    journal.append([event(0), event(1, result=Failure(FailureKind.EVALUATION, "no"))])
    table = journal.table("reef")
    assert table.schema == SCHEMA
    assert table.column("status").to_pylist() == ["measured", "failed"]


def test_what_utf8_cannot_hold_does_not_stop_a_study() -> None:
    journal = Journal.create(MemoryStore(), "s", ["reef"])
    journal.append([event(0, result=Failure(FailureKind.EVALUATION, "no such file: \udcff"))])
    (one,) = journal.events("reef")
    assert isinstance(one.result, Failure)
    assert one.result.message == "no such file: \\udcff"


def test_of_two_writers_one_is_refused_and_nothing_is_lost() -> None:
    store = MemoryStore()
    first = Journal.create(store, "s", ["reef"])
    second = Journal.open(store, "s")
    first.append([event(0)])
    with pytest.raises(ObjectChanged, match="s/HEAD"):
        second.append([event(0, result=Measurement({"miou": 1.0}))])
    assert Journal.open(store, "s").events("reef") == (event(0),)
    with pytest.raises(ObjectChanged, match="s/HEAD"):
        Journal.create(store, "s", ["reef"])


def test_a_segment_that_head_does_not_name_yet_is_written_again() -> None:
    store = MemoryStore()
    Journal.create(store, "s", ["reef"])
    before = dict(store.objects)
    Journal.open(store, "s").append([event(0)])
    (segment,) = store.list("s/journal/")
    killed = MemoryStore({**before, segment: store.objects[segment]})
    Journal.open(killed, "s").append([event(0)])
    assert Journal.open(killed, "s").events("reef") == (event(0),)


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryStore, list[str]]:
    """A journal of three segments, and their keys in order."""
    monkeypatch.setattr(journal_module, "SEGMENT_EVENTS", 2)
    store = MemoryStore()
    journal = Journal.create(store, "s", ["reef"])
    for start in (0, 2, 4):
        journal.append([event(start), event(start + 1)])
    return store, list(store.list("s/journal/reef/"))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_damaged_segment_is_named(damaged: tuple[MemoryStore, list[str]], which: int) -> None:
    store, keys = damaged
    good = store.objects[keys[which]]
    for bad, words in ((good[:-5], "is torn"), (b"", "is torn"), (None, "is missing")):
        if bad is None:
            del store.objects[keys[which]]
        else:
            store.objects[keys[which]] = bad
        with pytest.raises(JournalCorrupt, match=f"{keys[which]} {words}"):
            Journal.open(store, "s").events("reef")


def test_a_segment_in_anothers_place_is_named(damaged: tuple[MemoryStore, list[str]]) -> None:
    store, keys = damaged
    head = store.objects["s/HEAD"].replace(keys[2].encode(), keys[1].encode())
    store.objects["s/HEAD"] = seal({name: value for name, value in json.loads(head).items() if name != "sha256"})
    with pytest.raises(JournalCorrupt, match=f"{keys[1]} holds events of another place than s/journal/reef/0*4-0*5"):
        Journal.open(store, "s")


@pytest.mark.parametrize("head", [b"", b"{}", b"[1]", b'{"islands": {"reef": 3}}'])
def test_a_head_that_is_none_is_named(head: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="s/HEAD is not a journal's head"):
        Journal.open(MemoryStore({"s/HEAD": head}), "s")


def test_a_study_without_journal_is_named() -> None:
    with pytest.raises(ObjectMissing, match="s/HEAD"):
        Journal.open(MemoryStore(), "s")


def test_what_is_superseded_is_deleted_a_little_later_and_swept_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_EVENTS", 8)
    store = MemoryStore()
    journal = Journal.create(store, "s", ["reef"])
    for number in range(30):
        journal.append([event(number)])
        assert len(store.list("s/journal/")) <= number // 8 + 1 + journal_module.SUPERSEDED
    assert len(store.list("s/journal/")) == 4 + journal_module.SUPERSEDED
    journal.events("reef")
    journal.sweep()
    assert len(store.list("s/journal/")) == 4
    for number in range(30, 40):
        journal.append([event(number)])
    journal.sweep()
    assert len(store.list("s/journal/")) == 5
    assert Journal.open(store, "s").events("reef") == tuple(event(number) for number in range(40))


def test_a_reader_begins_again_when_what_it_read_of_is_superseded() -> None:
    store = MemoryStore()
    journal = Journal.create(store, "s", ["reef"])
    journal.append([event(0)])

    class Overtaking(MemoryStore):
        def read(self, key: str) -> bytes:
            if "/journal/" in key and self.objects[key] == first:
                journal.append([event(1)])
                journal.events("reef")
                journal.sweep()
            return super().read(key)

    (key,) = store.list("s/journal/")
    first, reader = store.objects[key], Overtaking()
    reader.objects = store.objects
    assert Journal.open(reader, "s").events("reef") == (event(0), event(1))


def test_segments_without_a_head_are_not_forgotten() -> None:
    store = MemoryStore()
    Journal.create(store, "s", ["reef"]).append([event(0)])
    del store.objects["s/HEAD"]
    with pytest.raises(JournalCorrupt, match=r"s/HEAD is missing, and s/journal/reef/.* is there; .*--repair"):
        Journal.take(store, "s", ["reef"], 1)


def test_a_journal_without_its_head_is_not_taken_for_an_empty_one() -> None:
    store = MemoryStore()
    with pytest.raises(ObjectMissing):
        Journal.open(store, "s")
    Journal.create(store, "s", ["reef"]).append([event(0)])
    store.delete("s/HEAD")
    for look in (lambda: Journal.open(store, "s"), lambda: Journal.take(store, "s", ["reef"], 2)):
        with pytest.raises(JournalCorrupt, match=r"s/HEAD is missing, and s/journal/reef/.* is there"):
            look()


def test_nothing_is_written_without_the_lease() -> None:
    store = MemoryStore()

    def check() -> None:
        raise LeaseLost("study s is held by another")

    for _ in range(2):  # made, and opened
        journal = Journal.take(store, "s", ["reef"], 1, check)
        before = dict(store.objects)
        with pytest.raises(LeaseLost):
            journal.append([event(0)])
        assert store.objects == before


def test_segments_are_those_that_head_leads_to() -> None:
    store = MemoryStore()
    journal = Journal.create(store, "s", ["reef", "shoal"])
    for number in range(150):
        journal.append([event(number)])
    reopened = Journal.open(store, "s")
    for island in reopened.islands:
        reopened.events(island)
    assert len(reopened.segments()) == 3
    reopened.sweep()
    assert sorted(reopened.segments()) == store.list("s/journal/")


def test_what_a_driver_wrote_too_late_is_taken_back() -> None:
    store = MemoryStore()
    late = Journal.create(store, "s", ["reef", "shoal"], epoch=1)
    late.append([event(0), event(0, "shoal")])
    other = Journal.take(store, "s", ["reef", "shoal"], epoch=2)
    other.append([event(1), event(1, "shoal")])
    before = dict(store.objects)
    with pytest.raises(ObjectChanged):
        late.append([event(1), event(1, "shoal")])
    assert store.objects == before
    assert len(Journal.open(store, "s").events("shoal")) == 2


def test_a_lease_that_is_lost_between_two_islands_leaves_no_segment() -> None:
    store, checks = MemoryStore(), iter([True, False])

    def check() -> None:
        if not next(checks):
            raise LeaseLost("study s is held by another")

    journal = Journal.take(store, "s", ["reef", "shoal"], 1, check)
    before = dict(store.objects)
    with pytest.raises(LeaseLost):
        journal.append([event(0), event(0, "shoal")])
    assert store.objects == before
