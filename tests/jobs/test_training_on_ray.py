"""Supernets trained in processes on Ray: the weights of one process, of the undisturbed run, and after a stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from infra import ray_cluster
from infra.file_store import FileStore
from infra.ray_train import train_on_ray
from jobs.train_supernet import SupernetTraining, supernet_weights
from orchestrator.config import Recipe, read_recipe
from orchestrator.study import create_study, read_weights
from search_spaces.training.endings import TrainingStopped
from search_spaces.training.ranks import Ranks
from search_spaces.training.settings import TrainingProgress
from tests.jobs.conftest import TINY, CommandLine

STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def _ray(outside: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in outside.items():
            patch.setenv(name, value)
        assert ray_cluster.connect(None, 2, 2**20)
        yield
        ray.shutdown()


def recipe(**training: Any) -> Recipe:
    settings = {"steps": STEPS, "batch_size": 4, "optimiser": "adamw", "checkpoint_s": 1e-6, **training}
    return read_recipe({**TINY, "training": settings}, "tiny.yaml")


def new_store(folder: Path, made: Recipe) -> FileStore:
    store = FileStore(folder)
    create_study(store, made)
    return store


@dataclass(frozen=True)
class KilledOnce:
    """A training whose process `rank` kills itself after `step` steps, the first time; `folder` has its steps."""

    training: SupernetTraining
    folder: Path
    rank: int
    step: int

    def __call__(
        self,
        ranks: Ranks,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None],
        stop: Callable[[], bool],
        saved: Callable[[], None],
    ) -> None:
        asked = 0

        def stop_or_die() -> bool:
            nonlocal asked
            asked += 1
            with (self.folder / f"steps-{ranks.rank}").open("a") as log:
                log.write(f"{asked}\n")
            if ranks.rank == self.rank and asked == self.step and not (self.folder / "dead").exists():
                (self.folder / "dead").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return stop()

        self.training(ranks, device, on_progress, stop_or_die, saved)


@pytest.mark.slow
def test_a_killed_process_changes_no_weight(tmp_path: Path) -> None:
    made, seen = recipe(workers=2), list[TrainingProgress]()
    whole, store = new_store(tmp_path / "whole", made), new_store(tmp_path / "killed", made)
    supernet_weights(made, whole, seen.append, lambda: False)
    assert (seen[-1].step, seen[-1].steps) == (STEPS, STEPS)
    job = KilledOnce(SupernetTraining(made, store), tmp_path, rank=1, step=7)
    train_on_ray(job, 2, 1, None, lambda progress: None, lambda: False)
    assert read_weights(store, made.study) == read_weights(whole, made.study)
    steps = (tmp_path / "steps-1").read_text().split()
    assert steps == [str(step) for step in (*range(1, 8), *range(1, STEPS - 6 + 1))], "it goes on after the sixth"
    assert not [key for key in store.list(made.study) if "training" in key], "checkpoints are forgotten"


@pytest.mark.slow
def test_islands_are_trained_by_all_processes_too(tmp_path: Path) -> None:
    made = recipe(workers=2, steps=3, island_steps=4)
    whole, store, seen = new_store(tmp_path / "whole", made), new_store(tmp_path / "killed", made), set[str]()
    supernet_weights(made, whole, lambda progress: seen.add(progress.island), lambda: False)
    assert "branches-3" in seen
    job = KilledOnce(SupernetTraining(made, store), tmp_path, rank=1, step=9)  # the second one of the second island
    train_on_ray(job, 2, 1, None, lambda progress: None, lambda: False)
    assert read_weights(store, made.study) == read_weights(whole, made.study)
    alone = (tmp_path / "steps-1").read_text().split()
    assert alone == [str(step) for step in (*range(1, 10), *range(1, 8))], "three of the second island, then the third"


def test_one_process_on_a_cluster_stops_resumes_and_ends_as_in_this_one(tmp_path: Path) -> None:
    made, seen = recipe(steps=120, checkpoint_s=60), list[TrainingProgress]()
    here, there = new_store(tmp_path / "here", made), new_store(tmp_path / "there", made)
    supernet_weights(made, here, lambda progress: None, lambda: False, in_process=True)
    with pytest.raises(TrainingStopped):
        supernet_weights(made, there, seen.append, lambda: bool(seen), address="this")
    assert 0 < seen[0].step < 120
    assert read_weights(there, made.study) is None
    supernet_weights(made, there, seen.append, lambda: False, address="this")
    assert read_weights(there, made.study) == read_weights(here, made.study)


def test_a_store_that_processes_do_not_see_is_told(tmp_path: Path) -> None:
    job = SupernetTraining(recipe(), FileStore(tmp_path / "elsewhere"))
    with pytest.raises(RuntimeError, match=r"the store is not the driver's on .*folder that all machines share"):
        job(Ranks(), torch.device("cpu"), lambda progress: None, lambda: False)


def test_several_processes_are_not_in_this_one(archipelago: CommandLine) -> None:
    file = archipelago.recipe(TINY, training={"steps": 2, "batch_size": 4, "workers": 2})
    result = archipelago("search", file, "--in-process")
    assert result.exit_code == 2
    assert "training.workers is 2, which needs Ray: leave out --in-process" in result.stderr
    assert not (archipelago.store / "tiny" / "manifest.json").exists()
