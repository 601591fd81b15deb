"""Tracking on a real SQLite file and on a real MLflow server."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from infra.mlflow_tracker import MlflowTracker
from infra.mlflow_ui import sqlite_uri
from orchestrator.records import Event, Failure, FailureKind, Measurement, Result
from tests.fault_proxy import Fault, fault_proxy
from tests.infra.evaluators import candidate
from tests.mlflow_server import MlflowServer, free_port, mlflow_servers

pytestmark = pytest.mark.usefixtures("environment")

ISLANDS = ("branches-1", "branches-2")
PARAMETERS = {"seed": "0", "space": "toy", **{f"recipe/{number}": "x" * number for number in range(150)}}


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory, environment: None) -> Path:
    """A SQLite file with MLflow's tables and nothing in them: to make them takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(sqlite_uri(file)).search_experiments()
    return file


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return sqlite_uri(tmp_path / "mlflow.db")


def event(island: str, number: int, result: Result | None = None) -> Event:
    good = Measurement({"miou": number / 100, "macs": 1e9, "iou/Sky": 0.5}, {"score": 2.0}, "cpu worker-0")
    return Event(candidate(number, island=island), result or good)


def track(tracker: MlflowTracker, events: list[tuple[Event, bool]], status: str = "FINISHED") -> None:
    """A whole session: as a search would call it."""
    tracker.start("study-1", PARAMETERS)
    for told, on_front in events:
        island, number = told.candidate.island, told.candidate.number
        tracker.record(told, {"depth": "7", "widths": "4 6 8"}, on_front)
        tracker.progress(island, number + 1, {"hypervolume": 0.1 * number, "best_miou": number / 100})
    tracker.finish(status)


def runs(uri: str, level: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("streets")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.level = '{level}'", max_results=1000)
    return sorted(found, key=lambda run: run.info.run_name)


def steps(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, key)]


