"""A study as MLflow shows it: a run for the study, below it one per island, below those one per candidate.

Every method does its work before it returns and may be repeated: what is there already is found, not made again, and
what was left half-written is completed. `infra.mlflow_tracker` calls all of this beside the search.
"""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.mlflow_client import Metric, MlflowClient, MlflowException, Param
from infra.mlflow_found import (
    IDENTITY,
    LEVEL,
    ON_FRONT,
    PARENT,
    ROOT,
    STUDY,
    CandidateRun,
    Name,
    by_age,
    find,
    search,
)
from orchestrator.records import Event, Failure, Measurement

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show the experiment as training runs rather than as traces of language models."""
DIGEST = "archipelago.sha256."
"""What the tag on the study's run is called, before the name of the artifact whose hash it holds."""
RUNNING = "RUNNING"
BATCH_PARAMS, BATCH_METRICS, BATCH = 100, 900, 1000
"""What MLflow takes in one call."""
PARAM_CHARS, TAG_CHARS = 6000, 8000

Point = tuple[str, int, Mapping[str, float]]
"""An island's running figures: its name, how many candidates were evaluated, metrics by name."""


class Written(StrEnum):
    """What had to be done for a candidate."""

    THERE = "there"
    COMPLETED = "completed"
    NEW = "new"


def ping(uri: str) -> None:
    """Asks MLflow for anything.

    Raises:
        Exception: it does not answer, or is no MLflow.
    """
    MlflowClient(uri).search_experiments(max_results=1)


