"""Studies whose supernet is trained further for each island alone: what they are searched with, and how they resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.file_store import FileStore
from infra.weights import load_weights
from jobs import load_network, load_study
from jobs.composition import load_data, make_island_space
from jobs.scoring import shared_scores
from orchestrator.study import read_study, read_weights
from search_spaces.apart import part_of
from search_spaces.data.registry import load
from search_spaces.data.settings import SyntheticSettings
from tests.jobs.conftest import TINY, TINY_HRNAS, CommandLine, wait_until, without_timings
from tests.jobs.test_export import miou

TRAINING = {"steps": 6, "batch_size": 2, "optimiser": "adamw", "island_steps": 4}
APART = {**TINY, "training": TRAINING}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with the finished study `tiny`, each of whose islands has weights of its own."""
    archipelago = CommandLine(tmp_path_factory.mktemp("apart"))
    result = archipelago("search", archipelago.recipe(APART), "--in-process")
    assert result.exit_code == 0, result.stderr
    said = "training the supernet for branches-3: step 4 of 4"
    assert said in result.stdout
    return archipelago


def weights(study: CommandLine, name: str = "tiny") -> dict[str, np.ndarray]:
    store = FileStore(study.store)
    digest = read_weights(store, name)
    assert digest is not None
    return load_weights(store, name, digest)


def test_candidates_are_scored_with_their_islands_weights(study: CommandLine) -> None:
    recipe = read_study(FileStore(study.store), "tiny").recipe
    data, every = load_data(recipe), weights(study)
    assert {name.split("/")[0] for name in every} == {"branches-1", "branches-2", "branches-3"}
    for island in ("branches-1", "branches-2", "branches-3"):
        rows = [row for row in study.rows("candidates", "tiny") if row["island"] == island]
        space = make_island_space(recipe, island, data.n_classes)
        networks = [space.architecture_from_json(row["architecture"]) for row in rows]
        own = shared_scores(space, part_of(every, island), data, recipe.evaluation, networks)
        assert own == [row["miou"] for row in rows]


def test_islands_begin_with_what_all_of_them_share(study: CommandLine) -> None:
    shared = study("search", study.recipe(TINY, study="shared", training={**TRAINING, "island_steps": 0}),
                   "--in-process")  # fmt: skip
    assert shared.exit_code == 0, shared.stderr
    kept = json.loads((study.store / "tiny" / "training.json").read_text())["digest"]
    assert kept == read_weights(FileStore(study.store), "shared")
    assert not [key for key in FileStore(study.store).list("tiny/training/") if key.endswith((".json", "HEAD"))]
    begun, own = weights(study, "shared"), part_of(weights(study), "branches-1")
    moved = [abs(array - begun[name][tuple(map(slice, array.shape))]).max() for name, array in own.items()]
    assert max(moved) > 0
    assert np.median(moved) < 0.5


@pytest.mark.parametrize("candidate", ["branches-1/0", "branches-3/2"])
def test_networks_of_it_give_what_the_search_recorded(study: CommandLine, candidate: str) -> None:
    file = study.folder / "network.safetensors"
    result = study("export", "tiny", candidate, "--format", "torch", "--out", str(file), "--output", "classes")
    assert result.exit_code == 0, result.stderr
    network, data = load_network(file), load(SyntheticSettings(**TINY["data"]))
    rows = study.rows("candidates", "tiny")
    recorded = next(row["miou"] for row in rows if f"{row['island']}/{row['number']}" == candidate)
    assert miou(lambda images: network(torch.from_numpy(images)).numpy(), data) == pytest.approx(recorded, abs=1e-6)
    assert load_study("tiny", str(study.store)).module(candidate) is not None
    file.unlink()


