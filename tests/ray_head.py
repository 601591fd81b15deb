"""Ray as clusters start it: a head with a dashboard on the loopback that wants a token, and nodes that join it."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.machine import dies_with_parent
from tests.conftest import REPOSITORY
from tests.mlflow_server import free_port

START_TIMEOUT_S = 120.0
SCRIPTS = sysconfig.get_path("scripts")


@dataclass(frozen=True)
class Head:
    """A running cluster, and the environment of those who may use it."""

    address: str
    environment: Mapping[str, str]
    logs: Path
    """The folder of everything that Ray writes."""


@contextmanager
def ray_head(
    environment: Mapping[str, str], token: str, start: Sequence[str], join: Sequence[str] = ()
) -> Iterator[Head]:
    """A cluster of a head, started with the options `start`, and with `join` of a second node."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    variables = {**environment, **own, "PYTHONPATH": str(REPOSITORY)}
    folder, port, dashboard = Path(environment["RAY_TMPDIR"]) / token[:8], free_port(), free_port()
    folder.mkdir()
    where = ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=100000000", "--block"]
    head = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"]
    log = folder / "start.log"
    processes = [_start([*where, *head, *start], variables, log)]
    address = f"http://127.0.0.1:{dashboard}"
    try:
        _wait(processes[0], address, token, log)
        if join:
            processes.append(_start([f"--address=127.0.0.1:{port}", *where[2:], *join], variables, log))
        yield Head(address, variables, folder)
    finally:
        for number in _holders(token):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for process in processes:
            process.wait()


def _start(options: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    agents = [f"--dashboard-agent-{kind}-port={free_port()}" for kind in ("listen", "grpc")]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [f"{SCRIPTS}/ray", "start", *options, *agents],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=dies_with_parent(),
        )


def _wait(process: subprocess.Popen[bytes], address: str, token: str, log: Path) -> None:
    """Until the dashboard takes jobs."""
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)


def _holders(token: str) -> list[int]:
    """The processes in whose environment the token is: what the cluster has started, whoever is their parent by now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"RAY_AUTH_TOKEN={token}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return [number for number in found if number != os.getpid()]
