"""What a study is made of besides its journal: the recipe, the library versions, the digest of its weights.

    <study>/manifest.json    recipe and versions, written once at the start
    <study>/weights.json     the digest of the supernet's weights, written once when training is done

Both are written with `create`, so a name is taken once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from orchestrator.config import Recipe, read_recipe
from orchestrator.protocols import ObjectExists, ObjectMissing, Store, StoreError
from orchestrator.sealed import seal, unseal

LIBRARIES = ("archipelago-nas", "numpy", "torch", "pymoo", "optuna", "moocore", "pyarrow", "ray")
"""Whose versions may change what a study finds."""


class StudyExists(ValueError):
    """A study cannot begin under a name that is taken."""


class StudyMissing(ValueError):
    """There is no study of that name, or what is there cannot be read."""


@dataclass(frozen=True)
class Manifest:
    """What a study began with."""

    recipe: Recipe
    versions: Mapping[str, str]
    """Library versions of the driver, by distribution name."""


def library_versions() -> dict[str, str]:
    """The versions of what may change a result, as installed here."""
    return {name: _version(name) for name in LIBRARIES}


def create_study(store: Store, recipe: Recipe) -> Manifest:
    """Writes the manifest of a new study.

    Raises:
        StudyExists: the store holds a study of this name.
    """
    manifest = Manifest(recipe, library_versions())
    document = {"recipe": recipe.model_dump(mode="json"), "versions": dict(manifest.versions)}
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
    """The manifest of a study.

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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyMissing(
            f"{key} is not the manifest of a study: restore it, or begin another study ({error})"
        ) from error
    return Manifest(read_recipe(recipe, key), versions)


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
