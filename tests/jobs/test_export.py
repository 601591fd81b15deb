"""`archipelago export`: files that give the recorded mIoU to someone who has nothing else; the door for notebooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import jobs
from jobs import load_network, load_study
from jobs.export import checked
from jobs.networks import StudyNetworks
from jobs.study import Study
from search_spaces.data.registry import load
from search_spaces.data.segmentation import SegmentationData
from search_spaces.data.settings import SyntheticSettings
from tests.jobs.conftest import TINY, TOY, CommandLine


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with the finished study `tiny`, one of whose candidates has been trained from scratch twice."""
    archipelago = CommandLine(tmp_path_factory.mktemp("export"))
    assert archipelago("search", archipelago.recipe(TINY), "--in-process").exit_code == 0
    result = archipelago("retrain", "tiny", "branches-2/1", "--seeds", "2", "--in-process")
    assert result.exit_code == 0, result.stderr
    return archipelago


@pytest.fixture(scope="module")
def data() -> SegmentationData:
    return load(SyntheticSettings(**TINY["data"]))


def export(study: CommandLine, candidate: str, form: str, file: Path, *options: str) -> dict[str, Any]:
    result = study("export", "tiny", candidate, "--format", form, "--out", str(file), *options, "--json")
    assert result.exit_code == 0, result.stderr
    row: dict[str, Any] = json.loads(result.stdout)
    return row


def recorded(study: CommandLine, candidate: str) -> float:
    rows = study.rows("candidates", "tiny")
    return next(float(row["miou"]) for row in rows if f"{row['island']}/{row['number']}" == candidate)


def miou(classes: Callable[[np.ndarray], np.ndarray], data: SegmentationData) -> float:
    """As anyone computes it: intersection over union of each class over all pixels, and their mean."""
    labels, found = data.validation.labels.numpy(), classes(data.validation.images.numpy())
    pairs = [((labels == k) & (found == k), (labels == k) | ((found == k) & (labels != 255))) for k in range(19)]
    return float(np.mean([hit.sum() / union.sum() for hit, union in pairs if union.any()]))


@pytest.mark.parametrize("candidate", ["branches-1/0", "branches-2/1", "branches-3/2"])
def test_the_torch_form_gives_the_recorded_miou(
    study: CommandLine, candidate: str, data: SegmentationData, tmp_path: Path
) -> None:
    row = export(study, candidate, "torch", tmp_path / "network.safetensors")
    network = load_network(tmp_path / "network.safetensors")
    with torch.no_grad():
        found = miou(lambda images: network(torch.from_numpy(images)).argmax(1).numpy(), data)
    assert row["miou"] == recorded(study, candidate)
    assert found == pytest.approx(recorded(study, candidate), abs=1e-3)
    assert row["largest_difference"] < 1e-4


