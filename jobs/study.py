"""Where a study lies, from what a person types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.file_store import FileStore
from infra.mlflow_ui import sqlite_uri
from infra.stores import STUDIES, StudyStore, make_store
from orchestrator.config import STUDY_NAME, Recipe
from orchestrator.study import StudyMissing


@dataclass(frozen=True)
class Study:
    """A study's place."""

    store: StudyStore
    name: str

    @classmethod
    def at(cls, name: str, store: str) -> Study:
        """The study that a person means: its name in the store, the path of its folder, or s3://bucket/prefix/study.

        Raises:
            StudyMissing: there is none.
            StoreError: the store cannot be read.
        """
        path = Path(name)
        if "://" in name:
            store, _, name = name.rstrip("/").rpartition("/")
        elif (path / "manifest.json").is_file():
            store, name = str(path.absolute().parent), path.absolute().name
        place = make_store(store)
        found = place.studies()
        if name not in found and STUDY_NAME.fullmatch(name) and place.list(f"{name}/"):
            raise StudyMissing(f"{name}/manifest.json is missing in the store {store}, and the rest of study {name} is "
                               "there: restore it")  # fmt: skip
        if name not in found:
            held = f"it holds {', '.join(found)}" if found else "it holds none"
            raise StudyMissing(f"there is no study {name} in the store {store}: {held}; say --store for another store")
        return cls(place, name)

    @property
    def where(self) -> str:
        return f"{self.store.where}/{self.name}"

    @property
    def tracking_folder(self) -> Path:
        return tracking_folder(self.store)

    def tracking_uri(self, recipe: Recipe) -> str:
        return recipe.tracking.uri or sqlite_uri(self.tracking_folder / "mlflow.db")


def tracking_folder(store: StudyStore) -> Path:
    """Where MLflow's SQLite file and artifacts lie, unless a recipe says otherwise: a database needs a file system."""
    return store.root if isinstance(store, FileStore) else Path(STUDIES).absolute()
