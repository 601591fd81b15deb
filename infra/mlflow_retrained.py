"""Networks trained from scratch as MLflow shows them: a run for each trial, below the candidate that it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infra.mlflow_client import Metric, MlflowClient, Param, Run
from infra.mlflow_found import IDENTITY, LEVEL, PARENT, STUDY, by_age, find, search
from infra.mlflow_runs import BATCH_METRICS, BATCH_PARAMS, RUNNING
from orchestrator.retraining import Retrained

TRIAL = "archipelago.trial"
TRAINED_OF = "archipelago.trained_of"
"""The id of the study's run, on every run of a network trained from scratch."""
LOSS = "training_loss"


def write_retrained(uri: str, experiment: str, study: str, identity: str, results: Sequence[Retrained]) -> int:
    """How many runs were made or completed; those that are there already are left alone.

    The study's own run must be there: without it there is nothing to put them below, and none is made.

    Raises:
        MlflowException: MLflow cannot be reached or refuses.
    """
    client = MlflowClient(uri)
    place = client.get_experiment_by_name(experiment)
    if place is None:
        return 0
    found = find(client, place.experiment_id, {STUDY: study, IDENTITY: identity, LEVEL: "study"})
    if found.root is None:
        return 0
    root = found.root.info.run_id
    parents = {run.architecture_id: run.run_id for run in found.candidates.values()}
    runs = by_age(search(client, place.experiment_id, {TRAINED_OF: root}))
    known = {run.data.tags[TRIAL]: run for run in reversed(runs)}
    missing = [result for result in results if _is_unfinished(known.get(result.trial.id))]
    for result in missing:
        run = known.get(result.trial.id)
        if run is None:
            tags = _tags(result, root, parents.get(result.trial.architecture_id, root))
            run = client.create_run(place.experiment_id, tags=tags, run_name=_name(result))
        _complete(client, run, result)
    return len(missing)


def _is_unfinished(run: Run | None) -> bool:
    return run is None or run.info.status == RUNNING


def _name(result: Retrained) -> str:
    return f"from scratch, {result.trial.settings['steps']} steps, seed {result.trial.seed}"


def _tags(result: Retrained, root: str, parent: str) -> dict[str, str]:
    trial = result.trial
    tags = {TRIAL: trial.id, TRAINED_OF: root, LEVEL: "retraining", PARENT: parent, "island": trial.island}
    tags |= {"arch_id": trial.architecture_id, "weights": result.weights}
    return tags | ({"failure": result.failure} if result.failure else {})


def _complete(client: MlflowClient, run: Run, result: Retrained) -> None:
    """Writes settings, metrics and the training loss, at the time when the run began: a second time is the same."""
    at_ms, run_id = run.info.start_time, run.info.run_id
    params = [Param(name, str(value)) for name, value in {**result.trial.settings, "seed": result.trial.seed}.items()]
    values = {**result.metrics, "device_s": result.device_s}
    points = [Metric(name, value, at_ms, 0) for name, value in values.items() if math.isfinite(value)]
    points += [Metric(LOSS, loss, at_ms, step) for step, loss in result.losses if math.isfinite(loss)]
    client.log_batch(run_id, points[:BATCH_METRICS], params[:BATCH_PARAMS])
    client.set_terminated(run_id, "FAILED" if result.failure else "FINISHED")
