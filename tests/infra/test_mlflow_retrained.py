"""A run for each training, below its candidate, once; also after one that was left half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.mlflow_client import MlflowClient
from infra.mlflow_retrained import write_retrained
from infra.mlflow_runs import StudyRuns
from orchestrator.records import Candidate, Event, Measurement
from orchestrator.retraining import Retrained, Trial


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def result(seed: int = 0, architecture: str = "abc", failure: str = "") -> Retrained:
    trial = Trial("one", {"ops": [1]}, architecture, seed, {"steps": 20, "drop_path": 0.2}, "here")
    metrics = {} if failure else {"miou": 0.5, "iou/Sky": 0.75}
    return Retrained(trial, metrics, "w" * 64, failure, [(10, 2.0), (20, 1.0)], 3.5)


def runs(uri: str) -> dict[str, list[str]]:
    """Parents' run ids by the level of the run."""
    client = MlflowClient(uri)
    found: dict[str, list[str]] = {}
    for run in client.search_runs([client.get_experiment_by_name("study").experiment_id]):
        found.setdefault(run.data.tags["level"], []).append(run.data.tags.get("mlflow.parentRunId", ""))
    return found


@pytest.fixture
def tracked(uri: str, tmp_path: Path) -> str:
    study = StudyRuns(uri, "study", "study", {}, artifacts=tmp_path / "artifacts", identity="me")
    study.write(Event(Candidate("one", 3, (1,), "abc"), Measurement({"miou": 0.4})), {}, True)
    study.close("FINISHED")
    return uri


def test_each_training_is_a_run_below_its_candidate_once(tracked: str) -> None:
    results = [result(0), result(1), result(0, "elsewhere")]
    assert write_retrained(tracked, "study", "study", "me", results) == 3
    assert write_retrained(tracked, "study", "study", "me", results) == 0
    client = MlflowClient(tracked)
    experiment = client.get_experiment_by_name("study").experiment_id
    (root,) = client.search_runs([experiment], "tags.level = 'study'")
    (candidate,) = client.search_runs([experiment], "tags.level = 'candidate'")
    found = client.search_runs([experiment], "tags.level = 'retraining'")
    parents = sorted(run.data.tags["mlflow.parentRunId"] for run in found)
    assert parents == sorted([candidate.info.run_id, candidate.info.run_id, root.info.run_id])
    first = next(run for run in found if run.data.params["seed"] == "1")
    assert first.info.status == "FINISHED"
    assert first.data.metrics["iou/Sky"] == 0.75
    assert [(one.step, one.value) for one in client.get_metric_history(first.info.run_id, "training_loss")] == [
        (10, 2.0),
        (20, 1.0),
    ]


def test_a_half_written_run_is_completed(tracked: str) -> None:
    write_retrained(tracked, "study", "study", "me", [result()])
    client = MlflowClient(tracked)
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id], "tags.level = 'retraining'")
    client.update_run(run.info.run_id, "RUNNING")
    assert write_retrained(tracked, "study", "study", "me", [result()]) == 1
    assert len(runs(tracked)["retraining"]) == 1


def test_a_training_that_failed_says_why(tracked: str) -> None:
    write_retrained(tracked, "study", "study", "me", [result(failure="it diverged")])
    client = MlflowClient(tracked)
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id], "tags.level = 'retraining'")
    assert (run.info.status, run.data.tags["failure"]) == ("FAILED", "it diverged")


def test_the_search_goes_on_as_if_they_were_not_there(tracked: str, tmp_path: Path) -> None:
    write_retrained(tracked, "study", "study", "me", [result()])
    study = StudyRuns(tracked, "study", "study", {}, artifacts=tmp_path / "artifacts", identity="me")
    assert study.removed == 0
    assert {level: len(found) for level, found in runs(tracked).items()} == {
        "study": 1,
        "island": 1,
        "candidate": 1,
        "retraining": 1,
    }


@pytest.mark.parametrize("experiment", ["study", "nobody's"])
def test_without_the_studys_run_nothing_is_written(uri: str, experiment: str) -> None:
    MlflowClient(uri).create_experiment("study")
    assert write_retrained(uri, experiment, "study", "me", [result()]) == 0
