"""A real MLflow server for the tests: the one that `archipelago ui` starts, which is a tracking server as well."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.mlflow_ui import ui_command, ui_environment

START_TIMEOUT_S = 120.0
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class MlflowServer:
    """A running server."""

    address: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends it, and the workers that it has started, in the middle of whatever they do."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def mlflow_servers(uri: str, folder: Path) -> Iterator[Callable[[int], MlflowServer]]:
    """A function that starts a server over `uri` on a port, and waits until it answers."""
    servers: list[MlflowServer] = []
    libc = ctypes.CDLL(None)

    def start(port: int) -> MlflowServer:
        with open(folder / "server.log", "a") as log:
            process = subprocess.Popen(
                ui_command(uri, port),
                cwd=folder,
                env=ui_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(DIES_WITH_PARENT, signal.SIGTERM),  # which it passes on to its workers
            )
        servers.append(MlflowServer(f"http://127.0.0.1:{port}", process))
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                    assert reply.read() == b"OK"
                    return servers[-1]
            except OSError:
                assert time.monotonic() < deadline_s, (folder / "server.log").read_text()
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)

    try:
        yield start
    finally:
        for server in servers:
            if server.process.poll() is None:
                server.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
