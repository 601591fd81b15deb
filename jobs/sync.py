"""Brings MLflow to where a study's journal is: the projection of the journal, repeated until nothing is to be written.

It goes the way of a search that is resumed, `project` into a tracker, and more patiently. A round that finds
nothing to write has compared every candidate's run with the journal, so it is also the proof that all is there once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.machine import SystemClock, has_ended, heartbeat, this_process
from jobs.composition import make_space
from jobs.progress import Display, SyncProgress
from jobs.study import Study
from jobs.tracking import draw, mlflow_tracker, parameters_of, prepare, track_retrained
from orchestrator.config import Recipe
from orchestrator.island import make_islands
from orchestrator.journal import Journal
from orchestrator.lease import LeaseHeld, is_held, take
from orchestrator.objectives import Objectives
from orchestrator.projection import describer, project
from orchestrator.protocols import ObjectMissing, StoreError
from orchestrator.replay import ReplayMismatch
from orchestrator.study import read_study, read_weights

if TYPE_CHECKING:
    from infra.mlflow_tracker import Tally

ROUNDS = 5
"""Two are enough unless somebody else writes to the same runs meanwhile."""
PATIENCE_S = 60.0
"""How long MLflow may take for one thing, or be away."""
LEASE_TTL_S = 20.0


@dataclass(frozen=True)
class Synced:
    """What a sync has found and done, and where."""

    uri: str
    tally: Tally


def sync(study: Study, display: Display, uri: str | None = None) -> Synced:
    """Makes the MLflow at `uri`, or where the recipe says, hold every candidate of the study's journal exactly once.

    Raises:
        ValueError: there is no such study, or the address cannot be used; one sentence.
        StoreError: the store cannot be read, or another sync of the study is under way.
        JournalCorrupt: an object of the journal is not what was written.
        ConnectionError: MLflow does not answer, or refuses something; what has been written stays.
    """
    recipe = read_study(study.store, study.name).recipe
    where = _answering(uri or study.tracking_uri(recipe))
    try:
        journal = Journal.open(study.store, study.name)
    except ObjectMissing:
        raise ValueError(f"study {study.name} has no candidates yet: there is nothing to sync") from None
    pictures = draw(recipe, make_space(recipe), Objectives.from_settings(recipe.objectives), journal)
    status = _status(study, recipe, journal)
    rounds: list[Tally] = []
    with _alone(study), display.syncing() as show:
        while not rounds or (rounds[-1].writes and len(rounds) < ROUNDS):
            rounds.append(_round(study, recipe, journal, where, pictures, status, _shown(show, bool(rounds))))
    track_retrained(recipe, study, where)
    sums = {name: sum(getattr(one, name) for one in rounds) for name in ("completed", "new", "removed", "writes")}
    return Synced(where, replace(rounds[0], **sums))


def _round(
    study: Study,
    recipe: Recipe,
    journal: Journal,
    uri: str,
    pictures: Mapping[str, bytes],
    status: str,
    on_progress: Callable[[Tally], None],
) -> Tally:
    """What MLflow had of the study, and what was written.

    Raises:
        ConnectionError: something could not be written.
    """
    options = {
        "live": False,
        "patience_s": PATIENCE_S,
        "away_s": PATIENCE_S,
        "finish_timeout_s": math.inf,
        "say": lambda words: None,
    }
    tracker = mlflow_tracker(recipe, study, uri, on_progress=on_progress, **options)
    tracker.start(study.name, parameters_of(recipe, read_weights(study.store, study.name)))
    project(journal, Objectives.from_settings(recipe.objectives), describer(make_space(recipe)), tracker)
    for name, data in pictures.items():
        tracker.attach(name, data)
    tracker.finish(status)
    if not tracker.complete:
        tally = tracker.tally
        raise ConnectionError(
            f"MLflow at {uri} has {tally.written} of the {tally.candidates} candidates of study {study.name}: it "
            f"{tracker.problem or 'takes too long'}; `archipelago sync {study.where}` goes on from there"
        )
    return tracker.tally


def _shown(show: Callable[[SyncProgress], None], checking: bool) -> Callable[[Tally], None]:
    """A function that shows a tally as progress."""
    began_s = time.monotonic()

    def progress(tally: Tally) -> None:
        show(SyncProgress(checking, tally.written, tally.candidates, tally.new, time.monotonic() - began_s))

    return progress


def _answering(uri: str) -> str:
    """The address, where MLflow answers.

    Raises:
        ValueError: it holds a password, or is none of MLflow's.
        ConnectionError: nobody answers there.
    """
    if urlsplit(uri).password:
        raise ValueError(
            "a tracking URI must not hold a password, for it is shown: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    from infra.mlflow_runs import ping

    try:
        prepare(uri)
        ping(uri)
    except Exception as error:  # whatever MLflow and its many clients raise
        words = " ".join(str(error).split())[:300]
        raise ConnectionError(
            f"MLflow at {uri} does not answer: start it, or name another one by --tracking-uri ({words})"
        ) from None
    return uri


@contextmanager
def _alone(study: Study) -> Iterator[None]:
    """For as long as the block runs no other sync of the study does; where the store is read-only, who knows.

    Raises:
        LeaseHeld: one is under way.
    """
    place = f"{study.name}/tracking"
    try:
        lease = take(study.store, place, this_process(), SystemClock(), ttl_s=LEASE_TTL_S, has_ended=has_ended)
    except LeaseHeld:
        raise LeaseHeld(f"another `archipelago sync` of study {study.name} is under way: wait for its end") from None
    except StoreError:
        lease = None
    try:
        with heartbeat(lease) if lease else nullcontext():
            yield
    finally:
        if lease:
            lease.release()


def _status(study: Study, recipe: Recipe, journal: Journal) -> str:
    """How the study stands, in MLflow's words."""
    if is_held(study.store, study.name, has_ended):
        return "RUNNING"
    budget = recipe.candidates_per_island
    if all(journal.count(island) >= budget for island in journal.islands):
        return "FINISHED"
    if recipe.shrinking is not None:
        return "KILLED"  # it has as many candidates as snapshots, and they are not all there
    with suppress(ReplayMismatch):  # of another library version: then it stays open whether its islands hold more
        islands = make_islands(recipe, make_space(recipe), Objectives.from_settings(recipe.objectives), journal)
        if all(one.scheduler.finished or one.scheduler.take() is None for one in islands):
            return "FINISHED"
    return "KILLED"