def test_a_study_is_three_levels_of_runs(uri: str, tmp_path: Path) -> None:
    events = [(event(island, number), number == 2) for number in range(3) for island in ISLANDS]
    track(MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts"), events)
    (root,) = runs(uri, "study")
    assert root.info.run_name == "study-1"
    assert root.info.status == "FINISHED"
    assert root.data.params == PARAMETERS
    islands = runs(uri, "island")
    assert [run.info.run_name for run in islands] == list(ISLANDS)
    assert {run.data.tags["mlflow.parentRunId"] for run in islands} == {root.info.run_id}
    candidates = runs(uri, "candidate")
    assert [run.info.run_name for run in candidates] == [f"{island}/{n:04d}" for island in ISLANDS for n in range(3)]
    last = candidates[-1]
    assert last.info.status == "FINISHED"
    assert last.info.end_time - last.info.start_time == pytest.approx(2000, abs=500)
    assert last.data.params == {"depth": "7", "widths": "4 6 8"}
    assert last.data.metrics == {"miou": 0.02, "macs": 1e9, "iou/Sky": 0.5}
    tags = {
        "number": "2",
        "arch_id": f"{2:016x}",
        "worker": "cpu worker-0",
        "source": "worker",
        "status": "measured",
        "on_front": "true",
    }
    assert tags.items() <= last.data.tags.items()
    assert last.data.tags["mlflow.parentRunId"] == islands[1].info.run_id
    curve = [(1, 0.0), (2, 0.1), (3, 0.2)]
    assert steps(uri, root, "branches-2/hypervolume") == steps(uri, islands[1], "hypervolume") == curve
    archive = pq.read_table(tmp_path / "artifacts" / root.info.run_id / "artifacts" / "archive.parquet").to_pylist()
    assert [(row["island"], row["number"], row["on_front"]) for row in archive] == [
        (told.candidate.island, told.candidate.number, on_front) for told, on_front in events
    ]


def test_a_failed_candidate_says_why_and_what_is_not_finite_is_left_out(uri: str, tmp_path: Path) -> None:
    failed = event("branches-1", 0, Failure(FailureKind.EVALUATION, "divides by zero", "Traceback: here"))
    odd = event("branches-1", 1, Measurement({"miou": 0.5, "ece": math.nan, "psnr": math.inf, "a(b)%": 1.0}))
    tracker = MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts")
    tracker.start("study-1", {})
    tracker.record(failed, {}, False)
    tracker.record(odd, {}, True)
    tracker.progress("branches-1", 1, {"hypervolume": math.nan, "best_miou": -math.inf, "failed": 1.0})
    tracker.finish("KILLED")
    first, second = runs(uri, "candidate")
    assert first.info.status == "FAILED"
    assert first.data.tags["status"] == "failed"
    assert first.data.tags["failure"] == "evaluation: divides by zero"
    assert "Traceback: here" in first.data.tags["mlflow.note.content"]
    assert second.data.metrics == {"miou": 0.5, "a_b__": 1.0}
    (root,) = runs(uri, "study")
    assert root.info.status == "KILLED"
    assert root.data.metrics == {"branches-1/failed": 1.0}


def test_a_second_session_adds_only_what_is_new(uri: str, tmp_path: Path) -> None:
    def tracker() -> MlflowTracker:
        return MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts", identity="first")

    events = [(event("branches-1", number), True) for number in range(4)]
    track(tracker(), events[:3], "KILLED")
    client = MlflowClient(uri)
    torn = runs(uri, "candidate")[1]
    client.update_run(torn.info.run_id, "RUNNING")  # what a session leaves that is killed inside a candidate
    track(tracker(), [*events, (events[0][0], False), (events[3][0], False)])
    found = runs(uri, "candidate")
    assert [run.data.tags["number"] for run in found] == ["0", "1", "2", "3"]
    assert {run.info.status for run in found} == {"FINISHED"}
    assert [run.data.tags["on_front"] for run in found] == ["false", "true", "true", "false"]
    (root,) = runs(uri, "study")
    assert root.info.status == "FINISHED"
    assert [step for step, _ in steps(uri, root, "branches-1/hypervolume")] == [1, 2, 3, 4]
    other = MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts", identity="made anew")
    track(other, events[:1])
    assert len(runs(uri, "study")) == 2, "a study that was deleted and made anew is another study"
    assert len(runs(uri, "candidate")) == 5


def test_what_mlflow_refuses_is_left_out_and_counted(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts")
    tracker.start("study-1", {})
    tracker.record(event("branches-1", 0), {"": "a parameter without a name"}, False)
    tracker.record(event("branches-1", 1), {}, True)
    tracker.finish("FINISHED")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "could not write branches-1/0: " in caplog.text
    assert "1 of 2 candidates were not written" in caplog.text
    assert [run.data.metrics for run in runs(uri, "candidate")][1]["miou"] == 0.01


PROGRAM = """
import sys
from pathlib import Path
from infra.mlflow_tracker import MlflowTracker
from infra.mlflow_ui import sqlite_uri
folder = Path(sys.argv[1])
tracker = MlflowTracker(sqlite_uri(folder / "mlflow.db"), "streets", artifacts=folder / "artifacts")
tracker.start("study-1", {"seed": "0"})
tracker.finish("FINISHED")
"""


def test_a_fresh_file_is_made_in_silence_and_in_its_folder(tmp_path: Path, outside: dict[str, str]) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "store").mkdir()
    variables = {**outside, "PYTHONPATH": os.getcwd()}
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "store")]
    ended = subprocess.run(
        arguments, cwd=tmp_path / "here", env=variables, capture_output=True, text=True, timeout=100, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list((tmp_path / "here").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["artifacts", "mlflow.db"]


@pytest.fixture
def serve(environment: None, uri: str, tmp_path: Path) -> Iterator[Callable[[int], MlflowServer]]:
    """Starts a tracking server on a port."""
    with mlflow_servers(uri, tmp_path) as start:
        yield start


def test_a_server_that_comes_late_is_caught_up_with(
    serve: Callable[[int], MlflowServer], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    tracker = MlflowTracker(address, "streets")
    tracker.start("study-1", PARAMETERS)
    begin = time.monotonic()
    for number in range(10):
        tracker.record(event("branches-1", number), {"depth": "7"}, number > 5)
        tracker.progress("branches-1", number + 1, {"hypervolume": 1.0})
    assert time.monotonic() - begin < 0.1
    serve(port)
    tracker.finish("FINISHED")
    assert len(runs(address, "candidate")) == 10
    assert [run.info.status for run in runs(address, "study")] == ["FINISHED"]
    (root,) = runs(address, "study")
    assert [file.path for file in MlflowClient(address).list_artifacts(root.info.run_id)] == ["archive.parquet"]
    again = MlflowTracker(address, "streets")
    again.start("study-1", PARAMETERS)
    again.record(replace(event("branches-1", 10)), {}, True)
    again.finish("FINISHED")
    assert len(runs(address, "candidate")) == 11
    assert len(runs(address, "study")) == 1
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) <= 1


def test_a_server_that_never_answers_costs_a_bounded_wait_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    tracker = MlflowTracker(f"http://127.0.0.1:{free_port()}", "streets", finish_timeout_s=2.0)
    begin = time.monotonic()
    track(tracker, [(event("branches-1", number), False) for number in range(5)])
    assert time.monotonic() - begin < 4
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "is not up to date: 5 of 5 candidates were not written; the journal has them" in messages[-1]
    assert len(messages) <= 2
    tracker.finish("FINISHED")


def test_a_server_that_is_restarted_in_the_middle_leaves_no_gap(serve: Callable[[int], MlflowServer]) -> None:
    port = free_port()
    server = serve(port)
    tracker = MlflowTracker(server.address, "streets")
    tracker.start("study-1", PARAMETERS)
    for number in range(12):
        if number == 4:
            server.kill()
        if number == 8:
            serve(port)
        tracker.record(event("branches-1", number), {"depth": "7"}, number > 5)
        tracker.progress("branches-1", number + 1, {"hypervolume": 1.0})
        time.sleep(0.05)
    tracker.finish("FINISHED")
    assert tracker.complete
    found = runs(server.address, "candidate")
    assert [run.data.tags["number"] for run in found] == [str(number) for number in range(12)]
    assert {run.info.status for run in found} == {"FINISHED"}
    (root,) = runs(server.address, "study")
    assert [step for step, _ in steps(server.address, root, "branches-1/hypervolume")] == list(range(1, 13))


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.ERROR_500])
def test_a_request_whose_reply_is_lost_makes_no_second_run(serve: Callable[[int], MlflowServer], fault: Fault) -> None:
    server = serve(free_port())
    events = [(event("branches-1", number), number == 3) for number in range(6)]
    with fault_proxy(server.address) as proxy:
        makings: list[int] = []

        def every_second_making(index: int) -> bool:
            if proxy.requests[index].endswith("/runs/create"):
                makings.append(index)
            return makings[-1:] == [index] and len(makings) % 2 == 1

        proxy.spoil(fault, every_second_making)
        tracker = MlflowTracker(proxy.endpoint, "streets", patience_s=120, away_s=120, finish_timeout_s=240)
        track(tracker, events)
    assert tracker.complete
    # six candidates, an island, the study: what was made although the reply was lost is not asked for again
    assert (len(makings) == 8) == (fault is Fault.DROP_AFTER)
    assert len(runs(server.address, "study")) == len(runs(server.address, "island")) == 1
    found = runs(server.address, "candidate")
    assert [run.data.tags["number"] for run in found] == [str(number) for number in range(6)]
    assert {run.info.status for run in found} == {"FINISHED"}


