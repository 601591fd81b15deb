"""Tracking that is never in the way: the search puts things into a queue, one thread writes them to MLflow.

Whatever MLflow does, the search's calls return at once. What cannot be written for now is tried again; what MLflow
refuses for good is left out and counted; the journal has it all. One warning says that something is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mlflow.exceptions import MlflowException

from infra.mlflow_runs import Point, StudyRuns
from orchestrator.records import Event

log = logging.getLogger(__name__)

GATHER_S = 2.0
"""Running figures and front tags are gathered for so long and then written at once."""
BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0

REFUSALS = {
    "BAD_REQUEST",
    "CUSTOMER_UNAUTHORIZED",
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
"""Answers of MLflow that will be the same next time."""


class MlflowTracker:
    """A `Tracker` that writes to the MLflow at `uri`; see `StudyRuns` for `artifacts` and `identity`.

    `finish` waits for the writer at most `finish_timeout_s`.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        artifacts: Path | None = None,
        identity: str = "",
        finish_timeout_s: float = 60.0,
    ) -> None:
        self._uri, self._experiment, self._artifacts, self._identity = uri, experiment, artifacts, identity
        self._finish_timeout_s = finish_timeout_s
        self._changed = threading.Condition()
        self._events: deque[tuple[Event, Mapping[str, str], bool]] = deque()
        self._points: list[Point] = []
        self._archive: dict[tuple[str, int], Event] = {}
        self._front: dict[tuple[str, int], bool] = {}
        self._files: dict[str, bytes] = {}
        self._status = ""
        self._given_up = False
        self._refused = 0
        self._warned = False
        self._writer: threading.Thread | None = None

    def start(self, study: str, parameters: Mapping[str, str]) -> None:
        assert self._writer is None, "a tracker is started once"
        given = dict(parameters)

        def open_runs() -> StudyRuns:
            return StudyRuns(
                self._uri,
                self._experiment,
                study,
                given,
                artifacts=self._artifacts,
                identity=self._identity,
            )

        self._writer = threading.Thread(target=self._write, args=(open_runs,), name="mlflow-writer", daemon=True)
        self._writer.start()

    def record(self, event: Event, description: Mapping[str, str], on_front: bool) -> None:
        name = (event.candidate.island, event.candidate.number)
        with self._changed:
            if self._archive.get(name) != event:
                self._events.append((event, dict(description), on_front))
            self._archive[name] = event
            self._front[name] = on_front
            self._changed.notify()

    def progress(self, island: str, evaluated: int, metrics: Mapping[str, float]) -> None:
        with self._changed:
            self._points.append((island, evaluated, dict(metrics)))

    def attach(self, name: str, data: bytes) -> None:
        with self._changed:
            self._files[name] = data

    def finish(self, status: str) -> None:
        if self._writer is None:
            return
        with self._changed:
            self._status = status
            self._changed.notify()
        self._writer.join(self._finish_timeout_s)
        with self._changed:
            self._given_up = True
            self._changed.notify()
            lost = len(self._events) + self._refused
        if lost or self._writer.is_alive():
            log.warning(
                "MLflow at %s is not up to date: %d of %d candidates were not written; the journal has them",
                self._uri,
                lost,
                len(self._archive),
            )
        self._writer = None

    def _write(self, open_runs: Callable[[], StudyRuns]) -> None:
        """The writer's life: opens the runs, writes what comes, and at the end what was gathered."""
        opened: list[StudyRuns] = []
        if not self._insist(lambda: opened.append(open_runs()), "open the study's runs"):
            return
        runs, gathered_s = opened[0], time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._status or self._given_up, GATHER_S)
                entry = self._events[0] if self._events else None
                ending = bool(self._status)
            if self._given_up:
                return
            if entry is not None:
                candidate = entry[0].candidate
                if not self._insist(partial(runs.write, *entry), f"write {candidate.island}/{candidate.number}"):
                    if self._given_up:
                        return
                    self._refused += 1
                with self._changed:
                    self._events.popleft()
            elif ending:
                break
            if time.monotonic() - gathered_s > GATHER_S:
                self._write_gathered(runs)
                gathered_s = time.monotonic()
        self._write_gathered(runs)
        self._insist(lambda: runs.write_archive(self._archive.values(), self._front), "write the archive")
        for name, data in self._files.items():
            self._insist(partial(runs.write_file, name, data), f"write {name}")
        self._insist(lambda: runs.close(self._status), "close the study's runs")

    def _write_gathered(self, runs: StudyRuns) -> None:
        with self._changed:
            points, self._points = self._points, []
            waiting = {(event.candidate.island, event.candidate.number) for event, _, _ in self._events}
            front = {name: now for name, now in self._front.items() if name not in waiting}
        self._insist(lambda: runs.write_progress(points), "write running figures")
        self._insist(lambda: runs.write_front(front), "write who is on the front")

    def _insist(self, write: Callable[[], None], what: str) -> bool:
        """Whether it could be written; tries again for as long as MLflow does not answer and nobody gives up."""
        backoff_s = BACKOFF_S
        while not self._given_up:
            try:
                write()
                return True
            except Exception as error:
                if not _may_pass(error):
                    self._warn(what, error, "it is left out")
                    return False
                self._warn(what, error, "trying again beside the search")
            with self._changed:
                self._changed.wait_for(lambda: self._given_up, backoff_s)
            backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
        return False

    def _warn(self, what: str, error: Exception, consequence: str) -> None:
        words = " ".join(str(error).split())[:300]
        level = logging.DEBUG if self._warned else logging.WARNING
        log.log(level, "MLflow at %s could not %s: %s; %s", self._uri, what, words, consequence)
        self._warned = True


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, busy or broken, and has not refused."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, OSError)
