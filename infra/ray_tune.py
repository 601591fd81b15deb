"""Independent trainings side by side, with Ray Tune: it finds room for each and starts again the ones that are lost.

Ray Tune keeps no checkpoints here and returns no results: a job goes on from what it has put into the study's store,
and leaves its result there.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from infra.ray_cluster import connect
from orchestrator.protocols import StoreError
from search_spaces.training.endings import TrainingFailed
from search_spaces.training.settings import TrainingProgress, TrialProgress

STARTS_AGAIN = 3
"""How often a trial whose process died is started again."""
SAY_S = 0.5
"""Seconds between what a trial tells the driver, at least, and between the driver's looks."""
OPTIONS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from Tune's own folder
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a recipe's paths are relative to where the command was typed
}


class TrialJob(Protocol):
    """What a trial runs. Picklable; ready to be started again at any time, from what it has saved."""

    def __call__(self, on_progress: Callable[[TrainingProgress], None], stop: Callable[[], bool]) -> None: ...


def run_trials(
    jobs: Sequence[TrialJob],
    cpus: int,
    address: str | None,
    at_once: int | None,
    on_progress: Callable[[TrialProgress], None],
    stop: Callable[[], bool],
) -> None:
    """Runs each job, with so many CPUs and a GPU where the cluster has any, until all have ended.

    at_once: most jobs that run at the same time; None: as many as there is room for. `on_progress` names a job
    by its place in `jobs`. Where `stop` says so, the jobs are asked to save and to end.

    Raises:
        ConnectionError: nothing answers at `address`.
        TrainingFailed: a job's process died four times, or it failed.
        ValueError, StoreError: a job raised it.
    """
    for name, value in OPTIONS.items():
        os.environ.setdefault(name, value)
    owns_ray = connect(address, max(cpus, os.cpu_count() or 1), 0)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    board: Any = ray.remote(num_cpus=0)(Board).remote()
    told = _Told()
    try:
        with tempfile.TemporaryDirectory(prefix="ray-tune-") as scratch:
            tuning = _Tuning(_tuner(jobs, cpus, board, at_once, told, scratch))
            while tuning.is_alive():
                tuning.join(SAY_S)
                if stop():
                    ray.get(board.stop.remote())
                for progress in told.take():
                    on_progress(progress)
            mistake = ray.get(board.ending.remote())
    except BaseException:  # such as a second Ctrl-C: nobody looks after the jobs any more
        board.stop.remote()
        raise
    finally:
        if owns_ray:
            ray.shutdown()
    if mistake is not None:
        raise mistake
    if tuning.error is not None:
        raise TrainingFailed(f"Ray Tune ended: {tuning.error}") from tuning.error


def _tuner(
    jobs: Sequence[TrialJob], cpus: int, board: Any, at_once: int | None, told: _Told, scratch: str
) -> tune.Tuner:
    gpus = 1 if "GPU" in ray.cluster_resources() else 0  # type: ignore[no-untyped-call]
    references = ray.put(list(jobs))

    def trial(config: dict[str, int]) -> None:
        _run(ray.get(references)[config["place"]], board)

    return tune.Tuner(
        tune.with_resources(trial, {"cpu": cpus, "gpu": gpus}),
        param_space={"place": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(
            storage_path=scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=STARTS_AGAIN),
            callbacks=[told],
        ),
    )


def _run(job: TrialJob, board: Any) -> None:
    """One trial, in its process. What a user can mend is told to the driver, and ends all trials."""
    told_s = 0.0
    stopping = bool(ray.get(board.stopping.remote()))

    def tell(progress: TrainingProgress) -> None:
        nonlocal told_s, stopping
        if progress.step < progress.steps and time.monotonic() - told_s < SAY_S:
            return
        told_s = time.monotonic()
        tune.report({"progress": [progress.step, progress.steps, progress.loss, progress.left_s]})
        stopping = bool(ray.get(board.stopping.remote()))

    try:
        job(tell, lambda: stopping)
    except (ValueError, StoreError) as error:
        ray.get(board.mistaken.remote(error))


class _Told(TrialProgressCallback):
    """What trials have reported since the last look, in place of Ray Tune's callback of that name, which prints.

    It lives in the driver, and Ray Tune must be able to pickle it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._newest: dict[int, TrainingProgress] = {}

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        if "progress" in result:
            self._newest[trial.config["place"]] = TrainingProgress(*result["progress"])

    def take(self) -> list[TrialProgress]:
        """The newest progress of each trial that has reported."""
        newest, self._newest = self._newest, {}
        return [TrialProgress(place, progress) for place, progress in sorted(newest.items())]


class _Tuning(threading.Thread):
    """Ray Tune's `fit`, which would block the thread that listens to signals."""

    def __init__(self, tuner: tune.Tuner) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self.error: Exception | None = None
        self._tuner = tuner
        self.start()

    def run(self) -> None:
        try:
            results = self._tuner.fit()
            self.error = next(iter(results.errors), None)
        except Exception as error:
            self.error = error


class Board:
    """What the driver and the trials know of each other; an actor."""

    def __init__(self) -> None:
        self._stop, self._mistake = False, None

    def stop(self) -> None:
        self._stop = True

    def stopping(self) -> bool:
        """Whether trials are to save and to end."""
        return self._stop

    def mistaken(self, mistake: Exception) -> None:
        """Ends all trials: what is wrong with one of them is wrong with the next."""
        self._mistake, self._stop = self._mistake or mistake, True  # type: ignore[assignment]

    def ending(self) -> Exception | None:
        return self._mistake
