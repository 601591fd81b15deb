"""What the README says can be typed, and what it points at is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from tests.conftest import REPOSITORY

TEXTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "CONTRIBUTING.md"]
SMALL = {
    "training.steps": 3,
    "training.batch_size": 2,
    "retraining.steps": 2,
    "retraining.batch_size": 2,
    "evaluation.recalibration_images": 8,
    "evaluation.validation_images": 8,
    "latency.measure": "false",
    "sampler.population_size": 2,
    "budget.evaluations_per_island": 2,
    "workers.count": 1,
}
"""What makes the README's study one of seconds."""
ELSEWHERE = {"ui": "serves until it is ended", "submit": "needs a cluster: tests/jobs/test_submit.py"}
MORE = {
    "doctor": [],
    "plan": [],
    "search": [],
    "retrain": ["--in-process"],
    "trust": ["--sampled", "0", "--random", "1", "--in-process"],
}
"""What is added to a command so that it takes seconds."""


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the text's blocks, without comments."""
    for line in re.findall(r"^    archipelago (.*)$", text, re.MULTILINE):
        yield shlex.split(line, comments=True)


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_what_is_linked_is_there(file: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
        assert (file.parent / link).exists(), link


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_every_command_and_option_is_known(file: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in commands(file.read_text()):
        options = {option for one in known[name].params for option in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_runs_from_its_first_line_to_its_last(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    ran = []
    for name, *words in commands((REPOSITORY / "README.md").read_text()):
        if name in ELSEWHERE or any(word.startswith(("hrnas", "shrunk")) for word in words):
            continue
        typed = [re.sub(r"/\d+$", "/1", word.replace("/data/camvid/small", str(camvid_root))) for word in words]
        typed += [*(changes if name in ("doctor", "plan", "search") else []), *MORE.get(name, [])]
        result = CliRunner().invoke(app, [name, *typed])
        assert result.exit_code == 0, f"{name} {' '.join(typed)}: {result.output} {result.exception}"
        ran.append(name)
    assert {"doctor", "plan", "search", "status", "resume", "report", "select", "retrain", "export", "trust"} <= set(
        ran
    )
    assert {"fronts.svg", "report.html", "net.onnx", "studies"} <= {path.name for path in tmp_path.iterdir()}
