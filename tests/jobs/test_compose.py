"""infra/compose.yaml without containers: its commands with its variables, on ports of this machine's loopback.

Postgres, the S3 server, MLflow with passwords, a head and a worker are started as the file says; a study is submitted.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow import MlflowClient

from infra.machine import dies_with_parent
from infra.seaweedfs import PORTS
from infra.stores import make_store
from tests.infra.launch_files import INFRA, compose, secrets_of
from tests.jobs.conftest import TOY, CommandLine
from tests.mlflow_server import free_port
from tests.ray_head import SCRIPTS, Head, ray_head

POSTGRES = Path("/usr/lib/postgresql")
NOBODY = 65534
START_TIMEOUT_S = 150.0


@dataclass(frozen=True)
class Services:
    """What runs: the cluster, the tracking server's address, the secrets, and what was written beside the stores."""

    head: Head
    mlflow: str
    secrets: Mapping[str, str]
    logs: Path


class Stage:
    """The services' places on this machine."""

    def __init__(self, stack: ExitStack, folder: Path, secrets: dict[str, str]) -> None:
        self.stack, self.folder, self.secrets = stack, folder, secrets
        self.ports = {name: free_port() for name in ("postgres", "seaweedfs", "mlflow")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.services: dict[str, Any] = compose(secrets)["services"]
        self.configs: dict[str, Any] = compose(secrets)["configs"]

    def here(self, text: str) -> str:
        """A command's word or a variable's value, with this machine's places in it."""
        places = {
            "@postgres/": f"@127.0.0.1:{self.ports['postgres']}/",
            "http://seaweedfs:8333": f"http://127.0.0.1:{self.ports['seaweedfs']}",
            "-ip=seaweedfs": "-ip=127.0.0.1",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "-s3.port=8333": f"-s3.port={self.ports['seaweedfs']}",
            "--port=5000": f"--port={self.ports['mlflow']}",
            "--host=0.0.0.0": "--host=127.0.0.1",
            "/etc/mlflow/auth.ini": str(self.folder / "auth.ini"),
            "-dir=/data": f"-dir={self.folder / 'objects'}",
            "=0.0.0.0": "=127.0.0.1",
        }
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    def environment(self, service: str) -> dict[str, str]:
        own = {name: self.here(str(value)) for name, value in self.services[service]["environment"].items()}
        kept = {name: os.environ[name] for name in ("HOME",)}
        return {**kept, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "RAY_TMPDIR": "/tmp", **own}

    def command(self, service: str) -> list[str]:
        return [self.here(word) for word in self.services[service]["command"]]

    def start(self, command: Sequence[str], environment: Mapping[str, str], name: str, **options: Any) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(),
                **options,
            )
        self.processes[name] = process
        self.stack.callback(process.wait)
        self.stack.callback(os.killpg, process.pid, signal.SIGKILL)

    def running(self) -> None:
        """Fails with its log when one of them has ended."""
        for name, process in self.processes.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-3000:]

    def postgres(self) -> None:
        """As the image does: a database and its owner, both named POSTGRES_USER."""
        programs = max(POSTGRES.glob("*/bin"))
        where, environment = self.folder / "postgres", self.environment("postgres")
        other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        where.mkdir()
        (where / "password").write_text(environment["POSTGRES_PASSWORD"])
        for path in (where, where / "password"):
            shutil.chown(path, *((NOBODY, NOBODY) if other else (os.geteuid(), os.getegid())))
        owner = f"--username={environment['POSTGRES_USER']}"
        command = [programs / "initdb", f"--pgdata={where / 'data'}", owner, "--auth=scram-sha-256"]
        command += [f"--pwfile={where / 'password'}", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=where, **other)
        port = self.ports["postgres"]
        options = ["-D", str(where / "data"), "-p", str(port), "-k", str(where), "-c", "listen_addresses=127.0.0.1"]
        self.start([str(programs / "postgres"), *options], {"PATH": os.environ["PATH"]}, "postgres", **other)

        def create() -> None:
            login = {"user": environment["POSTGRES_USER"], "password": environment["POSTGRES_PASSWORD"]}
            with psycopg.connect(
                host="127.0.0.1", port=port, dbname="postgres", autocommit=True, **login
            ) as connection:
                connection.execute(f"CREATE DATABASE {environment['POSTGRES_USER']}")

        until(create, psycopg.OperationalError, self.running)

    def seaweedfs(self) -> None:
        (self.folder / "objects").mkdir()
        more = [f"-{name}={free_port()}" for name in PORTS if name != "s3.port"]
        command = [f"{SCRIPTS}/weed", *self.command("seaweedfs"), *more, "-s3.port.iceberg=0", "-s3.port.lance=0"]
        self.start(command, self.environment("seaweedfs"), "seaweedfs")

    def bucket(self) -> None:
        def make() -> None:
            command = self.command("bucket")
            subprocess.run(command, check=True, capture_output=True, env=self.environment("bucket"), timeout=60)

        until(make, subprocess.CalledProcessError, self.running)

    def mlflow(self) -> str:
        (self.folder / "auth.ini").write_text(self.here(self.configs["mlflow-auth"]["content"]))
        self.start(self.command("mlflow"), self.environment("mlflow"), "mlflow")
        address = f"http://127.0.0.1:{self.ports['mlflow']}"
        until(lambda: urllib.request.urlopen(f"{address}/health", timeout=5).close(), OSError, self.running)
        return address


