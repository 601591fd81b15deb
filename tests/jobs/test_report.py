"""`archipelago report`: one file, from any study of the store."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import pytest

from infra.mlflow_ui import sqlite_uri
from tests.jobs.conftest import TINY, TOY, CommandLine


def data_of(page: Path) -> Any:
    """What a page draws from."""
    (data,) = re.findall(r'<script id="data" type="application/json">(.*)</script>', page.read_text(encoding="utf-8"))
    return json.loads(data)


def test_the_page_holds_what_the_study_found(archipelago: CommandLine, tmp_path: Path) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    page = tmp_path / "out.html"
    result = archipelago("report", "toy", "--out", str(page))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{page} (")
    data, rows = data_of(page), archipelago.rows("candidates", "toy")
    assert data["number"] == [row["number"] for row in rows]
    assert data["metrics"]["miou"] == pytest.approx([row["miou"] for row in rows], rel=1e-4)
    best = {(row["island"], row["number"]) for row in archipelago.rows("front", "toy")}
    names = zip(data["island"], data["number"], data["until"], strict=True)
    assert {(data["islands"][island], number) for island, number, until in names if until is None} == best
    text = page.read_text(encoding="utf-8")
    assert "36 candidates of 3 islands" in text
    assert "evaluations_per_island: 12" in text
    assert data["commands"] == []  # there is no network to export


def test_networks_are_drawn_and_their_pictures_tracked(archipelago: CommandLine, tmp_path: Path) -> None:
    result = archipelago("search", archipelago.recipe(TINY, tracking={"enabled": True}), "--in-process")
    assert result.exit_code == 0, result.stderr
    page = tmp_path / "out.html"
    archipelago("report", "tiny", "--out", str(page))
    data = data_of(page)
    assert set(data["drawings"]) == {str(index) for index, until in enumerate(data["until"]) if until is None}
    assert data["commands"][0] == (
        f"archipelago export tiny {{candidate}} --format onnx --out {{file}}.onnx --store {archipelago.store}"
    )
    client = mlflow.MlflowClient(sqlite_uri(archipelago.store / "mlflow.db"))
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    (run,) = client.search_runs([experiment.experiment_id], "tags.level = 'study'")
    assert [file.path for file in client.list_artifacts(run.info.run_id, "report")] == [
        "report/evolution.png",
        "report/hypervolume.png",
        "report/operators.png",
    ]


def test_what_is_wrong_is_one_sentence(archipelago: CommandLine, tmp_path: Path) -> None:
    missing = archipelago("report", "nothing")
    assert missing.exit_code == 2
    assert "there is no study nothing" in missing.stderr
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    nowhere = archipelago("report", "toy", "--out", str(tmp_path / "nowhere" / "page.html"))
    assert nowhere.exit_code == 2
    assert re.search(r"archipelago: --out .*page.html cannot be written: No such file or directory", nowhere.stderr)
