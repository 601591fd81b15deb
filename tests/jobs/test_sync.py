"""`archipelago sync`: MLflow from the journal alone, through the command line."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from infra.mlflow_ui import sqlite_uri
from tests.jobs.conftest import TOY, CommandLine, wait_until
from tests.mlflow_server import free_port, mlflow_servers

CANDIDATES = [(island, number) for island in ("atoll", "reef", "shoal") for number in range(12)]


@pytest.fixture
def study(archipelago: CommandLine) -> CommandLine:
    """The store of a finished study that MLflow has never heard of."""
    result = archipelago("search", archipelago.recipe(TOY), "--in-process")
    assert result.exit_code == 0, result.stderr
    return archipelago


def runs(uri: str, level: str = "candidate") -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("toy")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.level = '{level}'", max_results=10_000))


def assert_all_are_there_once(archipelago: CommandLine, uri: str) -> None:
    """One whole run for each candidate of the journal, saying what the journal does."""
    found = runs(uri)
    names = [(run.data.tags["island"], int(run.data.tags["number"])) for run in found]
    rows = {(row["island"], row["number"]): row for row in archipelago.rows("candidates", "toy")}
    assert sorted(names) == sorted(rows)
    front = {(row["island"], row["number"]) for row in archipelago.rows("front", "toy")}
    (root,), islands = runs(uri, "study"), {run.data.tags["island"]: run for run in runs(uri, "island")}
    assert len(islands) == len(runs(uri, "island"))
    for name, run in zip(names, found, strict=True):
        row = rows[name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["arch_id"] == row["arch_id"]
        assert {key: run.data.metrics[key] for key in row["objectives"]} == row["objectives"]
        assert (run.data.tags["on_front"] == "true") == (name in front)
        assert run.data.params
        assert run.data.tags["mlflow.parentRunId"] == islands[name[0]].info.run_id
    assert {run.info.status for run in (root, *islands.values())} == {"FINISHED"}
    history = MlflowClient(uri).get_metric_history(root.info.run_id, "reef/hypervolume")
    assert sorted(point.step for point in history) == list(range(1, len(rows) // 3 + 1))
    files = [file.path for file in MlflowClient(uri).list_artifacts(root.info.run_id)]
    assert files == ["archive.parquet", "fronts.png", "report"]


def test_a_study_is_built_from_its_journal_and_a_second_sync_writes_nothing(study: CommandLine) -> None:
    uri = sqlite_uri(study.store / "mlflow.db")
    result = study("sync", "toy")
    assert result.exit_code == 0, result.stderr
    assert f"MLflow at {uri} has all 36 candidates: 0 were there, 0 completed, 36 new" in result.stdout
    assert "checking what MLflow has: 36 of 36 candidates" in result.stdout
    assert_all_are_there_once(study, uri)
    before = hashlib.sha256((study.store / "mlflow.db").read_bytes()).hexdigest()
    result = study("sync", str(study.store / "toy"))
    assert f"MLflow at {uri} has all 36 candidates: 36 were there, 0 completed, 0 new" in result.stdout
    assert hashlib.sha256((study.store / "mlflow.db").read_bytes()).hexdigest() == before


def test_what_was_interrupted_or_removed_is_completed(study: CommandLine) -> None:
    study("sync", "toy")
    uri = sqlite_uri(study.store / "mlflow.db")
    client, found = MlflowClient(uri), runs(uri)
    client.update_run(found[0].info.run_id, "RUNNING")
    for run in found[1:4]:
        client.delete_run(run.info.run_id)
    client.delete_run(runs(uri, "island")[0].info.run_id)
    assert "32 were there, 1 completed, 3 new" in study("sync", "toy").stdout
    assert_all_are_there_once(study, uri)


def test_a_search_goes_on_where_a_sync_was(study: CommandLine) -> None:
    study("sync", "toy")
    result = study("resume", "toy", "--more", "3", "--in-process")
    assert result.exit_code == 0, result.stderr
    result = study("sync", "toy")
    assert "has all 45 candidates: 36 were there, 0 completed, 9 new" in result.stdout
    assert_all_are_there_once(study, sqlite_uri(study.store / "mlflow.db"))


@pytest.mark.slow
def test_a_study_in_a_bucket_has_its_runs_here(
    archipelago: CommandLine, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archipelago.address = s3
    recipe = archipelago.recipe(TOY, tracking={"enabled": True})
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    uri = sqlite_uri(tmp_path / "studies" / "mlflow.db")
    assert_all_are_there_once(archipelago, uri)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri = sqlite_uri(tmp_path / "elsewhere" / "studies" / "mlflow.db")
    result = archipelago("sync", f"{s3}/toy")
    assert f"MLflow at {uri} has all 36 candidates: 0 were there, 0 completed, 36 new" in result.stdout
    assert_all_are_there_once(archipelago, uri)


def test_what_cannot_be_synced_is_one_sentence(study: CommandLine) -> None:
    wrong: Mapping[str, str] = {
        f"http://127.0.0.1:{free_port()}": "does not answer: start it, or name another one by --tracking-uri",
        "http://me:secret@127.0.0.1:1": "must not hold a password",
        "carrier://pigeon": "does not answer",
    }
    for uri, words in wrong.items():
        result = study("sync", "toy", "--tracking-uri", uri)
        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.stderr
    assert "there is no study other" in study("sync", "other").stderr


def test_a_server_that_was_down_is_caught_up_with(archipelago: CommandLine, tmp_path: Path) -> None:
    port = free_port()
    recipe = archipelago.recipe(TOY, tracking={"uri": f"http://127.0.0.1:{port}"})
    result = archipelago("search", recipe, "--in-process")
    assert result.exit_code == 0, result.stderr
    assert f"sync toy --store {archipelago.store}   # MLflow has missed something" in result.stdout
    with mlflow_servers(sqlite_uri(tmp_path / "server.db"), tmp_path) as start:
        server = start(port)
        result = archipelago("sync", "toy")
        assert "0 were there, 0 completed, 36 new" in result.stdout, result.stderr
        assert_all_are_there_once(archipelago, server.address)
        assert "36 were there, 0 completed, 0 new" in archipelago("sync", "toy").stdout
    result = archipelago("sync", "toy")
    assert result.exit_code == 2
    assert f"MLflow at http://127.0.0.1:{port} does not answer" in result.stderr


def candidates_in(database: Path) -> int:
    """How many runs there are, half-written ones too."""
    if not database.is_file():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            return int(connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are not made yet
            return 0
        finally:
            connection.rollback()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_and_begun_again_nothing_is_there_twice(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TOY, budget={"evaluations_per_island": 60})
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    database = archipelago.store / "mlflow.db"
    for seen in (1, 3, 20, 50, 90, 130):
        program = archipelago.start("sync", "toy")
        wait_until(lambda seen=seen: candidates_in(database) >= seen, program, timeout_s=120)
        program.kill()
        program.communicate()
    result = archipelago("sync", "toy")
    assert result.exit_code == 0, result.stderr
    assert_all_are_there_once(archipelago, sqlite_uri(database))
    assert "180 were there, 0 completed, 0 new" in archipelago("sync", "toy").stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_at_a_time_and_a_server_that_is_killed_between(archipelago: CommandLine, tmp_path: Path) -> None:
    """The second one is refused, or comes after the first; the server is away for some of it."""
    recipe = archipelago.recipe(TOY, budget={"evaluations_per_island": 40})
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    port = free_port()
    with mlflow_servers(sqlite_uri(tmp_path / "server.db"), tmp_path) as start:
        server = start(port)
        programs = [archipelago.start("sync", "toy", "--tracking-uri", server.address) for _ in range(2)]
        wait_until(lambda: candidates_in(tmp_path / "server.db") > 30, programs[0], timeout_s=120)
        server.kill()
        threading.Event().wait(2.0)
        start(port)
        ended = [(program.communicate(timeout=600), program.returncode) for program in programs]
        assert sorted(code for _, code in ended) in ([0, 0], [0, 2])
        for (_, err), code in ended:
            assert code == 0 or "another `archipelago sync` of study toy is under way" in err
        assert "120 were there, 0 completed, 0 new" in (
            archipelago("sync", "toy", "--tracking-uri", server.address).stdout
        )
        assert_all_are_there_once(archipelago, server.address)
