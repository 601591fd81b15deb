"""A study as MLflow shows it: a run for the study, below it one per island, below those one per candidate.

Every method does its work before it returns and may be repeated: what is there already is found, not made again.
`infra.mlflow_tracker` calls all of this from one thread, beside the search.
"""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.records import Event, Failure, Measurement

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

for noisy in ("mlflow", "alembic", "urllib3.connectionpool"):
    logging.getLogger(noisy).setLevel(logging.ERROR)

PARENT = "mlflow.parentRunId"
STUDY = "archipelago.study"
ROOT = "archipelago.root"
"""The id of the study's run, on every run below it."""
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show the experiment as training runs rather than as traces of language models."""
ON_FRONT = "on_front"
BATCH_PARAMS, BATCH_METRICS = 100, 1000
"""What MLflow takes in one call."""
PARAM_CHARS, TAG_CHARS = 6000, 8000

Point = tuple[str, int, Mapping[str, float]]
"""An island's running figures: its name, how many candidates were evaluated, metrics by name."""


@dataclass
class _CandidateRun:
    """What MLflow has of a candidate."""

    run_id: str
    architecture_id: str
    written: bool
    on_front: bool


class StudyRuns:
    """The runs of one study, opened or found.

    `artifacts`: where the experiment keeps files if it is made now; None: where the server wants them.
    `identity`: tells this study from an earlier one of the same name, whose runs it leaves alone.

    Raises:
        MlflowException: MLflow cannot be reached or refuses.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        study: str,
        parameters: Mapping[str, str],
        *,
        artifacts: Path | None = None,
        identity: str = "",
    ) -> None:
        self._client = MlflowClient(uri)
        found = self._client.get_experiment_by_name(experiment)
        location = None if artifacts is None else artifacts.absolute().as_uri()
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(experiment, location, EXPERIMENT_TAGS)
        )
        self._islands: dict[str, str] = {}
        self._candidates: dict[tuple[str, int], _CandidateRun] = {}
        self._steps: dict[tuple[str, str], int] = {}
        names = {STUDY: study, "archipelago.identity": identity}
        runs = self._search({**names, "level": "study"})
        if runs:
            self._root = runs[0].info.run_id
            self._reopen(runs[0])
        else:
            self._root = self._create(study, {**names, "level": "study"})
        known = runs[0].data.params if runs else {}
        fresh = [Param(_key(name), str(value)[:PARAM_CHARS]) for name, value in parameters.items()]
        fresh = [param for param in fresh if param.key not in known]
        for start in range(0, len(fresh), BATCH_PARAMS):
            self._client.log_batch(self._root, params=fresh[start : start + BATCH_PARAMS])

    def write(self, event: Event, description: Mapping[str, str], on_front: bool) -> None:
        """The candidate's run, with everything that is known of it; nothing if it is there."""
        candidate, result = event.candidate, event.result
        run = self._candidates.get((candidate.island, candidate.number))
        if run and run.written and run.architecture_id == candidate.architecture_id:
            return
        if run is None or run.written:
            run = self._create_candidate(event, on_front)
            self._candidates[candidate.island, candidate.number] = run
        now_ms = _now_ms()
        params = [Param(_key(name), value[:PARAM_CHARS]) for name, value in description.items()]
        metrics = [
            Metric(_key(name), value, now_ms, 0)
            for name, value in (result.metrics.items() if isinstance(result, Measurement) else ())
            if math.isfinite(value)
        ]
        self._client.log_batch(run.run_id, metrics[:BATCH_METRICS], params[:BATCH_PARAMS])
        self._client.set_terminated(run.run_id, "FINISHED" if isinstance(result, Measurement) else "FAILED")
        run.written = True

    def write_front(self, on_front: Mapping[tuple[str, int], bool]) -> None:
        """Corrects the tag of every candidate that has come to the front, or left it, since it was written."""
        for name, now in on_front.items():
            run = self._candidates.get(name)
            if run and run.on_front != now:
                self._client.set_tag(run.run_id, ON_FRONT, str(now).lower())
                run.on_front = now

    def write_progress(self, points: Sequence[Point]) -> None:
        """Step metrics over the number of candidates: on the study's run with the island's name, on the island's."""
        now_ms = _now_ms()
        by_run: dict[str, list[Metric]] = {}
        for island, evaluated, metrics in points:
            for run_id, before in ((self._root, f"{island}/"), (self._island(island), "")):
                for name, value in metrics.items():
                    key = _key(before + name)
                    if math.isfinite(value) and evaluated > self._steps.get((run_id, key), -1):
                        by_run.setdefault(run_id, []).append(Metric(key, value, now_ms, evaluated))
        for run_id, figures in by_run.items():
            for start in range(0, len(figures), BATCH_METRICS):
                batch = figures[start : start + BATCH_METRICS]
                self._client.log_batch(run_id, batch)
                self._steps.update({(run_id, figure.key): figure.step for figure in batch})

    def write_archive(self, events: Iterable[Event], on_front: Mapping[tuple[str, int], bool]) -> None:
        """All candidates as one Parquet table, `archive.parquet` of the study's run."""
        rows = [_row(event, on_front.get((event.candidate.island, event.candidate.number), False)) for event in events]
        columns = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: [row.get(name) for row in rows] for name in columns})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.write_file("archive.parquet", sink.getvalue().to_pybytes())

    def write_file(self, name: str, data: bytes) -> None:
        """An artifact of the study's run; `name` may lead into a folder."""
        below, _, last = name.rpartition("/")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, last)
            path.write_bytes(data)
            self._client.log_artifact(self._root, str(path), below or None)

    def close(self, status: str) -> None:
        """Marks the study's run and its islands' as ended."""
        for run_id in (*self._islands.values(), self._root):
            self._client.set_terminated(run_id, status)

    def _reopen(self, root: Run) -> None:
        """Finds what an earlier session has written."""
        self._client.update_run(self._root, "RUNNING")
        below = self._search({ROOT: self._root})
        for run in below:
            tags = run.data.tags
            if tags.get("level") == "island":
                self._islands.setdefault(tags["island"], run.info.run_id)
                self._client.update_run(run.info.run_id, "RUNNING")
            else:
                written, on_front = run.info.status != "RUNNING", tags.get(ON_FRONT) == "true"
                found = _CandidateRun(run.info.run_id, tags["arch_id"], written, on_front)
                self._candidates.setdefault((tags["island"], int(tags["number"])), found)
        for run in [root, *(run for run in below if run.data.tags.get("level") == "island")]:
            for key in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, key)
                self._steps[run.info.run_id, key] = max(metric.step for metric in history)

    def _search(self, tags: Mapping[str, str]) -> list[Run]:
        """All runs with these tags, the newest first."""
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], wanted, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _create(self, name: str, tags: Mapping[str, str], start_ms: int | None = None) -> str:
        short = {key: value[:TAG_CHARS] for key, value in tags.items()}
        return str(self._client.create_run(self._experiment, start_ms or _now_ms(), short, name).info.run_id)

    def _island(self, island: str) -> str:
        if island not in self._islands:
            tags = {PARENT: self._root, ROOT: self._root, "level": "island", "island": island}
            self._islands[island] = self._create(island, tags)
        return self._islands[island]

    def _create_candidate(self, event: Event, on_front: bool) -> _CandidateRun:
        candidate, result = event.candidate, event.result
        tags = {
            PARENT: self._island(candidate.island),
            ROOT: self._root,
            "level": "candidate",
            "island": candidate.island,
            "number": str(candidate.number),
            "arch_id": candidate.architecture_id,
            "status": event.status,
            ON_FRONT: str(on_front).lower(),
        }
        took_s = 0.0
        if isinstance(result, Failure):
            tags["failure"] = f"{result.kind}: {result.message}"
            if result.traceback:
                tags["mlflow.note.content"] = f"```\n{result.traceback[-TAG_CHARS + 10 :]}\n```"
        else:
            tags |= {"worker": result.worker, "source": result.source.value}
            took_s = sum(result.timings_s.values())
        name = f"{candidate.island}/{candidate.number:04d}"
        run_id = self._create(name, tags, _now_ms() - round(1000 * took_s))
        return _CandidateRun(run_id, candidate.architecture_id, written=False, on_front=on_front)


def _row(event: Event, on_front: bool) -> dict[str, str | int | bool | float]:
    candidate, result = event.candidate, event.result
    row: dict[str, str | int | bool | float] = {
        "island": candidate.island,
        "number": candidate.number,
        "arch_id": candidate.architecture_id,
        "status": event.status,
        ON_FRONT: on_front,
    }
    return row | (dict(result.metrics) if isinstance(result, Measurement) else {"failure": result.message})


def _key(name: str) -> str:
    """The name with nothing in it that MLflow forbids."""
    return re.sub(r"[^\w\-. :/]", "_", name).strip("/.")[:250]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