class StudyRuns:
    """The runs of one study, opened or found. `write` and `write_front` may be called by several threads.

    `artifacts`: where the experiment keeps files if it is made now; None: where the server wants them.
    `identity`: tells this study from an earlier one of the same name, whose runs it leaves alone.
    `live`: whether the study is searched meanwhile, and shown so.

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
        live: bool = True,
    ) -> None:
        self.writes = 0
        """Calls that changed something."""
        self.doubtful = False
        """Whether a run may be there that nobody heard of."""
        self._client, self._live, self._lock = MlflowClient(uri), live, threading.Lock()
        self._doubtful: set[str] = set()
        """Names of runs that were asked for, and nobody knows whether they were made."""
        self._experiment = self._open_experiment(experiment, artifacts)
        names = {STUDY: study, IDENTITY: identity, LEVEL: "study"}
        found = find(self._client, self._experiment, names)
        for run_id in found.superfluous:
            self._writer.delete_run(run_id)
        self.removed = len(found.superfluous)
        self._islands, self._candidates = found.islands, found.candidates
        self._steps, self._statuses = found.steps, found.statuses
        known, self._digests = ({}, {}) if found.root is None else (found.root.data.params, found.root.data.tags)
        self._root = self._create_first(study, names) if found.root is None else found.root.info.run_id
        for run_id in (self._root, *self._islands.values()) if live else ():
            self._set_status(run_id, RUNNING)
        fresh = {_key(name): str(value)[:PARAM_CHARS] for name, value in parameters.items() if _key(name) not in known}
        missing = [Param(name, value) for name, value in fresh.items()]
        for start in range(0, len(missing), BATCH_PARAMS):
            self._writer.log_batch(self._root, params=missing[start : start + BATCH_PARAMS])

    def write(self, event: Event, description: Mapping[str, str], on_front: bool) -> Written:
        """Makes the candidate's run say all that is known of it; says what that took."""
        candidate, result = event.candidate, event.result
        name, parent = (candidate.island, candidate.number), self._island(candidate.island)
        values = result.metrics if isinstance(result, Measurement) else {}
        metrics = {_key(name): value for name, value in values.items() if math.isfinite(value)}
        status = "FINISHED" if isinstance(result, Measurement) else "FAILED"
        run = self._candidates.get(name)
        if run and run.contradicts(candidate.architecture_id, event.status, metrics):
            # of a journal that was cut since, and of what came in its place
            self._writer.delete_run(run.run_id)
            del self._candidates[name]
            run = None
        if run and run.parent != parent:
            self._writer.set_tag(run.run_id, PARENT, parent)
            run.parent = parent
        if run and run.status == status and metrics.keys() <= run.metrics.keys():
            return Written.THERE
        if run is None:
            run = self._candidates[name] = self._create_candidate(event, parent, on_front)
        params = [Param(*one) for one in {_key(key): value[:PARAM_CHARS] for key, value in description.items()}.items()]
        # at the time when the run began: a second writer's points are the same ones
        points = [Metric(key, value, run.start_ms, 0) for key, value in metrics.items()]
        self._writer.log_batch(run.run_id, points[:BATCH_METRICS], params[:BATCH_PARAMS])
        self._writer.set_terminated(run.run_id, status)
        run.status, run.metrics = status, metrics
        return Written.NEW if run.fresh else Written.COMPLETED

    def wrong_fronts(self, on_front: Mapping[Name, bool]) -> list[Name]:
        """Those whose run says something else of them."""
        return [name for name, now in on_front.items() if (run := self._candidates.get(name)) and run.on_front != now]

    def write_front(self, name: Name, on_front: bool) -> None:
        """Corrects whether a candidate is on the front."""
        run = self._candidates[name]
        self._writer.set_tag(run.run_id, ON_FRONT, str(on_front).lower())
        run.on_front = on_front

    def look_again(self, name: Name) -> bool:
        """Whether the candidate's run is another one now: another writer has made one too, and removed ours."""
        known = self._candidates.pop(name, None)
        found = search(self._client, self._experiment, self._tags(*name))
        if found:
            self._candidates[name] = CandidateRun.of(by_age(found)[0])
        now = self._candidates.get(name)
        return known is not None and (now is None or now.run_id != known.run_id)

    def write_progress(self, points: Sequence[Point]) -> None:
        """Step metrics over the number of candidates: on the study's run with the island's name, on the island's."""
        now_ms = _now_ms()
        by_run: dict[str, list[Metric]] = {}
        for island, evaluated, metrics in points:
            for run_id, before in ((self._root, f"{island}/"), (self._island(island), "")):
                for name, value in metrics.items():
                    key = _key(before + name)
                    if math.isfinite(value) and evaluated not in self._steps.get((run_id, key), ()):
                        figures = by_run.setdefault(run_id, [])
                        figures.append(Metric(key, value, now_ms if self._live else evaluated, evaluated))
        for run_id, figures in by_run.items():
            for start in range(0, len(figures), BATCH):
                batch = figures[start : start + BATCH]
                self._writer.log_batch(run_id, batch)
                for figure in batch:
                    self._steps.setdefault((run_id, figure.key), set()).add(figure.step)

    def write_archive(self, events: Iterable[Event], on_front: Mapping[Name, bool]) -> None:
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
        tag, digest = DIGEST + name, hashlib.sha256(data).hexdigest()
        if self._digests.get(tag) == digest:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, last)
            path.write_bytes(data)
            self._writer.log_artifact(self._root, str(path), below or None)
        self._writer.set_tag(self._root, tag, digest)

    def close(self, status: str) -> None:
        """Marks the study's run and its islands' with how the study stands."""
        for run_id in (*self._islands.values(), self._root):
            self._set_status(run_id, status)

    @property
    def _writer(self) -> MlflowClient:
        """The client, for a call that changes something."""
        self.writes += 1
        return self._client

    def _open_experiment(self, name: str, artifacts: Path | None) -> str:
        location = None if artifacts is None else artifacts.absolute().as_uri()
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._writer.create_experiment(name, location, EXPERIMENT_TAGS))
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise error
        return str(found.experiment_id)

    def _set_status(self, run_id: str, status: str) -> None:
        if self._statuses.get(run_id) == status:
            return
        if status == RUNNING:
            self._writer.update_run(run_id, RUNNING)
        else:
            self._writer.set_terminated(run_id, status)
        self._statuses[run_id] = status

    def _create(self, name: str, tags: Mapping[str, str], more: Mapping[str, str], start_ms: int) -> tuple[str, int]:
        """Id and start of a run that is known by `tags`: of a new one, or of one whose making nobody heard of."""
        if name in self._doubtful and (found := search(self._client, self._experiment, tags)):
            first = by_age(found)[0]
            self._doubtful.discard(name)
            return first.info.run_id, first.info.start_time
        self._doubtful.add(name)
        short = {key: value[:TAG_CHARS] for key, value in {**tags, **more}.items()}
        try:
            run = self._writer.create_run(self._experiment, start_ms, short, name)
        except Exception:
            self.doubtful = True
            raise
        self._doubtful.discard(name)
        return run.info.run_id, start_ms

    def _create_first(self, name: str, tags: Mapping[str, str], more: Mapping[str, str] | None = None) -> str:
        """Id of a run that others will be below: where two writers make one at the same time, one of them yields."""
        mine, _ = self._create(name, tags, more or {}, _now_ms())
        self._doubtful.add(name)
        first = str(by_age(search(self._client, self._experiment, tags))[0].info.run_id)
        if first != mine:
            self._writer.delete_run(mine)
        self._doubtful.discard(name)
        self._statuses[first] = RUNNING
        return first

    def _island(self, island: str) -> str:
        with self._lock:
            if island not in self._islands:
                tags = {ROOT: self._root, LEVEL: "island", "island": island}
                self._islands[island] = self._create_first(island, tags, {PARENT: self._root})
            return self._islands[island]

    def _tags(self, island: str, number: int) -> dict[str, str]:
        return {ROOT: self._root, LEVEL: "candidate", "island": island, "number": str(number)}

    def _create_candidate(self, event: Event, parent: str, on_front: bool) -> CandidateRun:
        candidate, result = event.candidate, event.result
        tags = {
            PARENT: parent,
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
        identity = self._tags(candidate.island, candidate.number)
        run_id, start_ms = self._create(name, identity, tags, _now_ms() - round(1000 * took_s))
        arch_id = candidate.architecture_id
        return CandidateRun(run_id, start_ms, parent, arch_id, event.status, on_front, RUNNING, {}, fresh=True)


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
