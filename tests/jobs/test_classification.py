"""A study of image classification on real images, from the search to files and notebooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from jobs import load_network, load_study
from search_spaces.data.images import ImageData
from search_spaces.data.registry import load
from search_spaces.data.settings import Cifar10Settings
from tests.jobs.conftest import TINY_IMAGES, CommandLine


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> CommandLine:
    """A store with the finished study `tiny` of six candidates, one of which has been trained from scratch."""
    archipelago = CommandLine(tmp_path_factory.mktemp("images"))
    tracked = archipelago.recipe(TINY_IMAGES, tracking={"enabled": True}, workers={"count": 1})
    result = archipelago("search", tracked, "--in-process")
    assert result.exit_code == 0, result.stderr
    result = archipelago("retrain", "tiny", "branches-2/1", "--in-process")
    assert result.exit_code == 0, result.stderr
    return archipelago


@pytest.fixture(scope="module")
def data(shared_data: Path) -> ImageData:
    return load(Cifar10Settings(root=str(shared_data / "cifar10" / "cifar-10-batches-bin")))


def hits(logits: Callable[[np.ndarray], np.ndarray], data: ImageData, top: int) -> float:
    """As anyone computes it: how often the label is among the highest logits."""
    highest = np.argsort(-logits(data.validation.images.numpy()), 1)[:, :top]
    return float((highest == data.validation.labels.numpy()[:, None]).any(1).mean())


def test_candidates_have_both_accuracies_and_costs(study: CommandLine) -> None:
    rows = study.rows("candidates", "tiny")
    assert len(rows) == 6
    for row in rows:
        assert 0 <= row["accuracy"] <= row["top5"] <= 1
        assert row["macs"] > 0
        assert "miou" not in row
    assert "top-5" in study("front", "tiny").stdout
    (first, *_) = study.rows("status", "tiny")
    assert (first["objective"], first["best"]) == ("accuracy", first["best_accuracy"])


def test_a_second_study_takes_its_scores_from_the_first(study: CommandLine) -> None:
    again = study.recipe(TINY_IMAGES, study="again", workers={"count": 1})
    assert study("search", again, "--in-process").exit_code == 0
    rows = study.rows("candidates", "again")
    assert {row["source"] for row in rows} == {"memo"}
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in study.rows("candidates", "tiny")]


@pytest.mark.slow
def test_files_give_the_recorded_accuracy(study: CommandLine, data: ImageData, tmp_path: Path) -> None:
    rows = {f"{row['island']}/{row['number']}": row for row in study.rows("candidates", "tiny")}
    for form in ("onnx", "torch"):
        file = tmp_path / f"network.{form}"
        result = study("export", "tiny", "branches-2/1", "--format", form, "--out", str(file), "--json")
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        assert (told["task"], told["output_form"]) == ("classification", "float32 (batch, classes)")
        assert told["class_names"] == list(data.class_names)
        assert told["largest_difference"] < 1e-4
        for name in ("accuracy", "top5"):
            assert told[name] == rows["branches-2/1"][name]
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(data.class_names)
    network = load_network(tmp_path / "network.torch")

    def from_torch(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]

    for run in (lambda images: np.asarray(session.run(None, {"image": images})[0]), from_torch):
        assert hits(run, data, 1) == pytest.approx(rows["branches-2/1"]["accuracy"], abs=0.021)  # one image of 50
        assert hits(run, data, 5) == pytest.approx(rows["branches-2/1"]["top5"], abs=0.021)


def test_classes_are_an_output_and_coarse_logits_are_none(study: CommandLine, data: ImageData, tmp_path: Path) -> None:
    arguments = ("export", "tiny", "branches-1/0", "--format", "onnx", "--out", str(tmp_path / "net.onnx"))
    result = study(*arguments, "--output", "classes")
    assert result.exit_code == 0, result.stderr
    assert f"accuracy {study.rows('candidates', 'tiny')[0]['accuracy']:.4f} over 50 images of 32x32" in result.stdout
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (found,) = session.run(None, {"image": data.test.images[:7].numpy()})
    assert (found.shape, found.dtype) == ((7,), np.int64)
    refused = study(*arguments, "--output", "coarse-logits")
    assert refused.exit_code == 2
    assert "--output coarse-logits is none of networks for classification: take logits or classes" in refused.stderr


def test_training_from_scratch_is_scored_by_accuracy(study: CommandLine, data: ImageData, tmp_path: Path) -> None:
    loaded = load_study("tiny", study.address)
    (trial,) = loaded.retrained().to_pylist()
    assert 0 <= trial["accuracy"] <= trial["top5"] <= 1
    assert 0 <= trial["test_accuracy"] <= 1
    file = tmp_path / "network.safetensors"
    arguments = ("export", "tiny", "branches-2/1", "--format", "torch", "--out", str(file), "--retrained")
    assert study(*arguments).exit_code == 0
    with torch.no_grad():
        mine, theirs = (net(data.test.images[:4]) for net in (load_network(file), loaded.module("branches-2/1", True)))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert mine.shape == (4, 10)
    assert "accuracy" in loaded.candidates().column_names


def test_the_report_speaks_of_accuracy(study: CommandLine, tmp_path: Path) -> None:
    result = study("report", "tiny", "--out", str(tmp_path / "report.html"))
    assert result.exit_code == 0, result.stderr
    page: Any = (tmp_path / "report.html").read_text()
    assert "accuracy of networks trained from scratch" in page
    assert "high accuracy" in page