def test_onnx_gives_the_recorded_miou_and_says_what_it_is(
    study: CommandLine, data: SegmentationData, tmp_path: Path
) -> None:
    export(study, "branches-2/1", "onnx", tmp_path / "network.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    found = miou(lambda images: np.asarray(session.run(None, {"image": images})[0]).argmax(1), data)
    assert found == pytest.approx(recorded(study, "branches-2/1"), abs=1e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["study"], metadata["candidate"]) == ("tiny", "branches-2/1")
    assert json.loads(metadata["class_names"]) == list(data.class_names)
    assert json.loads(metadata["miou"]) == recorded(study, "branches-2/1")
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_inputs()[0].type == "tensor(uint8)"


def test_retrained_weights_are_the_best_trials_or_the_one_of_a_seed(
    study: CommandLine, data: SegmentationData, tmp_path: Path
) -> None:
    trials = load_study("tiny", study.address).retrained().to_pylist()
    best = max(trials, key=lambda trial: trial["miou"])
    file = tmp_path / "network.safetensors"
    assert export(study, "branches-2/1", "torch", file, "--retrained")["trial"] == best["trial"]
    for trial in trials:
        row = export(study, "branches-2/1", "torch", file, "--retrained", "--seed", str(trial["seed"]))
        assert (row["seed"], row["weights"], row["trained"]) == (trial["seed"], trial["weights"], "retrained")
        network = load_network(file)
        with torch.no_grad():
            found = miou(lambda images: network(torch.from_numpy(images)).argmax(1).numpy(), data)  # noqa: B023
        assert found == pytest.approx(trial["miou"], abs=1e-3)


def test_a_file_that_computes_something_else_is_refused(study: CommandLine) -> None:
    networks = StudyNetworks(Study.at("tiny", study.address))
    for output in ("logits", "classes"):
        made, other = (networks.network(name, output) for name in ("branches-2/1", "branches-1/0"))

        def run(images: np.ndarray, network: Any = other.network) -> np.ndarray:
            with torch.no_grad():
                return np.asarray(network(torch.from_numpy(images)).numpy())

        with pytest.raises(ValueError, match=r"net\.onnx was not written: its logits differ"):
            checked(made, run, Path("net.onnx"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("branches-1/99", "--out", "net.onnx"), "candidate branches-1/99 does not exist"),
        (("branches-1/0", "--out", "missing/net.onnx"), "--out must be a file in a folder that exists"),
        (("branches-1/0", "--out", "net.onnx", "--seed", "1"), "add --retrained"),
        (("branches-1/0", "--out", "net.onnx", "--retrained"), "has no finished training from scratch"),
        (("branches-2/1", "--out", "net.onnx", "--retrained", "--seed", "7"), "with seed 7 (seeds that have: "),
        (("branches-1/0", "--out", "net.onnx", "--set", "space.filters=3"), "only data.root= can be changed"),
    ],
)
def test_what_cannot_be_exported_is_said(
    study: CommandLine, arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = study("export", "tiny", "--format", "onnx", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_space_without_networks_has_nothing_to_export(archipelago: CommandLine, tmp_path: Path) -> None:
    assert archipelago("search", archipelago.recipe(TOY), "--in-process").exit_code == 0
    result = archipelago("export", "toy", "ridge/0", "--format", "torch", "--out", str(tmp_path / "net"))
    assert result.exit_code == 2
    assert "which has no networks" in result.stderr


def test_the_lines_of_the_docstring_run(study: CommandLine) -> None:
    assert jobs.__doc__
    lines = [line.strip() for line in jobs.__doc__.splitlines() if line.startswith("    ")]
    names: dict[str, Any] = {}
    for line in lines:
        exec(line.replace("camvid-quick", str(study.store / "tiny")), names)
    assert len(names["table"]) == 9
    assert set(names["front"].candidate) <= set(names["table"].candidate)
    assert str(names["architecture"]) == names["table"].set_index("candidate").architecture["branches-2/0"]
    assert names["network"](torch.zeros(1, 3, 32, 64, dtype=torch.uint8)).shape[2:] == (32, 64)
    assert set(names["trials"].candidate) == {"branches-2/1"}


def test_tables_hold_what_the_commands_print(study: CommandLine) -> None:
    loaded = load_study("tiny", study.address)
    table = loaded.candidates().to_pylist()
    printed = study.rows("candidates", "tiny")
    assert [(row["island"], row["number"], row["miou"]) for row in table] == [
        (row["island"], row["number"], row["miou"]) for row in printed
    ]
    fronts = {(row["island"], row["number"]) for row in study.rows("front", "tiny")}
    assert {(row["island"], row["number"]) for row in table if row["on_front"]} == fronts
    merged = {row["candidate"] for row in loaded.front().to_pylist()}
    assert merged <= {f"{island}/{number}" for island, number in fronts}
    best = max(row["miou"] for row in table)
    assert loaded.front().to_pylist()[0]["miou"] == best
    assert loaded.drawing(loaded.front().to_pylist()[0]["candidate"]).startswith("<svg")
    with pytest.raises(ValueError, match="an island of study tiny is one of branches-1"):
        loaded.front("branches-9")


def test_a_module_from_a_notebook_gives_the_recorded_miou(study: CommandLine, data: SegmentationData) -> None:
    loaded = load_study("tiny", study.address)
    trial = max(loaded.retrained().to_pylist(), key=lambda row: row["miou"])
    for retrained, expected in ((False, recorded(study, "branches-2/1")), (True, trial["miou"])):
        network = loaded.module("branches-2/1", retrained=retrained)
        with torch.no_grad():
            found = miou(lambda images: network(torch.from_numpy(images)).argmax(1).numpy(), data)  # noqa: B023
        assert found == pytest.approx(expected, abs=1e-3)
