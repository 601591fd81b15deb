"""Imports point one way, and the core stays slim: shown in a fresh interpreter."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
import search_spaces

OUTSIDE = {"ray", "mlflow", "boto3", "torch"}


def modules(package: object, without: tuple[str, ...] = ()) -> list[str]:
    """The names of a package and of all modules below it, but those that begin with one of `without`."""
    name, path = package.__name__, package.__path__  # type: ignore[attr-defined]
    found = [name, *(module.name for module in pkgutil.walk_packages(path, f"{name}."))]
    return [one for one in found if not one.startswith(without)] if without else found


def imported_with(names: list[str]) -> set[str]:
    """The top-level packages that importing these modules brings into an interpreter."""
    script = (
        f"import sys\nfor name in {names!r}: __import__(name)\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_search_needs_none_of_the_outside_world() -> None:
    names = [*modules(orchestrator, ("orchestrator.evaluation",)), "orchestrator.evaluation.toy", "infra.local"]
    assert imported_with(names) & (OUTSIDE | {"jobs"}) == set()


def test_the_orchestrator_knows_neither_where_it_runs_nor_who_starts_it() -> None:
    assert imported_with(modules(orchestrator)) & {"ray", "mlflow", "boto3", "infra", "jobs"} == set()


def test_search_spaces_know_nothing_of_the_rest() -> None:
    unwanted = {"orchestrator", "infra", "jobs", "ray", "mlflow", "boto3"}
    assert imported_with(modules(search_spaces)) & unwanted == set()


@pytest.mark.parametrize("name", ["search_spaces.base", "search_spaces.toy"])
def test_what_a_space_is_needs_no_torch(name: str) -> None:
    assert "torch" not in imported_with([name])


def test_the_door_for_notebooks_costs_nothing_until_it_is_used() -> None:
    assert imported_with(["jobs"]) & (OUTSIDE | {"pyarrow", "numpy", "pydantic", "onnx"}) == set()
