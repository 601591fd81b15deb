"""Processes of this machine, and the heartbeat."""

from __future__ import annotations

import subprocess
import sys
import time

from infra.machine import SystemClock, has_ended, heartbeat, this_process
from orchestrator.lease import take
from tests.doubles import MemoryStore

SCRIPT = "from infra.machine import this_process; print(this_process().process, flush=True); input()"


def test_a_process_is_known_to_have_ended_when_it_has() -> None:
    program = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    other = program.stdout.readline().strip()
    assert not has_ended(other)
    assert not has_ended(this_process().process)
    program.kill()
    program.communicate()
    assert has_ended(other)


def test_nothing_is_known_of_other_machines_and_of_nonsense() -> None:
    place, pid, started = this_process().process.rsplit(":", 2)
    assert not has_ended(f"{place[:-1]}:{pid}:1")
    assert has_ended(f"{place}:{pid}:{int(started) + 1}")  # the number has been given to another process since
    for nonsense in ("", "x", "None", ":::"):
        assert not has_ended(nonsense)


def test_signs_of_life_come_several_times_within_the_time_to_live() -> None:
    store = MemoryStore()
    lease = take(store, "s", this_process(), SystemClock(), ttl_s=0.4)
    with heartbeat(lease):
        seen = set()
        deadline_s = time.monotonic() + 10
        while len(seen) < 4 and time.monotonic() < deadline_s:
            seen.add(store.objects["s/lease.json"])
            time.sleep(0.02)
    assert len(seen) == 4
    lease.release()
