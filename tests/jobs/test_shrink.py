"""Search by shrinking: snapshots are candidates like any others, a stopped training goes on to the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.file_store import FileStore
from infra.weights import load_weights
from jobs import load_network, load_study
from jobs.shrink import Shrinking
from orchestrator.config import RecipeError, read_recipe
from orchestrator.shrinking import read_snapshot
from orchestrator.study import read_study, read_weights
from search_spaces.base import DrawnSpace, InvalidGenotype
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hrnas.snapshots import Snapshot, SnapshotSpace
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.supernet import Supernet
from search_spaces.training.settings import ShrinkingSettings, TrainingProgress
from tests.jobs.conftest import TINY_SHRINKING, CommandLine, wait_until, without_timings

STEPS = (0, 4, 8, 10)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with the finished study `tiny`."""
    archipelago = CommandLine(tmp_path_factory.mktemp("shrink"))
    result = archipelago("search", archipelago.recipe(TINY_SHRINKING), "--in-process")
    assert result.exit_code == 0, result.stderr
    return archipelago


def test_every_snapshot_is_a_candidate(study: CommandLine) -> None:
    rows = study.rows("candidates", "tiny")
    assert [(row["island"], row["number"], row["architecture"]["step"]) for row in rows] == [
        (island, number, step) for island in ("penalty-0", "penalty-0.05") for number, step in enumerate(STEPS)
    ]
    for island in ("penalty-0", "penalty-0.05"):
        macs = [row["macs"] for row in rows if row["island"] == island]
        assert macs == sorted(macs, reverse=True)
        assert macs[0] > macs[-1]
    assert all(0 <= row["miou"] <= 1 for row in rows)
    statuses = study.rows("status", "tiny")
    assert [(row["done"], row["budget"]) for row in statuses] == [(4, 4), (4, 4)]
    assert {row["island"] for row in study.rows("front", "tiny")} == {"penalty-0", "penalty-0.05"}


def test_a_finished_study_has_nothing_left_to_do(study: CommandLine) -> None:
    rows = study.rows("candidates", "tiny")
    assert study("resume", "tiny", "--in-process").exit_code == 0
    assert study.rows("candidates", "tiny") == rows
    store = FileStore(study.store)
    assert store.list("tiny/weights/") == [f"tiny/weights/{read_weights(store, 'tiny')}.safetensors"]
    result = study("resume", "tiny", "--more", "3", "--in-process")
    assert result.exit_code == 2
    assert "--more 3 is for studies that sample candidates, and tiny shrinks networks" in result.stderr


