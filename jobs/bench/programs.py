"""`archipelago` as a program that is started, watched, stopped and killed, on what is like a machine of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jobs
from infra.machine import dies_with_parent, started

ROOT = Path(jobs.__file__).parents[1]
PATIENCE_S = 120.0
"""How long a program may take for anything."""
POLL_S = 0.01
WORKER = "ray::EvaluationWorker"


class Program:
    """An `archipelago` command that runs in a folder of its own, with nothing of an earlier one at hand."""

    def __init__(self, *arguments: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # a socket's path has 107 bytes at most
        own = {name: str(self.folder) for name in ("HOME", "TMPDIR", "RAY_TMPDIR")}
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.arguments, self.began_s = arguments, time.monotonic()
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", *arguments],
                cwd=self.folder,
                env={**os.environ, **own, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=dies_with_parent(),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """What it has printed, to either stream, in one line."""
        return " ".join(" ".join((self.folder / name).read_text(errors="replace") for name in ("out", "err")).split())

    def wait_until(self, happened: Callable[[], bool]) -> bool:
        """Whether it happened; else the program ended first.

        Raises:
            TimeoutError: neither in `PATIENCE_S`.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not happened():
            if not self.runs:
                return happened()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{' '.join(self.arguments)} does not go on: {self.said[-500:]}")
            time.sleep(POLL_S)
        return True

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, to a program that may have ended."""
        self.process.send_signal(number)

    def kill(self) -> bool:
        """Whether SIGKILL ended it; else it had ended before."""
        self.process.kill()
        return self.process.wait(PATIENCE_S) == -signal.SIGKILL

    def end(self) -> int:
        """Its exit code, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def workers(self) -> list[int]:
        """The processes of its evaluation workers."""
        return [pid for pid in below(self.pid) if _title(pid).startswith(WORKER)]

    def forget(self) -> None:
        """Removes its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def below(pid: int) -> dict[int, str]:
    """The processes that a process has started, and those that they have, by id; and when each of them started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        fresh = children.get(waiting.pop(), [])
        found |= {child: started(child) for child in fresh}
        waiting += fresh
    return found


def outlive(processes: dict[int, str], patience_s: float) -> list[int]:
    """Those of the processes, as `below` gives them, that still run after so long; they are killed."""
    deadline_s = time.monotonic() + patience_s
    while True:
        left = [pid for pid, since in processes.items() if since and started(pid) == since]
        if not left:
            return []
        if time.monotonic() > deadline_s:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.05)


def _parent(entry: Path) -> int:
    """The parent of a process, by its entry in /proc; 0 where it has just ended."""
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
