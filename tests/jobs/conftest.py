"""Recipes that take seconds, and the command line: called in this process, or run as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from jobs.cli import app
from tests.conftest import REPOSITORY

# Studies of one store are compared with each other, so what one of them has measured must not serve the next.
TOY: Mapping[str, Any] = {
    "study": "toy",
    "space": {"name": "toy"},
    "objectives": [{"name": "miou"}, {"name": "latency_ms", "reference": 12}],
    "sampler": {"population_size": 4, "mutation_probability": 0.1},
    "budget": {"evaluations_per_island": 12},
    "workers": {"memo": False},
    "tracking": {"enabled": False},
}
TINY: Mapping[str, Any] = {
    "study": "tiny",
    "space": {"name": "hyctas", "layers": 4, "filters": 1},
    "data": {
        "name": "synthetic",
        "height_px": 32,
        "width_px": 64,
        "train_images": 8,
        "validation_images": 4,
        "test_images": 1,
    },
    "training": {"steps": 8, "batch_size": 2},
    "evaluation": {"recalibration_images": 8, "batch_size": 4},
    "objectives": [{"name": "miou"}, {"name": "macs", "reference": 1e7}],
    "latency": {"window_s": 0.01},
    "sampler": {"population_size": 2},
    "budget": {"evaluations_per_island": 3},
    "workers": {"count": 1, "memo": False},
    "tracking": {"enabled": False},
}
TINY_HRNAS: Mapping[str, Any] = {
    **TINY,
    "space": {
        "name": "hrnas",
        "branches": [1, 2],
        "stem": [4, 4],
        "modules": [{"blocks": [1], "channels": [4]}, {"blocks": [1, 1], "channels": [4, 6]}],
        "expansion": 1,
        "transformer": {"tokens": 4, "size": 4},
    },
}
TINY_IMAGES: Mapping[str, Any] = {
    **TINY_HRNAS,
    "data": {"name": "cifar10", "root": "${ARCHIPELAGO_DATA:-../shared/data}/cifar10/cifar-10-batches-bin"},
    "training": {"steps": 8, "batch_size": 8},
    "objectives": [{"name": "accuracy"}, {"name": "macs", "reference": 1e7}],
}
"""On 450 real images: needs the fixture `shared_data`."""
TINY_SHRINKING: Mapping[str, Any] = {
    **{name: section for name, section in TINY_HRNAS.items() if name not in ("sampler", "budget")},
    "space": {**TINY_HRNAS["space"], "branches": [2], "expansion": 2},
    "training": {"steps": 10, "batch_size": 2},
    "shrinking": {"penalties": [0, 0.05], "every_steps": 4, "threshold": 0.99},
}
"""A threshold that half of the units are under after a few steps."""


class CommandLine:
    """`archipelago` with the store and the recipes of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "studies"
        self.address = str(self.store)
        """What `--store` says."""

    def recipe(self, document: Mapping[str, Any], **sections: Any) -> str:
        """The file of a recipe; `sections` replace its own."""
        file = self.folder / f"recipe-{len(list(self.folder.glob('recipe-*')))}.yaml"
        file.write_text(yaml.safe_dump({**document, **sections}))
        return str(file)

    def __call__(self, *arguments: str) -> Result:
        """Calls a command in this process."""
        return CliRunner().invoke(app, [*arguments, "--store", self.address])

    def rows(self, command: str, study: str) -> list[dict[str, Any]]:
        """What a command prints as JSON."""
        result = self(command, study, "--json")
        assert result.exit_code == 0, result.stderr
        rows: list[dict[str, Any]] = json.loads(result.stdout)
        return rows

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts a command as a program of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *arguments, "--store", self.address],
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def archipelago(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def wait_until(happened: Callable[[], bool], program: subprocess.Popen[str], timeout_s: float = 60.0) -> None:
    """Waits while the program runs, and fails if it ends first."""
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        assert program.poll() is None, f"it ended first: {program.communicate()}"
        assert time.monotonic() < deadline_s, "it takes too long"
        time.sleep(0.005)


def without_timings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of candidates without what a clock measured."""
    return [{name: value for name, value in row.items() if name != "latency_ms"} for row in rows]
