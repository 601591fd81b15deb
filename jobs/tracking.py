"""A study in MLflow: where its runs are, under which names, and what is told of it besides its candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.protocols import Tracker
from orchestrator.report.columns import Found
from orchestrator.report.fronts import fronts_picture
from orchestrator.report.pictures import pictures
from orchestrator.retraining import read_retrained
from search_spaces.base import SearchSpace

if TYPE_CHECKING:
    from infra.mlflow_tracker import MlflowTracker

SQLITE = "sqlite:///"
REMOTE = ("http://", "https://", "databricks")
"""How the addresses of servers begin, which know themselves where artifacts belong."""


def make_tracker(recipe: Recipe, study: Study) -> Tracker:
    """The tracker that the recipe wants."""
    return mlflow_tracker(recipe, study, study.tracking_uri(recipe)) if recipe.tracking.enabled else NoTracker()


def mlflow_tracker(recipe: Recipe, study: Study, uri: str, **options: Any) -> MlflowTracker:
    """A tracker that writes the study's runs to the MLflow at `uri`; see `MlflowTracker` for `options`."""
    from infra.mlflow_tracker import MlflowTracker

    prepare(uri)
    return MlflowTracker(
        uri,
        recipe.tracking.experiment or recipe.study,
        artifacts=_artifacts(study, uri),
        identity=_identity(study),
        **options,
    )


def track_retrained(recipe: Recipe, study: Study, uri: str | None = None) -> int:
    """Gives MLflow what was trained from scratch; how many runs were made or completed.

    Raises:
        ConnectionError: MLflow cannot be reached or refuses.
        StoreError: a result in the store is damaged.
    """
    results = read_retrained(study.store, study.name)
    if not results:
        return 0
    from infra.mlflow_retrained import write_retrained

    where = uri or study.tracking_uri(recipe)
    try:
        prepare(where)
        return write_retrained(where, recipe.tracking.experiment or recipe.study, study.name, _identity(study), results)
    except Exception as error:  # whatever MLflow and its many clients raise
        words = " ".join(str(error).split())[:300]
        raise ConnectionError(
            f"MLflow at {where} was not told of {len(results)} trainings; `archipelago sync {study.where}` goes on "
            f"from there ({words})"
        ) from None


def _identity(study: Study) -> str:
    """Tells this study from another one of its name."""
    return hashlib.sha256(study.store.read(f"{study.name}/manifest.json")).hexdigest()[:16]


def prepare(uri: str) -> None:
    """Makes the folder of a SQLite file."""
    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)


def _artifacts(study: Study, uri: str) -> Path | None:
    """Beside the SQLite file; with another database in the store; None: the server knows."""
    if uri.startswith(REMOTE):
        return None
    folder = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else study.tracking_folder
    return folder / "mlflow-artifacts"


def parameters_of(recipe: Recipe, digest: str | None) -> dict[str, str]:
    """The recipe, flattened, for people who compare studies."""
    flat: dict[str, str] = {"weights": digest or "none"}

    def visit(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{path}.{key}" if path else str(key), inner)
        else:
            flat[path] = str(value)

    visit("", recipe.model_dump(mode="json"))
    return flat


def draw(recipe: Recipe, space: SearchSpace[Any], objectives: Objectives, journal: Journal) -> dict[str, bytes]:
    """PNGs of what the journal holds, by file name."""
    events = {island: journal.events(island) for island in journal.islands}
    found = Found(recipe.study, objectives, space, events, recipe.sampler.population_size)
    return {"fronts.png": fronts_picture(recipe.study, objectives, events), **pictures(found)}


class NoTracker:
    """A `Tracker` for studies that nobody tracks."""

    complete = True

    def start(self, study: str, parameters: Mapping[str, str]) -> None: ...

    def record(self, event: Any, description: Mapping[str, str], on_front: bool) -> None: ...

    def progress(self, island: str, evaluated: int, metrics: Mapping[str, float]) -> None: ...

    def attach(self, name: str, data: bytes) -> None: ...

    def finish(self, status: str) -> None: ...
