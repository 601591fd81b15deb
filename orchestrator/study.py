"""What a study is made of besides its journal: the recipe, the library versions, the digest of its weights.

    <study>/manifest.json    recipe and versions, written once at the start
    <study>/weights.json     the digest of the supernet's weights, written once when training is done
    <study>/amendments.json  what was decided later: a larger budget, changed circumstances that were accepted

The first two are written with `create`, so a name is taken once. Amendments are only added to. None of them changes
what the journal holds already: a larger budget asks for the same candidates and then for more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from orchestrator.config import BudgetSettings, Recipe, read_recipe
from orchestrator.protocols import ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal

LIBRARIES = ("archipelago-nas", "numpy", "torch", "pillow", "pymoo", "optuna", "moocore", "pyarrow", "ray")
"""Whose versions a study notes."""
DECISIVE = ("numpy", "torch", "pillow", "pymoo", "optuna")
"""Those whose versions may change what a study finds."""


class StudyExists(ValueError):
    """A study cannot begin under a name that is taken."""


class StudyMissing(ValueError):
    """There is no study of that name, or what is there cannot be read."""


class StudyChanged(ValueError):
    """A study cannot go on as it began: code, data or a library has changed."""


@dataclass(frozen=True)
class Manifest:
    """What a study began with."""

    recipe: Recipe
    versions: Mapping[str, str]
    """Library versions of the driver, by distribution name."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Digests of what else may change a result, as the caller of `create_study` names it: code, data."""

    def differences(self, versions: Mapping[str, str], origin: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """What would change results: by its name what it was and what it is now. What was not noted is not compared."""
        before = {**{name: self.versions[name] for name in DECISIVE if name in self.versions}, **self.origin}
        now = {**versions, **origin}
        return {name: (was, now[name]) for name, was in before.items() if now.get(name, was) != was}


def library_versions() -> dict[str, str]:
    """The versions of what may change a result, as installed here."""
    return {name: _version(name) for name in LIBRARIES}


def create_study(store: Store, recipe: Recipe, origin: Mapping[str, str] | None = None) -> Manifest:
    """Writes the manifest of a new study.

    Raises:
        StudyExists: the store holds a study of this name.
    """
    manifest = Manifest(recipe, library_versions(), dict(origin or {}))
    document = {"recipe": recipe.model_dump(mode="json"), "versions": manifest.versions, "origin": manifest.origin}
    try:
        store.create(_manifest_key(recipe.study), seal(document))
    except ObjectExists:
        raise _taken(recipe.study) from None
    return manifest


def check_free(store: Store, study: str) -> None:
    """Finds out early what `create_study` would say at last.

    Raises:
        StudyExists: the store holds a study of this name.
    """
    with suppress(ObjectMissing):
        store.read(_manifest_key(study))
        raise _taken(study)


def _taken(study: str) -> StudyExists:
    return StudyExists(
        f"study {study} exists already: go on with it by `archipelago resume {study}`, or give the new one another "
        f"name by --set study=NAME"
    )


def _manifest_key(study: str) -> str:
    return f"{study}/manifest.json"


def read_study(store: Store, study: str) -> Manifest:
    """The manifest of a study, amendments included.

    Raises:
        StudyMissing: there is none, or it is not a manifest.
        RecipeError: its recipe is not one that this version can run.
    """
    key = _manifest_key(study)
    try:
        data = store.read(key)
    except ObjectMissing:
        raise StudyMissing(f"there is no study {study}: {key} is missing in the store") from None
    try:
        document = unseal(data)
        recipe, versions = document["recipe"], {str(name): str(of) for name, of in document["versions"].items()}
        origin = dict(document.get("origin", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyMissing(
            f"{key} is not the manifest of a study: restore it, or begin another study ({error})"
        ) from error
    return _amended(Manifest(read_recipe(recipe, key), versions, origin), _read_amendments(store, study)[1])


def extend(store: Store, study: str, more: int, at: str) -> None:
    """Adds `more` candidates to the budget of each island; `at` is the date.

    Raises:
        ObjectChanged: another driver writes to the study.
    """
    _amend(store, study, {"at": at, "evaluations_per_island": more})


def accept(store: Store, study: str, changes: Mapping[str, str], at: str) -> None:
    """Notes that the study goes on although something is now what `changes` say."""
    _amend(store, study, {"at": at, "accepted": dict(changes)})


def _amended(manifest: Manifest, amendments: Sequence[Mapping[str, Any]]) -> Manifest:
    more = sum(int(one.get("evaluations_per_island", 0)) for one in amendments)
    budget = BudgetSettings(evaluations_per_island=manifest.recipe.budget.evaluations_per_island + more)
    accepted = {name: str(now) for one in amendments for name, now in one.get("accepted", {}).items()}
    return Manifest(
        manifest.recipe.model_copy(update={"budget": budget}) if more else manifest.recipe,
        {name: accepted.get(name, version) for name, version in manifest.versions.items()},
        {name: accepted.get(name, digest) for name, digest in manifest.origin.items()},
    )


def _amend(store: Store, study: str, amendment: Mapping[str, Any]) -> None:
    data, amendments = _read_amendments(store, study)
    store.replace(_amendments_key(study), seal({"amendments": [*amendments, amendment]}), data)


def _amendments_key(study: str) -> str:
    return f"{study}/amendments.json"


def _read_amendments(store: Store, study: str) -> tuple[bytes | None, list[dict[str, Any]]]:
    """The object's bytes, None where there is none, and the amendments in it.

    Raises:
        StoreError: it is damaged.
    """
    key = _amendments_key(study)
    try:
        data = store.read(key)
        return data, list(unseal(data)["amendments"])
    except ObjectMissing:
        return None, []
    except (ValueError, KeyError) as error:
        raise StoreError(f"{key} does not say what was decided: {error}; restore it") from None


def record_weights(store: Store, study: str, digest: str) -> None:
    """Notes which weights the study searches with, once and for all.

    Raises:
        StudyExists: other weights have been noted.
    """
    key = f"{study}/weights.json"
    try:
        store.create(key, seal({"digest": digest}))
    except ObjectExists:
        known = read_weights(store, study)
        if known != digest:
            raise StudyExists(f"study {study} searches with weights {known}, got {digest}: see {key}") from None


def read_weights(store: Store, study: str) -> str | None:
    """The digest of the study's weights; None: they are not trained yet.

    Raises:
        StoreError: the object that says so is damaged.
    """
    key = f"{study}/weights.json"
    try:
        return str(unseal(store.read(key))["digest"])
    except ObjectMissing:
        return None
    except (ValueError, KeyError) as error:
        raise StoreError(f"{key} does not say which weights the study searches with: {error}; restore it") from None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"