def until(act: Any, passing: type[Exception], check: Callable[[], None]) -> None:
    """Acts until it works; `check` finds out early that it never will."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return act()
        except passing:
            check()
            assert time.monotonic() < deadline_s
            time.sleep(0.5)


@pytest.fixture
def services() -> Iterator[Services]:
    if not list(POSTGRES.glob("*/bin/initdb")):
        pytest.skip("no Postgres here: apt install postgresql")
    printed = subprocess.run(["sh", str(INFRA / "secrets.sh")], capture_output=True, text=True, check=True).stdout
    secrets = secrets_of(printed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compose-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        stage = Stage(stack, folder, secrets)
        stage.postgres()
        stage.seaweedfs()
        stage.bucket()
        address = stage.mlflow()
        (folder / "ray").mkdir()
        environment = {**stage.environment("head"), "RAY_TMPDIR": str(folder / "ray")}
        start = [word for word in stage.command("head")[2:] if not word.startswith(("--head", "--port", "--block"))]
        join = [word for word in stage.command("worker")[2:] if not word.startswith(("--address", "--block"))]
        head = stack.enter_context(ray_head(environment, secrets["RAY_AUTH_TOKEN"], start, join))
        yield Services(head, address, secrets, folder)


@pytest.mark.slow
def test_a_study_runs_through_all_services(
    archipelago: CommandLine, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    archipelago.address = "s3://archipelago/studies"
    recipe = archipelago.recipe(TOY, workers={"count": "auto"}, tracking={"uri": services.mlflow})
    program = archipelago.start(
        "submit", recipe, "--address", services.head.address, environment=services.head.environment
    )
    out, err = program.communicate(timeout=250)
    assert program.returncode == 0, out + err
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, services.head.environment[name])
    assert sum(row["done"] for row in archipelago.rows("status", "toy")) == 36
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{services.mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=toy")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", services.secrets["MLFLOW_TRACKING_PASSWORD"])
    assert archipelago("sync", "toy").exit_code == 0  # the server may be slower than the study
    client = MlflowClient(services.mlflow)
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    levels = [run.data.tags["level"] for run in runs]
    assert {level: levels.count(level) for level in levels} == {"study": 1, "island": 3, "candidate": 36}
    (study,) = (run for run in runs if run.data.tags["level"] == "study")
    assert "fronts.png" in [file.path for file in client.list_artifacts(study.info.run_id)]
    store = make_store("s3://archipelago/")
    content = {key: store.read(key) for key in store.list("")}
    assert [key for key in content if key.startswith("mlflow/") and key.endswith("fronts.png")]
    logs = {path: path.read_bytes() for path in services.logs.rglob("*.log") if path.is_file()}
    logs |= {path: path.read_bytes() for path in services.head.logs.rglob("*.out") if path.is_file()}
    assert any("job-driver-toy" in path.name for path in logs)
    for name in set(services.secrets) - {"RAY_AUTH_MODE", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"}:
        value = services.secrets[name]
        if len(value) < 16:
            continue  # the names of accounts
        assert value not in out + err, name
        assert not [where for where, bytes_ in {**content, **logs}.items() if value.encode() in bytes_], name
