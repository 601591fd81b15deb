"""Tracking that is never in the way: the search puts things into a queue, a thread writes them to MLflow.

Whatever MLflow does, the search's calls return at once. What cannot be written for now is tried again; what MLflow
refuses for good is left out and counted; the journal has it all. One warning says that something is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from infra.mlflow_client import MlflowException
from infra.mlflow_found import Name
from infra.mlflow_runs import Point, StudyRuns, Written
from orchestrator.records import Event

log = logging.getLogger(__name__)

GATHER_S = 2.0
"""Running figures and front tags are gathered for so long and then written at once."""
BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
WATCH_S = 0.2
"""How often progress is shown while `finish` waits."""
SERVER_WRITERS = 8
"""Requests to a server at the same time. A database takes one after the other anyway."""
ROUND = 4
"""Candidates that each writer takes before the others are waited for."""

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

Entry = tuple[Event, Mapping[str, str], bool]


@dataclass(frozen=True)
class Tally:
    """How far MLflow is with a study's candidates."""

    candidates: int
    there: int = 0
    """Whose runs were whole."""
    completed: int = 0
    """Whose runs were there in part."""
    new: int = 0
    removed: int = 0
    """Runs that were there twice."""
    writes: int = 0
    """Calls that changed something."""

    @property
    def written(self) -> int:
        """Candidates that MLflow has."""
        return self.there + self.completed + self.new


def _unwatched(_: Tally) -> None:
    pass


