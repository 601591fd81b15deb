"""`archipelago doctor`: each thing that would stop a study is a line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.conftest import TOY, CommandLine

NOBODY = "127.0.0.1:1"
"""Nothing listens there."""


def findings(archipelago: CommandLine, *arguments: str, exit_code: int) -> dict[str, list[dict[str, Any]]]:
    """What the doctor found, by subject; as a program of its own, because it may start a Ray."""
    program = archipelago.start("doctor", *arguments, "--json")
    out, err = program.communicate(timeout=200)
    assert program.returncode == exit_code, out + err
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(out):
        found.setdefault(row["subject"], []).append(row)
    return found


def test_a_machine_that_can_run_a_study_has_nothing_wrong(archipelago: CommandLine) -> None:
    found = findings(archipelago, archipelago.recipe(TOY, tracking={}), exit_code=0)
    assert {"python", "libraries", "device", "memory", "ports", "store", "recipe", "mlflow", "ray"} == set(found)
    assert "starts" in found["ray"][0]["words"]
    assert [file.name for file in archipelago.store.iterdir()] == [".lock"]  # what was written on trial is gone


def test_each_thing_that_is_wrong_is_said_and_none_hides_another(archipelago: CommandLine, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    archipelago.address = str(blocked)
    recipe = archipelago.recipe(TOY, tracking={"uri": f"http://{NOBODY}"})
    found = findings(archipelago, recipe, "--address", NOBODY, exit_code=1)
    wrong = {subject for subject, rows in found.items() for row in rows if row["state"] == "wrong"}
    assert wrong == {"store", "mlflow", "ray"}
    assert "choose a local folder" in found["store"][0]["words"]
    assert "mend tracking.uri" in found["mlflow"][0]["words"]
    assert f"no Ray answers at {NOBODY}" in found["ray"][0]["words"]


def test_a_data_set_that_is_missing_is_named(archipelago: CommandLine, tmp_path: Path) -> None:
    found = findings(
        archipelago, "camvid-quick", "--set", f"data.root={tmp_path}/none", "--address", NOBODY, exit_code=1
    )
    assert [row["state"] for row in found["recipe"]] == ["wrong"]
    assert f"{tmp_path}/none" in found["recipe"][0]["words"]


def test_a_limit_that_nothing_is_within_is_said(archipelago: CommandLine, camvid_root: Path) -> None:
    limits = ["--set", "objectives.1.at_most=1", "--set", f"data.root={camvid_root}"]
    found = findings(archipelago, "camvid-quick", *limits, "--address", NOBODY, exit_code=1)
    assert "367 images to train on" in found["recipe"][0]["words"]
    assert "objectives.macs.at_most" in found["recipe"][-1]["words"]


@pytest.mark.parametrize("name", ["host:100:", ":smile:"])
def test_what_was_typed_is_printed_as_it_was_typed(archipelago: CommandLine, name: str) -> None:
    archipelago.address = name
    assert name in archipelago("status", "nothing").stderr
