"""Trains chosen architectures from scratch, each as a trial of its own: `archipelago retrain`.

A trial that is in the study's store is not trained again, and one that was interrupted goes on from its last
checkpoint there. Several run at once, with Ray Tune; or one after the other in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from infra.weights import save_weights
from jobs.checkpoints import Checkpoints, train_to_end
from jobs.composition import load_data, make_network_space
from jobs.progress import Display
from jobs.recipe_file import changed
from jobs.retrained import Chosen, Ending
from jobs.search import Stop
from jobs.study import Study
from jobs.tracking import track_retrained
from orchestrator.config import Recipe
from orchestrator.evaluation.evaluator import NetworkEvaluator
from orchestrator.protocols import Store
from orchestrator.records import Candidate, Measurement
from orchestrator.retraining import Retrained, Trial, read_retrained, record_retrained
from orchestrator.study import library_versions, read_study
from search_spaces.alone import AloneSpace
from search_spaces.base import Architecture, NetworkSpace, architecture_id, digest
from search_spaces.data.images import ImageData
from search_spaces.settings import METRICS_OF
from search_spaces.supernet import Weights
from search_spaces.training.settings import RetrainingSettings, TrainingProgress, TrialProgress
from search_spaces.training.trainer import SupernetTrainer

CURVE_POINTS = 50
"""Of a trial's training loss."""


def retraining_settings(recipe: Recipe) -> RetrainingSettings:
    """The recipe's, or those of the supernet's training.

    Raises:
        ValueError: the recipe's space has no networks.
    """
    if recipe.retraining is not None:
        return recipe.retraining
    if recipe.training is None:
        raise ValueError(f"study {recipe.study} searches space {recipe.space.name}, which has no networks to train")
    return RetrainingSettings.like(recipe.training)


def retraining_space(recipe: Recipe, classes: int) -> NetworkSpace[Any]:
    """The recipe's space at the size at which its architectures are retrained."""
    settings = retraining_settings(recipe)
    sizes = {name: getattr(settings, name) for name in ("filters", "model_type")}
    space = recipe.space.model_copy(update={name: size for name, size in sizes.items() if size is not None})
    return make_network_space(recipe.model_copy(update={"space": space}), classes)


def trials(
    recipe: Recipe, data: ImageData, architectures: Sequence[tuple[str, Architecture]], seeds: int
) -> list[Trial]:
    """A trial for each distinct architecture, given with its island, and each of so many seeds."""
    settings = retraining_settings(recipe).model_dump(mode="json")
    protocol = recipe.evaluation.model_dump(mode="json")
    splits = [data.train.fingerprint, data.validation.fingerprint]
    circumstances = digest([recipe.space.model_dump(mode="json"), splits, protocol])
    distinct = {architecture_id(one): (island, one) for island, one in architectures}
    return [
        Trial(island, one.to_json(), name, seed, settings, circumstances)
        for name, (island, one) in distinct.items()
        for seed in range(seeds)
    ]


def retrain_candidates(
    study: Study,
    chosen: Sequence[Chosen],
    display: Display,
    seeds: int,
    overrides: Sequence[str],
    *,
    address: str | None,
    in_process: bool,
    at_once: int | None,
) -> Ending:
    """Trains candidates of a study from scratch, each `seeds` times.

    Raises:
        ValueError: something that was asked for cannot be done; one sentence.
        StoreError, TrainingFailed: as in `retrain`.
    """
    recipe = overridden(read_study(study.store, study.name).recipe, overrides)
    data = load_data(recipe)
    wanted = trials(recipe, data, [(one.island, one.architecture) for one in chosen], seeds)
    names = {one.architecture_id: one.name for one in chosen}
    signals = Stop()
    with signals.listening():
        results = retrain(
            recipe,
            study.store,
            wanted,
            display,
            signals,
            lambda trial: f"{names[trial.architecture_id]} seed {trial.seed}",
            address=address,
            in_process=in_process,
            at_once=at_once,
        )
    tell_mlflow(recipe, study, display)
    by_architecture = {
        one.architecture_id: [result for result in results if result.trial.architecture_id == one.architecture_id]
        for one in chosen
    }
    found = [(one, by_architecture[one.architecture_id]) for one in chosen]
    return Ending(found, len(wanted) - len(results), recipe.metric)


def tell_mlflow(recipe: Recipe, study: Study, display: Display) -> None:
    """Gives MLflow a run for each training, if the study is tracked; where that fails, a warning says what to do."""
    if not recipe.tracking.enabled:
        return
    try:
        track_retrained(recipe, study)
    except ConnectionError as error:
        display.say(f"warning: {error}")