class MlflowTracker:
    """A `Tracker` that writes to the MLflow at `uri`; see `StudyRuns` for `artifacts`, `identity` and `live`.

    `finish` waits for the writer at most `finish_timeout_s`, and no longer than `patience_s` for anything to be
    written, `away_s` where MLflow has just not answered; it calls `on_progress` meanwhile. `say` gets the warnings.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        artifacts: Path | None = None,
        identity: str = "",
        live: bool = True,
        patience_s: float = 15.0,
        away_s: float = 5.0,
        finish_timeout_s: float = 60.0,
        on_progress: Callable[[Tally], None] = _unwatched,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self._uri, self._finish_timeout_s = uri, finish_timeout_s
        self._patience_s, self._away_s = patience_s, away_s
        self._open = partial(StudyRuns, uri, experiment, artifacts=artifacts, identity=identity, live=live)
        self._on_progress, self._say = on_progress, say
        self._writers = SERVER_WRITERS if uri.startswith(("http://", "https://")) else 1
        self._changed = threading.Condition()
        self._events: deque[Entry] = deque()
        self._points: list[Point] = []
        self._archive: dict[Name, Event] = {}
        self._front: dict[Name, bool] = {}
        self._files: dict[str, bytes] = {}
        self._status = ""
        self._given_up = False
        self._counts: Counter[Written] = Counter()
        self._left_out = False
        self._advanced_s = 0.0
        """When something was written last, on the monotonic clock."""
        self._away = False
        """Whether MLflow did not answer the last time."""
        self._runs: StudyRuns | None = None
        self._writer: threading.Thread | None = None
        self.problem = ""
        """The first thing that MLflow could not do, in words."""
        self.complete = False

    @property
    def tally(self) -> Tally:
        """How far it is."""
        there, completed, new = (self._counts[one] for one in (Written.THERE, Written.COMPLETED, Written.NEW))
        removed, writes = (self._runs.removed, self._runs.writes) if self._runs else (0, 0)
        return Tally(len(self._archive), there, completed, new, removed, writes)

    def start(self, study: str, parameters: Mapping[str, str]) -> None:
        assert self._writer is None, "a tracker is started once"
        arguments = (study, dict(parameters))
        self._writer = threading.Thread(target=self._write, args=arguments, name="mlflow-writer", daemon=True)
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
        began_s = time.monotonic()
        with self._changed:
            self._status, self._advanced_s = status, began_s
            self._changed.notify()
        while self._writer.is_alive() and not self._hopeless(began_s):
            self._on_progress(self.tally)
            self._writer.join(WATCH_S)
        with self._changed:
            self._given_up = True
            self._changed.notify()
            tally = self.tally
            self.complete = not (self._left_out or self._writer.is_alive())
        self._on_progress(tally)
        if not self.complete:
            self._say(
                f"MLflow at {self._uri} is not up to date: {tally.candidates - tally.written} of {tally.candidates} "
                "candidates were not written; the journal has them"
            )
        self._writer = None

    def _hopeless(self, began_s: float) -> bool:
        now_s = time.monotonic()
        patience_s = self._away_s if self._away else self._patience_s
        return now_s - began_s > self._finish_timeout_s or now_s - self._advanced_s > patience_s

    def _write(self, study: str, parameters: Mapping[str, str]) -> None:
        """The writer's life: opens the runs, writes what comes, and at the end what was gathered."""
        runs = self._opened(study, parameters)
        if runs is None:
            return
        self._write_events(runs)
        if self._given_up:
            return
        self._write_gathered(runs)
        self._insist(partial(runs.write_archive, self._archive.values(), self._front), "write the archive")
        for name, data in self._files.items():
            self._insist(partial(runs.write_file, name, data), f"write {name}")
        if runs.doubtful and (again := self._opened(study, parameters)):
            again.writes, again.removed = again.writes + runs.writes, again.removed + runs.removed
            runs = again
        self._insist(partial(runs.close, self._status), "close the study's runs")

    def _opened(self, study: str, parameters: Mapping[str, str]) -> StudyRuns | None:
        def open_runs() -> None:
            self._runs = self._open(study, parameters)

        self._insist(open_runs, "open the study's runs")
        return self._runs

    def _write_events(self, runs: StudyRuns) -> None:
        """Until the search has ended and all of its events are written, or `finish` has given up."""
        gathered_s = time.monotonic()
        while not self._given_up:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._status or self._given_up, GATHER_S)
                entries = list(islice(self._events, ROUND * self._writers))
                ending = bool(self._status)
            if not entries and ending:
                return
            self._write_together(runs, entries)
            with self._changed:
                for _ in entries:
                    self._events.popleft()
            if time.monotonic() - gathered_s > GATHER_S:
                self._write_gathered(runs)
                gathered_s = time.monotonic()

    def _write_together(self, runs: StudyRuns, entries: list[Entry]) -> None:
        """By as many writers as there are; an executor's threads would be waited for when the program ends."""

        def write(share: list[Entry]) -> None:
            for entry in share:
                self._write_event(runs, entry)

        if self._writers == 1:
            write(entries)
            return
        shares = [entries[first :: self._writers] for first in range(min(self._writers, len(entries)))]
        threads = [threading.Thread(target=write, args=(share,), daemon=True) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write_event(self, runs: StudyRuns, entry: Entry) -> None:
        candidate = entry[0].candidate

        def write() -> None:
            written = runs.write(*entry)
            with self._changed:
                self._counts[written] += 1

        self._insist_on_run(runs, (candidate.island, candidate.number), write, "write")

    def _write_gathered(self, runs: StudyRuns) -> None:
        with self._changed:
            points, self._points = self._points, []
            waiting = {(event.candidate.island, event.candidate.number) for event, _, _ in self._events}
            front = {name: now for name, now in self._front.items() if name not in waiting}
        self._insist(lambda: runs.write_progress(points), "write running figures")
        for name in runs.wrong_fronts(front):
            self._insist_on_run(runs, name, partial(runs.write_front, name, front[name]), "correct the front tag of")

    def _insist_on_run(self, runs: StudyRuns, name: Name, write: Callable[[], None], what: str) -> None:
        """As `_insist`, for a candidate whose run may have been removed because another writer had made one too."""

        def write_or_look() -> None:
            try:
                write()
            except MlflowException as error:
                if _may_pass(error) or not runs.look_again(name):
                    raise
                write()

        self._insist(write_or_look, f"{what} {name[0]}/{name[1]}")

    def _insist(self, write: Callable[[], None], what: str) -> None:
        """Tries again for as long as MLflow does not answer and nobody gives up; notes what it refuses."""
        backoff_s = BACKOFF_S
        while not self._given_up:
            try:
                write()
                self._advanced_s, self._away = time.monotonic(), False
                return
            except Exception as error:
                passing = _may_pass(error)
                self._warn(what, error, "trying again beside the search" if passing else "it is left out")
                self._away = passing
                if not passing:
                    self._left_out = True
                    return
            self._pause(backoff_s)
            backoff_s = BACKOFF_S if self._status else min(2 * backoff_s, LONGEST_BACKOFF_S)

    def _pause(self, duration_s: float) -> None:
        """Waits; no longer than until the search ends, which is a reason to try at once."""
        with self._changed:
            ending = bool(self._status)
            self._changed.wait_for(lambda: self._given_up or bool(self._status) != ending, duration_s)

    def _warn(self, what: str, error: Exception, consequence: str) -> None:
        words = f"could not {what}: {' '.join(str(error).split())[:300]}"
        if self.problem:
            log.debug("MLflow at %s %s; %s", self._uri, words, consequence)
            return
        self.problem = words
        self._say(f"MLflow at {self._uri} {words}; {consequence}")


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed later: the server is away, busy or broken, and has not refused."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, OSError)
