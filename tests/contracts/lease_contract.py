"""What a lease promises on every `Store`. A test module subclasses `LeaseContract` and gives the fixture `store`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from orchestrator.journal import Journal, read_epoch
from orchestrator.lease import Lease, LeaseHeld, LeaseLost, Owner, take
from orchestrator.protocols import ObjectChanged, Store
from orchestrator.records import Candidate, Event, Measurement

TTL_S = 60.0


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps."""

    now_s: float = 0.0
    on_sleep: Callable[[], None] = field(default=lambda: None)

    def monotonic_s(self) -> float:
        return self.now_s

    def now(self) -> str:
        return f"2026-01-01T00:00:{self.now_s:02.0f}+00:00"

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        self.on_sleep()


def take_as(name: str, store: Store, clock: FakeClock | None = None, **options: object) -> Lease:
    owner = Owner(name, f"{name}'s process")
    epoch = read_epoch(store, "s")
    return take(store, "s", owner, clock or FakeClock(), ttl_s=TTL_S, epoch=epoch, **options)  # type: ignore[arg-type]


def event(number: int) -> Event:
    return Event(Candidate("reef", number, (number,), f"{number:016x}"), Measurement({"miou": 0.5}), 1)


class LeaseContract:
    """Collected through subclasses."""

    def test_it_is_taken_given_back_and_taken_again(self, store: Store) -> None:
        first = take_as("first", store)
        first.beat()
        first.check()
        first.release()
        clock = FakeClock()
        second = take_as("second", store, clock)
        assert clock.now_s == 0
        assert (first.epoch, second.epoch) == (1, 2)

    def test_a_holder_with_a_heartbeat_keeps_it_and_is_named(self, store: Store) -> None:
        holder = take_as("the holder", store, FakeClock(now_s=7))
        said: list[str] = []
        clock = FakeClock()
        clock.on_sleep = lambda: holder.beat() if clock.now_s > TTL_S / 2 else None
        words = r"study s is held by the holder, since 2026-01-01T00:00:07\+00:00"
        with pytest.raises(LeaseHeld, match=words):
            take_as("newcomer", store, clock, say=said.append)
        assert TTL_S / 2 < clock.now_s < TTL_S
        assert len(said) == 1
        assert "the holder" in said[0]
        holder.check()

    def test_a_silent_holder_loses_it_after_a_whole_time_to_live(self, store: Store) -> None:
        holder = take_as("the holder", store)
        holder.beat()
        clock = FakeClock()
        newcomer = take_as("newcomer", store, clock)
        assert clock.now_s >= TTL_S
        assert newcomer.epoch == 2
        with pytest.raises(LeaseLost, match=r"study s is held by newcomer, since .*: this driver has lost it"):
            holder.beat()
        assert holder.lost
        with pytest.raises(LeaseLost, match="newcomer"):
            holder.check()
        holder.release()
        newcomer.beat()

    def test_check_asks_the_store_when_the_last_sign_is_old(self, store: Store) -> None:
        clock = FakeClock()
        holder = take_as("the holder", store, clock)
        take_as("newcomer", store)
        holder.check()
        clock.now_s += TTL_S / 2
        with pytest.raises(LeaseLost, match="newcomer"):
            holder.check()

    def test_a_holder_whose_process_has_ended_is_not_waited_for(self, store: Store) -> None:
        take_as("the holder", store)
        clock = FakeClock()
        take_as("newcomer", store, clock, has_ended=lambda process: process == "the holder's process")
        assert clock.now_s == 0

    def test_a_lease_given_back_while_somebody_waits_is_taken_at_once(self, store: Store) -> None:
        holder = take_as("the holder", store)
        clock = FakeClock(on_sleep=holder.release)
        take_as("newcomer", store, clock).beat()
        assert clock.now_s < 1

    def test_of_many_newcomers_one_gets_it(self, store: Store) -> None:
        take_as("the holder", store).release()

        def wait() -> None:
            raise LeaseHeld("somebody else has it")

        def attempt(number: int) -> int | None:
            try:
                take_as(str(number), store, FakeClock(on_sleep=wait))
            except LeaseHeld:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            assert len([one for one in threads.map(attempt, range(8)) if one is not None]) == 1

    def test_what_the_old_holder_writes_late_is_refused(self, store: Store) -> None:
        old = take_as("old", store)
        before = Journal.take(store, "s", ["reef"], old.epoch)
        before.append([event(0)])
        new = take_as("new", store)
        before.append([event(1)])  # still allowed: the new one has not looked yet
        after = Journal.take(store, "s", ["reef"], new.epoch)
        with pytest.raises(ObjectChanged, match="s/HEAD"):
            before.append([event(2)])
        after.append([event(2)])
        assert len(Journal.open(store, "s").events("reef")) == 3
        with pytest.raises(ObjectChanged, match="epoch 2: a later driver than 1"):
            Journal.take(store, "s", ["reef"], old.epoch)

    def test_without_its_object_the_epoch_still_rises(self, store: Store) -> None:
        old = take_as("old", store)
        journal = Journal.take(store, "s", ["reef"], old.epoch)
        store.delete("s/lease.json")
        new = take_as("new", store)
        Journal.take(store, "s", ["reef"], new.epoch)
        assert new.epoch > old.epoch
        with pytest.raises(ObjectChanged, match="s/HEAD"):
            journal.append([event(0)])

    def test_a_damaged_one_is_named_and_waited_for(self, store: Store) -> None:
        store.create("s/lease.json", b'{"owner": "somebody", "epoch": 3, "sha256": "0"}')
        said: list[str] = []
        clock = FakeClock()
        take_as("newcomer", store, clock, say=said.append)
        assert clock.now_s >= TTL_S
        assert "lease.json is torn or changed" in said[0]
