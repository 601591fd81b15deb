"""A finished study, each of whose objects is damaged, one at a time: is it noticed, and is the object named?

The study has all that a study may have: weights, a budget that was extended, a canary of its workers, a memo. After
each change everything is read that reads it: the fronts; a resumption, which verifies the weights and replays the
journal; a worker's way in, past the canary; and for the memo a search of the same candidates anew, by a study that
has lost its journal.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from infra.stores import StudyStore, make_store
from infra.weights import load_weights
from jobs.bench.journals import quiet, records
from jobs.bench.kills import NETWORKS, STUDY
from jobs.composition import make_evaluator_factory, make_space
from jobs.progress import Display
from jobs.search import resume, search
from jobs.study import Study
from jobs.tables import StudyReport
from orchestrator.canary import Canary, canary_candidate
from orchestrator.config import read_recipe
from orchestrator.journal import JournalCorrupt
from orchestrator.protocols import StoreError
from orchestrator.replay import ReplayMismatch
from orchestrator.study import read_study, read_weights

SENTENCES = (ValueError, StoreError, JournalCorrupt, ReplayMismatch)
"""What the command line prints as a sentence."""
DOCUMENT: Mapping[str, Any] = {
    **NETWORKS,
    "study": STUDY,
    "training": {"steps": 4, "batch_size": 2},
    "budget": {"evaluations_per_island": 3},
    "lease": {"ttl_s": 0.2},
}
MORE = 1
Objects = Mapping[str, bytes]


@dataclass(frozen=True)
class Damage:
    """What was done to an object, and what came of it."""

    key: str
    change: str
    """`flipped`: one bit of the byte in the middle; `deleted`."""
    verdict: str
    """`named`: somebody said which object it is; `rebuilt`: the object was deleted, and everything is as before without
    it; `missed`."""
    words: str


def damage_everything(address: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of every object flipped and deleted."""
    store = make_store(address)
    objects = _finished_study(store)
    journal = records(store, STUDY)
    words, whole = _read_everything(store, journal, afresh=False)
    assert whole, f"nothing is damaged, and yet: {words}"
    assert not any(key in words for key in objects), f"an object is named without need: {words}"
    found = []
    for key, data in objects.items():
        for change in ("flipped", "deleted"):
            store.delete(key)
            if change == "flipped":
                store.create(key, flipped(data))
            words, whole = _read_everything(store, journal, afresh=key.startswith("evaluations/"))
            verdict = "named" if key in words else "rebuilt" if whole and change == "deleted" else "missed"
            found.append(Damage(key, change, verdict, words))
            _restore(store, objects)
        say(f"{key}: flipped {found[-2].verdict}, deleted {found[-1].verdict}")
    count = {verdict: sum(one.verdict == verdict for one in found) for verdict in ("named", "rebuilt", "missed")}
    return {
        "corruptions_detected": count["named"],
        "corruptions_total": count["named"] + count["missed"],
        "deletions_rebuilt": count["rebuilt"],
        "missed": [asdict(one) for one in found if one.verdict == "missed"],
        "rebuilt": sorted({_kind(one.key) for one in found if one.verdict == "rebuilt"}),
        "objects_damaged": len(objects),
    }


def flipped(data: bytes) -> bytes:
    """The bytes with one bit in the middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _finished_study(store: StudyStore) -> Objects:
    recipe = read_recipe(DOCUMENT, "the bench's recipe")
    search(recipe, Study(store, STUDY), quiet(), None, in_process=True)
    resume(Study(store, STUDY), quiet(), None, in_process=True, more=MORE)
    _pass_canary(store)
    return {key: store.read(key) for key in store.list("")}


def _read_everything(store: StudyStore, journal: list[Any], afresh: bool) -> tuple[str, bool]:
    """What is said by whatever reads the study, and whether it is still what it was.

    afresh: the journal is taken away first, so that every candidate is looked up in the memo.
    """
    if afresh:
        for key in [f"{STUDY}/HEAD", *store.list(f"{STUDY}/journal/")]:
            store.delete(key)
    said = io.StringIO()
    display = Display(Console(file=said, width=10_000))
    errors: list[str] = []
    with _listening(said):
        for look in (_fronts, lambda at: resume(_place(at), display, None, in_process=True), _pass_canary):
            try:
                look(store)
            except SENTENCES as error:
                errors.append(str(error))
        try:
            whole = not errors and records(store, STUDY) == journal
        except JournalCorrupt:
            whole = False
    return " ".join([*errors, said.getvalue()]), whole


def _fronts(store: StudyStore) -> object:
    return StudyReport.read(_place(store)).front_rows()


def _place(store: StudyStore) -> Study:
    return Study.at(STUDY, store.where)


def _pass_canary(store: StudyStore) -> None:
    """Scores the canary as a worker does that wants to join.

    Raises:
        ValueError: it may not.
        StoreError: what it is compared with is damaged.
    """
    recipe, digest = read_study(store, STUDY).recipe, read_weights(store, STUDY)
    if digest is None:
        return
    canary = Canary(store, STUDY, canary_candidate(make_space(recipe), recipe.seed))
    evaluator = make_evaluator_factory(recipe)(load_weights(store, STUDY, digest))
    (result,) = evaluator.score([canary.candidate])
    if refusal := canary.refusal(result, evaluator.protocol_digest, evaluator.hardware.kind):
        raise ValueError(refusal)
    other = canary.refusal(result, f"{evaluator.protocol_digest}-of-another-kind", evaluator.hardware.kind)
    if other:
        raise ValueError(other)


def _restore(store: StudyStore, objects: Objects) -> None:
    for key in store.list(""):
        if key not in objects or store.read(key) != objects[key]:
            store.delete(key)
    for key in sorted(objects.keys() - set(store.list(""))):
        store.create(key, objects[key])


def _kind(key: str) -> str:
    """What kind of object it is, for people."""
    parts = key.split("/")
    return parts[0] if parts[0] == "evaluations" else "/".join(parts[1:2])


@contextmanager
def _listening(into: io.StringIO) -> Iterator[None]:
    """Writes the warnings of all modules into it too."""
    handler = logging.StreamHandler(into)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