def test_what_follows_a_search_follows_this_one(study: CommandLine) -> None:
    for command in (
        ["retrain", "tiny", "branches-2/1", "--in-process"],
        ["export", "tiny", "branches-2/1", "--retrained", "--out", str(study.folder / "net.onnx"), "--format", "onnx"],
        ["trust", "tiny", "--in-process", "--sampled", "1", "--random", "0", "--fine-tune", "2"],
        ["report", "tiny", "--out", str(study.folder / "report.html")],
        ["plan", study.recipe(APART, study="planned"), "--in-process"],
        ["resume", "tiny", "--in-process", "--more", "1"],
    ):
        result = study(*command)
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(("where", "number"), [
    pytest.param("training/HEAD", signal.SIGKILL, marks=pytest.mark.slow),
    pytest.param("training/branches-1/HEAD", signal.SIGTERM, marks=pytest.mark.slow),
    ("training/branches-2/HEAD", signal.SIGKILL),
])  # fmt: skip
def test_training_that_was_ended_in_either_phase_ends_with_the_same_weights(
    archipelago: CommandLine, where: str, number: signal.Signals
) -> None:
    training = {**TRAINING, "steps": 25, "island_steps": 25, "checkpoint_s": 0.05}
    small = {**TINY, "training": training, "budget": {"evaluations_per_island": 2}}
    whole = archipelago("search", archipelago.recipe(small, study="whole"), "--in-process")
    assert whole.exit_code == 0, whole.stderr
    program = archipelago.start("search", archipelago.recipe(small), "--in-process")
    folder = archipelago.store / "tiny"
    wait_until((folder / where).is_file, program)
    program.send_signal(number)
    _, err = program.communicate(timeout=30)
    assert "Traceback" not in err
    assert not (folder / "weights.json").exists()
    resumed = archipelago("resume", "tiny", "--in-process")
    assert resumed.exit_code == 0, resumed.stderr
    assert (folder / "weights.json").read_text() == (archipelago.store / "whole" / "weights.json").read_text()
    assert without_timings(archipelago.rows("candidates", "tiny")) == without_timings(
        archipelago.rows("candidates", "whole")
    )


@pytest.mark.slow
def test_workers_on_ray_find_the_same_and_the_memo_knows_it(study: CommandLine, outside: dict[str, str]) -> None:
    """Under the name `remembered` the study is searched again by a worker of Ray, which has to score nothing."""
    workers = {**TINY["workers"], "memo": True}
    for name in ("on-ray", "remembered"):
        recipe = study.recipe(APART, study=name, workers=workers)
        program = study.start("search", recipe, environment=outside)
        _, err = program.communicate(timeout=200)
        assert program.returncode == 0, err
        assert (study.store / name / "canary.json").is_file()
    whole = [row for row in study.rows("candidates", "tiny") if row["number"] < 3]
    for name, source in (("on-ray", "worker"), ("remembered", "memo")):
        rows = study.rows("candidates", name)
        assert [row["miou"] for row in rows] == [row["miou"] for row in whole]
        assert {row["source"] for row in rows} == {source}


def test_islands_of_hrnas_are_trained_alone_too(archipelago: CommandLine) -> None:
    result = archipelago("search", archipelago.recipe(TINY_HRNAS, training=TRAINING), "--in-process")
    assert result.exit_code == 0, result.stderr
    assert {name.split("/")[0] for name in weights(archipelago)} == {"branches-1", "branches-2"}


def test_a_damaged_end_of_a_phase_is_named(archipelago: CommandLine) -> None:
    program = archipelago.start("search", archipelago.recipe(TINY, training={**TRAINING, "island_steps": 100_000}),
                                "--in-process")  # fmt: skip
    end: Path = archipelago.store / "tiny" / "training.json"
    wait_until(end.is_file, program)
    program.kill()
    program.communicate()
    end.write_bytes(end.read_bytes()[:-9])
    result = archipelago("resume", "tiny", "--in-process")
    assert result.exit_code == 2
    assert "tiny/training.json does not say what training ended with" in result.stderr