def test_a_snapshot_is_exported_with_its_own_weights(study: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    result = study("export", "tiny", "penalty-0.05/2", "--format", "torch", "--out", str(file), "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["trained"], row["stride"]) == ("shrunk", 4)
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    module = load_study(str(study.store / "tiny")).module("penalty-0.05/2")
    with torch.no_grad():
        assert torch.allclose(load_network(file)(images), module(images), atol=1e-4)
    params = sum(parameter.numel() for parameter in module.parameters())
    assert params == row["params"]


def test_what_is_for_supernets_alone_says_so(study: CommandLine) -> None:
    planned = study("plan", study.recipe(TINY_SHRINKING, study="other"))
    trusted = study("trust", "tiny", "--in-process")
    assert (planned.exit_code, trusted.exit_code) == (2, 2)
    assert "plan is for studies that search a supernet" in planned.stderr
    assert "trust is for scores under shared weights, and each network of tiny has its own" in trusted.stderr


def test_random_networks_of_its_size_are_trained_beside_a_snapshot(study: CommandLine) -> None:
    result = study("retrain", "tiny", "penalty-0.05/3", "--random", "2", "--in-process", "--json")
    assert result.exit_code == 0, result.stderr
    found, *random = json.loads(result.stdout)
    assert [one["candidate"] for one in random] == ["penalty-0.05/3 random 0", "penalty-0.05/3 random 1"]
    (trial,) = found["trials"]
    for one in random:
        assert one["trials"][0]["macs"] == pytest.approx(trial["macs"], rel=0.1)
        assert one["arch_id"] != found["arch_id"]


class Interrupted:
    """Asks a training to stop after some steps."""

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, 0

    def progress(self, _: TrainingProgress) -> None:
        self.steps += 1

    def stop(self) -> bool:
        return self.steps >= self.after


@pytest.mark.parametrize("after", [2, 4, 9])
def test_a_training_that_is_stopped_goes_on_to_the_same_snapshots(
    study: CommandLine, tmp_path: Path, after: int
) -> None:
    """Before a removal, right after one, and between two of them."""
    recipe = read_study(FileStore(study.store), "tiny").recipe
    other = FileStore(tmp_path)
    job = Shrinking(recipe, other, 0.05)
    while not job.done:
        interrupted = Interrupted(after)
        job(interrupted.progress, interrupted.stop)
        assert 0 < interrupted.steps <= after
    store, digest = FileStore(study.store), read_weights(FileStore(study.store), "tiny")
    assert digest is not None
    joined = load_weights(store, "tiny", digest)
    for step in STEPS:
        snapshot, known = (read_snapshot(place, "tiny", job.island, step) for place in (other, store))
        assert snapshot == known
        assert snapshot is not None
        weights = load_weights(other, "tiny", snapshot[1])
        mine = {name: array for name, array in joined.items() if name.startswith(f"{job.island}/{step}/")}
        assert len(mine) == len(weights)
        assert all(np.array_equal(mine[f"{job.island}/{step}/{name}"], array) for name, array in weights.items())


@pytest.mark.slow
def test_a_study_that_is_killed_after_a_removal_goes_on_to_the_same_candidates(tmp_path: Path) -> None:
    training = {"steps": 40, "batch_size": 2, "checkpoint_s": 0.05}
    document = {**TINY_SHRINKING, "training": training}
    disturbed, undisturbed = CommandLine(tmp_path / "disturbed"), CommandLine(tmp_path / "undisturbed")
    for one in (disturbed, undisturbed):
        one.folder.mkdir()
    program = disturbed.start("search", disturbed.recipe(document), "--in-process")
    folder = disturbed.store / "tiny" / "shrinking" / "penalty-0.05"
    wait_until(lambda: (folder / "8.json").exists() and (folder / "HEAD").exists(), program)
    program.kill()
    program.communicate()
    assert not (folder / "40.json").exists()
    assert disturbed("resume", "tiny", "--in-process").exit_code == 0
    assert undisturbed("search", undisturbed.recipe(document), "--in-process").exit_code == 0
    mine, theirs = (without_timings(one.rows("candidates", "tiny")) for one in (disturbed, undisturbed))
    assert mine == theirs
    digests = [read_weights(FileStore(one.store), "tiny") for one in (disturbed, undisturbed)]
    assert digests[0] == digests[1] is not None


@pytest.mark.slow
def test_trainings_side_by_side_leave_what_they_leave_one_after_the_other(study: CommandLine, tmp_path: Path) -> None:
    """With Ray Tune; and the candidates are evaluated by a worker."""
    archipelago = CommandLine(tmp_path)
    result = archipelago("search", archipelago.recipe(TINY_SHRINKING))
    assert result.exit_code == 0, result.stderr
    mine, theirs = (without_timings(one.rows("candidates", "tiny")) for one in (archipelago, study))
    assert mine == theirs


@pytest.mark.parametrize(
    ("section", "change", "sentence"),
    [
        ("space", {"branches": [1, 2]}, r"space.branches must have one entry with shrinking, .* got \[1, 2\]"),
        ("space", {"memory_limit_bytes": 10**9}, "space.memory_limit_bytes means nothing with shrinking"),
        ("sampler", {"name": "random"}, "sampler means nothing with shrinking"),
        ("budget", {"evaluations_per_island": 3}, "budget means nothing with shrinking"),
        ("training", {"subnets_per_step": 2}, "training.subnets_per_step means nothing with shrinking"),
        ("training", {"workers": 2, "batch_size": 4}, "training.workers means nothing with shrinking"),
        ("shrinking", {"penalties": []}, "shrinking.penalties must have at least 1 entry"),
        ("shrinking", {"penalties": [0.1, 0.10000000001]}, "shrinking: penalties must be distinct"),
        ("shrinking", {"threshold": 0}, "shrinking.threshold must be > 0, got 0"),
    ],
)
def test_what_makes_no_sense_beside_shrinking_is_refused(section: str, change: dict[str, Any], sentence: str) -> None:
    crop = {"augmentation": {"crop": [32, 32]}} if section == "space" else {}
    recipe = {**TINY_SHRINKING, "training": {**TINY_SHRINKING["training"], **crop}}
    with pytest.raises(RecipeError, match=sentence):
        read_recipe({**recipe, section: {**recipe.get(section, {}), **change}}, "recipe.yaml")


def test_only_networks_of_hrnas_shrink() -> None:
    recipe = {**TINY_SHRINKING, "space": {"name": "hyctas", "layers": 4, "filters": 1}}
    with pytest.raises(RecipeError, match="shrinking is for space hrnas, got space hyctas"):
        read_recipe(recipe, "recipe.yaml")


def test_the_report_draws_snapshots(study: CommandLine, tmp_path: Path) -> None:
    result = study("report", "tiny", "--out", str(tmp_path / "report.html"))
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "report.html").read_text()
    assert "under penalties 0, 0.05, units removed every 4 steps" in page
    assert "<svg" in page


def snapshots() -> SnapshotSpace:
    settings = HrnasSettings(**{**TINY_SHRINKING["space"], "parts": None})
    return SnapshotSpace(HrnasSpace(settings, 5), ShrinkingSettings(**TINY_SHRINKING["shrinking"]), 10)


def test_snapshots_are_architectures_of_their_own() -> None:
    space = snapshots()
    rng = np.random.default_rng(0)
    for island in space.islands:
        genotype = space.sample(island, rng)
        snapshot = space.decode(island, genotype)
        assert space.encode(snapshot) == (island, genotype)
        assert space.architecture_from_json(snapshot.to_json()) == snapshot
        assert isinstance(space, DrawnSpace)
        assert space.draw(snapshot) == space.space.draw(snapshot.network)
        assert {choice.kind for choice in space.choices(snapshot)} <= set(space.palette)
        assert space.properties(snapshot)["step"] == snapshot.step
    first, last = (Snapshot(0.05, step, space.space.largest(rng)) for step in (0, 10))
    ids = [{step.id for step in space.lower(one).steps} for one in (first, last)]
    assert not ids[0] & ids[1]
    names = {space.shared_names(step.operation)("x") for step in space.lower(last).steps}
    assert all(name.startswith("penalty-0.05/10/") for name in names)
    assert len(Supernet(space, torch.Generator()).weights) == 8 * len(Supernet(space.space, torch.Generator()).weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": 5}, "step must be one of 0, 4, 8, 10, got 5"),
        ({"penalty": 0.1}, "island must be one of penalty-0, penalty-0.05, got 'penalty-0.1'"),
        ({"penalty": "none"}, "penalty must be a number and step a whole number, got 'none' and 10"),
        ({"tokens": [0]}, "channels and tokens must list the same blocks"),
    ],
)
def test_descriptions_of_no_snapshot(change: dict[str, Any], words: str) -> None:
    space = snapshots()
    whole = Snapshot(0.05, 10, space.space.largest(np.random.default_rng(0)))
    with pytest.raises(InvalidGenotype, match=words):
        space.architecture_from_json({**whole.to_json(), **change})
