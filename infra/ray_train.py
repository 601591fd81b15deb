"""Training in several processes, with Ray Train: it places and starts them, joins them in torch's process group, and
starts them all again when one is lost.

    driver  --asks to stop-->  Board  <--progress, whether to go on--  rank 0, 1, ...
                                 ^--what they died of--  Ray Train's controller

Ray Train keeps no checkpoints here: a job that starts again goes on from what it has put into the study's store.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import ray
import torch
from ray.train import get_context
from ray.train.torch import get_device
from ray.train.v2._internal.exceptions import InsufficientClusterResourcesError, WorkerGroupStartupTimeoutError
from ray.train.v2.api.callback import UserCallback  # of `ray.train` mypy sees the first version
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import ControllerError
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from infra.ray_cluster import connect
from infra.ray_worker import DEATHS_IN_A_ROW
from orchestrator.protocols import StoreError
from search_spaces.training.endings import TrainingFailed
from search_spaces.training.ranks import Ranks
from search_spaces.training.settings import TrainingProgress

log = logging.getLogger(__name__)

STARTS = 5
"""How often Ray Train waits for room in the cluster, a minute each."""
NO_ROOM = (InsufficientClusterResourcesError, WorkerGroupStartupTimeoutError)
SAY_S = 0.2
"""Seconds between what the first rank tells the driver, at least, and between the driver's looks."""
OPTIONS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how fast a death is seen; 2 by default
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a recipe's paths are relative to where the study was started
}


class TrainingJob(Protocol):
    """What each process runs. Picklable; it ends at the training's end, or where `stop` asked it to.

    It must be ready to be started again at any time, from what it has saved. `saved` is to be called after that.
    """

    def __call__(
        self,
        ranks: Ranks,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None],
        stop: Callable[[], bool],
        saved: Callable[[], None],
    ) -> None: ...


def train_on_ray(
    job: TrainingJob,
    workers: int,
    threads: int,
    address: str | None,
    on_progress: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> None:
    """Runs the job in `workers` processes, on a Ray of its own or on the one at `address`, until all of them end.

    Raises:
        ConnectionError: nothing answers at `address`.
        TrainingFailed: four deaths in a row saved nothing, or the cluster had no room.
        ValueError, StoreError: the job raised it, in any process.
    """
    for name, value in OPTIONS.items():
        os.environ.setdefault(name, value)
    owns_ray = connect(address, workers * threads, 0)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here).remote()
    try:
        with tempfile.TemporaryDirectory(prefix="ray-train-") as scratch:
            fitting = _Fitting(_trainer(job, workers, threads, board, scratch))
            while fitting.is_alive():
                fitting.join(SAY_S)
                progress = ray.get(board.look.remote(stop()))
                if progress is not None:
                    on_progress(progress)
        mistake, deaths = ray.get(board.ending.remote())
    except BaseException:  # such as a lost lease: nobody looks after the processes any more
        board.look.remote(True)
        raise
    finally:
        if owns_ray:
            ray.shutdown()
    if mistake is not None:
        raise mistake
    if deaths is not None:
        raise TrainingFailed(f"training processes died {DEATHS_IN_A_ROW} times in a row: {deaths}")
    if fitting.no_room:
        each = f"{threads} CPUs" + (" and a GPU" if fitting.use_gpu else "")
        raise TrainingFailed(f"the cluster has no room for training.workers: {workers} processes with {each} each")
    if fitting.error is not None:
        raise TrainingFailed(f"Ray Train ended: {_words(fitting.error)}") from fitting.error


def _trainer(job: TrainingJob, workers: int, threads: int, board: Any, scratch: str) -> TorchTrainer:
    use_gpu = "GPU" in ray.cluster_resources()  # type: ignore[no-untyped-call]
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return TorchTrainer(
        partial(_run, job, threads, board),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": threads}),
        run_config=RunConfig(
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=-1, controller_failure_limit=STARTS - 1),
            callbacks=[_Deaths(board)],
            worker_runtime_env={"env_vars": dict.fromkeys(variables, str(threads))},
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )


class _Fitting(threading.Thread):
    """Ray Train's `fit`, which would block the thread that listens to signals."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="ray-train", daemon=True)
        self.use_gpu = trainer.scaling_config.use_gpu
        self.error: Exception | None = None
        self._trainer = trainer
        self.start()

    @property
    def no_room(self) -> bool:
        error = self.error
        return isinstance(error, ControllerError) and isinstance(error.controller_failure, NO_ROOM)

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error


def _run(job: TrainingJob, threads: int, board: Any) -> None:
    """One process, from start to end. What a user can mend is told to the driver; the rest is Ray Train's."""
    if not ray.get(board.begin.remote()):
        return
    torch.set_num_threads(threads)
    context = get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    teller = _Teller(board)
    silent, unasked = (lambda progress: None), (lambda: False)
    try:
        if ranks.rank == 0:
            job(ranks, get_device(), teller.tell, teller.stopping, lambda: ray.get(board.saved.remote()))
        else:
            job(ranks, get_device(), silent, unasked, lambda: None)
    except (ValueError, StoreError) as error:
        ray.get(board.mistaken.remote(error))
        raise


class _Teller:
    """Tells the board of progress, never waiting for it, and learns whether to stop."""

    def __init__(self, board: Any) -> None:
        self._board, self._call, self._told_s, self._stopping = board, None, 0.0, False

    def tell(self, progress: TrainingProgress) -> None:
        now_s = time.monotonic()
        done = progress.step == progress.steps
        if done or (now_s - self._told_s > SAY_S and self._answered()):
            self._call, self._told_s = self._board.tell.remote(progress), now_s

    def stopping(self) -> bool:
        if self._answered() and self._call is not None:
            self._stopping, self._call = ray.get(self._call), None
        return self._stopping

    def _answered(self) -> bool:
        return self._call is None or bool(ray.wait([self._call], timeout=0)[0])


@dataclass
class _Deaths(UserCallback):
    """Tells the board what training processes died of; lives in Ray Train's controller."""

    board: Any

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        words = "; ".join(f"rank {rank}: {_words(error)}" for rank, error in sorted(worker_exceptions.items()))
        self.board.died.remote(words)


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


@dataclass
class Board:
    """What the driver and the processes of a training know of each other; an actor beside the driver."""

    progress: TrainingProgress | None = None
    asked_to_stop: bool = False
    mistake: Exception | None = None
    """What a user can mend."""
    deaths: list[str] = field(default_factory=list)
    """Since something was saved."""

    def begin(self) -> bool:
        """Whether a process that starts has anything to do."""
        return not self.asked_to_stop and self.mistake is None and len(self.deaths) < DEATHS_IN_A_ROW

    def tell(self, progress: TrainingProgress) -> bool:
        """Takes the newest progress; whether to stop."""
        self.progress = progress
        return self.asked_to_stop

    def saved(self) -> None:
        self.deaths.clear()

    def mistaken(self, mistake: Exception) -> None:
        self.mistake = mistake

    def died(self, cause: str) -> None:
        self.deaths.append(cause)

    def look(self, stop: bool) -> TrainingProgress | None:
        """The driver's wish, for the newest progress."""
        self.asked_to_stop = self.asked_to_stop or stop
        return self.progress

    def ending(self) -> tuple[Exception | None, str | None]:
        """The mistake, if it was one; else what the last process died of, if that was the end."""
        return self.mistake, self.deaths[-1] if len(self.deaths) >= DEATHS_IN_A_ROW else None
