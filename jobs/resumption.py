"""Who may go on with a study, and under which circumstances: lease, origin, budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infra.machine import SystemClock, has_ended, heartbeat, this_process
from jobs.composition import load_data, make_space
from jobs.progress import Display
from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.evaluation.protocol import code_digest
from orchestrator.island import make_islands
from orchestrator.journal import Journal, read_epoch
from orchestrator.lease import Lease, take
from orchestrator.objectives import Objectives
from orchestrator.protocols import ObjectChanged, StoreError
from orchestrator.study import Manifest, StudyChanged, StudyExists, accept, extend, library_versions, read_study
from search_spaces.tabular import TabularSettings, read_table

if TYPE_CHECKING:
    from search_spaces.data.images import ImageData


@contextmanager
def held(study: Study, recipe: Recipe, display: Display) -> Iterator[Lease]:
    """The study's lease, with a heartbeat, for as long as the block runs.

    Raises:
        LeaseHeld: another driver runs the study.
        LeaseLost: another driver has taken it over meanwhile.
    """
    epoch, owner = read_epoch(study.store, study.name), this_process()
    lease = take(
        study.store,
        study.name,
        owner,
        SystemClock(),
        ttl_s=recipe.lease.ttl_s,
        epoch=epoch,
        has_ended=has_ended,
        say=display.say,
    )
    try:
        with heartbeat(lease):
            yield lease
    except ObjectChanged:
        lease.beat()  # says who has taken the study over
        raise
    finally:
        lease.release()


def check_origin(study: Study, manifest: Manifest, display: Display, accept_changes: bool) -> None:
    """Refuses to go on where the rest of the study would not be what it would have been.

    Raises:
        StudyChanged: the code, the data or a library is not what the study began with.
        DataError: the data set is missing or broken.
    """
    data = None if manifest.recipe.data is None else load_data(manifest.recipe)
    changes = manifest.differences(library_versions(), origin_of(manifest.recipe, data))
    if not changes:
        return
    words = "; ".join(f"{name} was {was} and is {now}" for name, (was, now) in changes.items())
    if not accept_changes:
        raise StudyChanged(
            f"study {study.name} would go on with other results than it began: {words}. Resume it with what it began "
            "with, or accept that by --accept-changes"
        )
    accept(study.store, study.name, {name: now for name, (_, now) in changes.items()}, SystemClock().now())
    display.say(f"accepted: {words}")


def check_recipe(study: Study, recipe: Recipe) -> None:
    """Refuses a recipe that is not the study's; a budget that was extended since is no difference.

    Raises:
        StudyExists: it is another one.
    """
    known = read_study(study.store, study.name).recipe
    if recipe.candidates_per_island < known.budget.evaluations_per_island:
        recipe = recipe.model_copy(update={"budget": known.budget})
    there, here = _flat(known.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differing:
        words = "; ".join(f"{key} is {there.get(key)} there and {here.get(key)} here" for key in differing[:5])
        raise StudyExists(
            f"study {study.name} exists already, by another recipe: {words}; go on with it by `archipelago resume "
            f"{study.name}`, or give this one another name by --set study=NAME"
        )


def _flat(document: Any, path: str = "") -> dict[str, Any]:
    """The values of a recipe by their path."""
    if not isinstance(document, dict | list) or not document:
        return {path: document}
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    return {
        key: value for name, of in inside for key, value in _flat(of, f"{path}.{name}" if path else str(name)).items()
    }


def origin_of(recipe: Recipe, data: ImageData | None) -> dict[str, str]:
    """What results depend on besides recipe and libraries: digests of the code and of the data set or table."""
    origin = {"code": code_digest()}
    if isinstance(recipe.space, TabularSettings):
        return origin | {"data": read_table(recipe.space).fingerprint}
    return origin if data is None else origin | {"data": f"{data.train.fingerprint}-{data.validation.fingerprint}"}


def check_budget(recipe: Recipe, journal: Journal) -> None:
    """Raises StoreError where the journal holds more than was asked for: what was decided later has been lost."""
    budget = recipe.candidates_per_island
    if beyond := [f"{journal.count(name)} of {name}" for name in journal.islands if journal.count(name) > budget]:
        raise StoreError(
            f"{recipe.study}/amendments.json is missing or from before: the journal holds {', '.join(beyond)}, and the "
            f"budget is {budget}; restore it"
        )


def extended(study: Study, recipe: Recipe, lease: Lease, more: int) -> Recipe:
    """The recipe of a finished study with a larger budget, which is noted in the store.

    Raises:
        ValueError: the study is not finished, or shrinks networks.
        StoreError: its budget was extended before, and what says so is missing.
    """
    if recipe.shrinking is not None:
        raise ValueError(f"--more {more} is for studies that sample candidates, and {study.name} shrinks networks: "
                         "begin another one with more training.steps or other shrinking.penalties")  # fmt: skip
    space = make_space(recipe)
    journal = Journal.take(study.store, study.name, space.islands, lease.epoch, lease.check)
    check_budget(recipe, journal)
    for island in make_islands(recipe, space, Objectives.from_settings(recipe.objectives), journal):
        one = island.scheduler
        if not one.finished and one.take() is not None:
            raise ValueError(
                f"--more {more} is for a finished study, and island {one.island} of {study.name} has "
                f"{one.recorded} of {one.budget} candidates: resume it without --more first"
            )
    extend(study.store, study.name, more, SystemClock().now())
    return read_study(study.store, study.name).recipe
