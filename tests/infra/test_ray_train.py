"""Training processes on a real local Ray: how they are placed, and how they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
import torch
import torch.distributed as dist

from infra import ray_cluster
from infra.ray_train import Board, train_on_ray
from search_spaces.training.endings import TrainingFailed
from search_spaces.training.ranks import Ranks
from search_spaces.training.settings import TrainingProgress


@pytest.fixture(scope="module", autouse=True)
def _ray(environment: None) -> Iterator[None]:
    assert ray_cluster.connect(None, 2, 2**20)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class ScriptedJob:
    """Does what `fate` says, and leaves a line in `folder` for each process that starts."""

    folder: Path
    fate: str

    def __call__(
        self,
        ranks: Ranks,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None],
        stop: Callable[[], bool],
        saved: Callable[[], None],
    ) -> None:
        with (self.folder / "log").open("a") as log:
            log.write(f"{ranks.rank} {ranks.count} {device} {torch.get_num_threads()} {Path.cwd()}\n")
        if self.fate == "mistaken" and ranks.rank == 1:
            raise ValueError("data/street: no such folder")
        while self.fate == "waits" and ranks.rank == 0 and not stop():
            on_progress(TrainingProgress(1, 2, 0.5, None))
            time.sleep(0.01)
        dist.barrier()


def processes(folder: Path) -> list[list[str]]:
    return sorted(line.split() for line in (folder / "log").read_text().splitlines())


def test_processes_are_placed_report_and_stop(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    train_on_ray(ScriptedJob(tmp_path, "waits"), 2, 1, None, seen.append, lambda: bool(seen))
    assert set(seen) == {TrainingProgress(1, 2, 0.5, None)}
    assert processes(tmp_path) == [[rank, "2", "cpu", "1", str(Path.cwd())] for rank in "01"]


@pytest.mark.slow
def test_a_mistake_of_any_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data/street: no such folder"):
        train_on_ray(ScriptedJob(tmp_path, "mistaken"), 2, 1, None, lambda progress: None, lambda: False)
    ranks = [rank for rank, *_ in processes(tmp_path)]
    assert ranks in (["0", "1"], ["1"]), "nobody tries again"


def test_a_cluster_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "0.2")
    with pytest.raises(TrainingFailed, match=r"no room for training\.workers: 2 processes with 2 CPUs each"):
        train_on_ray(ScriptedJob(tmp_path, "waits"), 2, 2, None, lambda progress: None, lambda: False)


def test_deaths_in_a_row_are_the_end() -> None:
    board = Board()
    for number in range(6):
        board.died(f"rank 1: killed {number}")
        if number == 1:
            board.saved()
        assert board.begin() == (number < 5)
    assert board.ending() == (None, "rank 1: killed 5")


def test_who_is_asked_to_stop_does_not_begin() -> None:
    board = Board()
    assert board.begin()
    assert board.look(stop=True) is None
    assert board.tell(TrainingProgress(1, 2, 0.5, None))
    assert not board.begin()
    assert board.ending() == (None, None)
