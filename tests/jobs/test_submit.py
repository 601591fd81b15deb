"""`archipelago submit` to a Ray cluster that wants a token."""

from __future__ import annotations

import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.jobs.conftest import TOY, CommandLine, wait_until
from tests.mlflow_server import free_port
from tests.ray_head import Head, ray_head
from tests.tables import rows, table_settings


@pytest.fixture(scope="module")
def head(outside: dict[str, str]) -> Iterator[Head]:
    """A cluster of one node."""
    with ray_head(outside, secrets.token_hex(32), ["--num-cpus=2", "--dashboard-host=127.0.0.1"]) as started:
        yield replace(started, environment={**started.environment, "RAY_ADDRESS": "nowhere:1"})


def submit(archipelago: CommandLine, head: Head, recipe: str, *arguments: str, **changes: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `archipelago submit`."""
    environment = {**head.environment, **changes}
    program = archipelago.start("submit", recipe, "--address", head.address, *arguments, environment=environment)
    out, err = program.communicate(timeout=200)
    return program.returncode, out, err


@pytest.mark.slow
def test_a_study_is_submitted_followed_and_seen_from_the_store(archipelago: CommandLine, head: Head) -> None:
    table = archipelago.folder / "table.csv"
    table.write_text("\n".join(rows()))
    recipe = archipelago.recipe(
        TOY,
        study="table",
        space=table_settings(table).model_dump(mode="json"),
        objectives=[{"name": "accuracy"}, {"name": "macs", "reference": 2e9}],
        latency={"measure": False},
        workers={"count": 1},
    )
    code, out, err = submit(archipelago, head, recipe)
    assert code == 0, out + err
    assert "job table at http://127.0.0.1" in out
    assert "archipelago report table" in out, "what the driver prints at its end"
    (status,) = archipelago.rows("status", "table")
    assert status["done"] == 12
    assert archipelago.rows("front", "table")
    again = submit(archipelago, head, recipe)
    assert again[0] == 0, again[1] + again[2]
    assert "job table@2 at" in again[1]
    changed = submit(archipelago, head, recipe, "--set", "seed=5")
    assert (changed[0], "seed is 0 there and 5 here" in changed[1]) == (2, True), changed
    for output in (out, again[1], changed[1]):
        assert head.environment["RAY_AUTH_TOKEN"] not in output


@pytest.mark.slow
def test_a_study_that_runs_is_not_submitted_twice(archipelago: CommandLine, head: Head) -> None:
    slow = archipelago.recipe(TOY, study="slow", space={"name": "toy", "delay_s": 2}, workers={"count": 1})
    code, out, err = submit(archipelago, head, slow, "--no-wait")
    assert code == 0, out + err
    code, _, err = submit(archipelago, head, slow)
    assert code == 2
    assert "study slow runs already, as job slow at http://127.0.0.1" in err
    assert err.count("\n") == 1
    manifest = archipelago.store / "slow" / "manifest.json"
    watcher = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], text=True)
    wait_until(manifest.is_file, watcher, timeout_s=90)
    watcher.kill()
    watcher.wait()
    ray = f"{sysconfig.get_path('scripts')}/ray"
    environment = {name: of for name, of in head.environment.items() if name != "RAY_ADDRESS"}
    subprocess.run([ray, "job", "stop", "slow", "--address", head.address], env=environment, check=True, timeout=60)
    (status, *_) = archipelago.rows("status", "slow")
    assert status["done"] < status["budget"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}])
def test_a_wrong_token_is_one_sentence(archipelago: CommandLine, head: Head, changes: dict[str, str]) -> None:
    code, _, err = submit(archipelago, head, archipelago.recipe(TOY), **changes)
    assert code == 2
    assert "wants a token" in err
    assert err.count("\n") == 1


def test_what_cannot_be_submitted_is_one_sentence(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TOY)
    for address, words in (
        ("127.0.0.1:8265", "write it as http://HOST:8265"),
        (f"http://127.0.0.1:{free_port()}", "is the tunnel to port 8265 of the head open?"),
    ):
        result = archipelago("submit", recipe, "--address", address)
        assert (result.exit_code, words in result.stderr, result.stderr.count("\n")) == (2, True, 1), result.stderr
    archipelago.address = "studies"
    result = archipelago("submit", recipe, "--address", "http://127.0.0.1:8265")
    assert result.exit_code == 2
    assert "--store studies would be a folder of the cluster's head alone" in result.stderr