def overridden(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with `retraining` filled in, and with other values there where overrides say so.

    Raises:
        ValueError: the space has no networks, or one line per mistake in the overrides.
    """
    filled = recipe.model_copy(update={"retraining": retraining_settings(recipe)})
    return changed(filled, overrides, ("retraining.", "data.root="))


def retrain(
    recipe: Recipe,
    store: Store,
    wanted: Sequence[Trial],
    display: Display,
    stop: Callable[[], bool],
    name: Callable[[Trial], str],
    *,
    address: str | None = None,
    in_process: bool = False,
    at_once: int | None = None,
) -> list[Retrained]:
    """The results of the wanted trials, in their order; fewer where `stop` said so.

    name: what people call a trial; at_once: most trials that run at the same time; None: as many as there is room for.

    Raises:
        DataError: the data set is missing or broken.
        StoreError: the store cannot be read or written.
        TrainingFailed: a trial's processes died again and again.
    """
    done = {result.trial.id for result in read_retrained(store, recipe.study)}
    missing = [trial for trial in wanted if trial.id not in done]
    if missing:
        with display.trials("training from scratch", [name(trial) for trial in missing]) as show:
            _run([Retraining(recipe, store, trial) for trial in missing], show, stop, address, in_process, at_once)
    found = {result.trial.id: result for result in read_retrained(store, recipe.study)}
    return [found[trial.id] for trial in wanted if trial.id in found]


def _run(
    jobs: Sequence[Retraining],
    show: Callable[[TrialProgress], None],
    stop: Callable[[], bool],
    address: str | None,
    in_process: bool,
    at_once: int | None,
) -> None:
    threads = retraining_settings(jobs[0].recipe).threads
    if not in_process:
        from infra.ray_tune import run_trials

        run_trials(jobs, threads, address, at_once, show, stop)
        return
    torch.set_num_threads(threads)
    for place, job in enumerate(jobs):
        job(partial(_show, show, place), stop)


def _show(show: Callable[[TrialProgress], None], place: int, progress: TrainingProgress) -> None:
    show(TrialProgress(place, progress))


@dataclass(frozen=True)
class Retraining:
    """Trains and scores one architecture, in whichever process it is called; picklable."""

    recipe: Recipe
    store: Store
    trial: Trial

    def __call__(self, on_progress: Callable[[TrainingProgress], None], stop: Callable[[], bool]) -> None:
        """Ends when the result is in the store, or after a checkpoint where `stop` asked for it.

        Raises:
            DataError: the data set is missing or broken.
            StoreError: the store cannot be read or written here.
        """
        recipe, store, trial = self.recipe, self.store, self.trial
        if stop():
            return
        began_s = time.monotonic()
        data = load_data(recipe)
        space = retraining_space(recipe, data.n_classes)
        only = AloneSpace(space, space.architecture_from_json(trial.architecture))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        settings = RetrainingSettings(**trial.settings).alone()
        trainer = SupernetTrainer(only, data, settings, trial.seed, device)
        checkpoints = Checkpoints(store, recipe.study, trial.place(recipe.study))
        if (state := checkpoints.newest()) is not None:
            trainer.restore(state)
        losses: list[tuple[int, float]] = []
        every = max(1, settings.steps // CURVE_POINTS)

        def show(progress: TrainingProgress) -> None:
            if progress.step % every == 0:
                losses.append((progress.step, progress.loss))
            on_progress(progress)

        if not train_to_end(trainer, show, stop, lambda: checkpoints.save(trainer.step, trainer.checkpoint())):
            return
        result = scored(recipe, only, data, trainer.weights(), trial)
        digest = save_weights(store, recipe.study, trainer.weights()) if result.metrics else ""
        took_s = time.monotonic() - began_s
        record_retrained(store, recipe.study, replace(result, weights=digest, losses=losses, device_s=took_s))
        checkpoints.clear()


def scored(recipe: Recipe, only: AloneSpace, data: ImageData, weights: Weights, trial: Trial) -> Retrained:
    """The trial's metrics: on validation by the search's protocol, and on the test split `test_miou` or
    `test_accuracy`."""
    metrics, failure = score_alone(recipe, only, data, weights)
    if not failure and len(data.test):
        held_out, failure = score_alone(recipe, only, replace(data, validation=data.test), weights)
        metric = METRICS_OF[data.task][0]
        metrics[f"test_{metric}"] = held_out.get(metric, float("nan"))
    return Retrained(trial, {} if failure else metrics, "", failure, versions=library_versions())


def score_alone(recipe: Recipe, only: AloneSpace, data: ImageData, weights: Weights) -> tuple[dict[str, float], str]:
    """Metrics of a network with weights of its own, and why there are none."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    evaluator = NetworkEvaluator(only, weights, data, recipe.evaluation, recipe.latency, device)
    candidate = Candidate(only.islands[0], 0, (), architecture_id(only.architecture))
    (result,) = evaluator.score([candidate])
    if not isinstance(result, Measurement):
        return {}, result.message
    if not np.isfinite(result.metrics[METRICS_OF[data.task][0]]):
        return {}, "its logits are not finite: training diverged; try a lower retraining.learning_rate"
    return dict(result.metrics), ""
