"""This machine: its clocks, its processes, and the heartbeat of a lease."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.lease import Lease, LeaseLost, Owner
from orchestrator.protocols import StoreError

log = logging.getLogger(__name__)

BEATS = 4
"""Signs of life within a lease's time to live."""
PR_SET_PDEATHSIG = 1


class SystemClock:
    """A `Clock`."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def now(self) -> str:
        return datetime.now(UTC).isoformat(timespec="seconds")

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


def this_process() -> Owner:
    """The process that calls."""
    return Owner(f"{socket.gethostname()}, process {os.getpid()}", f"{_place()}:{os.getpid()}:{started(os.getpid())}")


def has_ended(process: str) -> bool:
    """Whether a process, by `Owner.process`, certainly runs no more; one of another machine may."""
    place, _, rest = process.rpartition(":")[0].rpartition(":")
    if not rest.isdigit() or place != _place():
        return False
    return process.rpartition(":")[2] != started(int(rest))


@contextmanager
def heartbeat(lease: Lease) -> Iterator[None]:
    """Gives signs of life from a thread for as long as the block runs, or until the lease is lost."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(lease.ttl_s / BEATS):
            try:
                lease.beat()
            except LeaseLost:
                return
            except StoreError as error:
                log.warning("no sign of life could be given: %s", error)

    thread = threading.Thread(target=beat, name="lease-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def started(pid: int) -> str:
    """When a process of this machine started, in clock ticks since boot; empty: there is none, or it is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def dies_with_parent() -> Callable[[], object]:
    """For `preexec_fn`: the kernel kills the new process when the thread that starts it ends."""
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _place() -> str:
    """This boot of this machine, and the namespace in which its processes are numbered; empty: unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""