def test_what_is_there_twice_is_removed_and_what_contradicts_is_made_anew(uri: str, tmp_path: Path) -> None:
    def tracker() -> MlflowTracker:
        return MlflowTracker(uri, "streets", artifacts=tmp_path / "artifacts")

    track(tracker(), [(event("branches-1", number), True) for number in range(3)])
    client, (root,), (island,) = MlflowClient(uri), runs(uri, "study"), runs(uri, "island")
    for run in (root, island, runs(uri, "candidate")[1]):  # as two writers leave it that know nothing of each other
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        client.create_run(run.info.experiment_id, tags=tags, run_name=run.info.run_name)
    client.log_metric(runs(uri, "candidate")[0].info.run_id, "added by hand", 1.0)
    other = event("branches-1", 2, Measurement({"miou": 0.9}))
    again = tracker()
    track(again, [(event("branches-1", 0), True), (event("branches-1", 1), True), (other, True)])
    assert (again.tally.there, again.tally.completed, again.tally.new, again.tally.removed) == (2, 0, 1, 3)
    assert [run.info.run_id for run in runs(uri, "study")] == [root.info.run_id]
    assert [run.info.run_id for run in runs(uri, "island")] == [island.info.run_id]
    found = runs(uri, "candidate")
    assert [run.data.metrics["miou"] for run in found] == [0.0, 0.01, 0.9]
    assert found[0].data.metrics["added by hand"] == 1.0
