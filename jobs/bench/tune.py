"""Candidates per second of work that takes no time: through our search on Ray, and through Ray Tune with Optuna.

What is compared is what a user gets who says no more than how many actors there are. Our search then goes by
generations, and gives a worker up to `workers.batch` candidates in a call, as many as the window lets it have; a trial
of Tune is one candidate. `batch 1` is our search without generations, a candidate a call, its window twice the workers.

Ours keeps its journal on the disk. Tune is given what makes it fast: its actors are used again, nothing is printed, and
its start-up is not counted. The sides take turns, and the medians of their rounds count, for other work on the machine
would else hit one of them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.ray_pool import RayPool
from jobs.bench.searches import ISLAND, bench_journal, bench_recipe, bench_search, bench_store
from jobs.bench.stand_ins import NO_TIME, IdleFactory
from jobs.composition import make_space
from orchestrator.config import Recipe, SamplerSettings, WorkerSettings
from search_spaces.base import digest

ROUNDS = 3
OURS, BATCH_1, TUNE = "search", "search, batch 1", "tune"


def rates(trials: int, more: int, workers: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Candidates per second of each side, by round; Tune gets `trials` of them, our search `more` times as many."""
    defaults = WorkerSettings()
    sides: dict[str, Callable[[], float]] = {
        OURS: lambda: search_rate(
            bench_recipe(
                more * trials,
                workers=workers,
                window=defaults.window,
                batch=defaults.batch,
                mode=SamplerSettings().mode,
            )
        ),
        BATCH_1: lambda: search_rate(bench_recipe(more * trials, workers=workers, window=2 * workers)),
        TUNE: lambda: tune_rate(trials, workers),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS):
        for name, side in sides.items():
            found[name].append(side())
            say(f"round {number + 1}, {name}: {found[name][-1]:.2f} candidates a second")
    return found


def search_rate(recipe: Recipe) -> float:
    """Candidates per second of our search, journal and all, when its workers are ready."""
    candidates, workers = recipe.budget.evaluations_per_island, recipe.workers.count
    assert workers is not None, "the bench says how many"
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        gathering = Path(folder, "gathering")
        gathering.mkdir()
        pool = RayPool(IdleFactory(NO_TIME, workers, gathering), {}, recipe.workers, recipe.latency)
        try:
            while pool.protocol_digest is None:
                pool.collect(1.0)
            search = bench_search(recipe, pool, bench_journal(recipe, bench_store(Path(folder, "store"))))
            began_s = time.perf_counter()
            search.run()
            return candidates / (time.perf_counter() - began_s)
        finally:
            pool.close()


def tune_rate(candidates: int, workers: int) -> float:
    """Trials per second of Ray Tune with OptunaSearch, from its first result to its last."""
    for name in ("RAY_AIR_NEW_OUTPUT", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"):
        os.environ.setdefault(name, "1" if "DISABLE" in name else "0")
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _tune(candidates, workers, folder)


def _tune(candidates: int, workers: int, folder: str) -> float:
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    recipe = bench_recipe(candidates, workers=workers, window=2 * workers)
    genes = make_space(recipe).cardinalities(ISLAND)
    space = {f"gene{position:03d}": tune.choice(list(range(size))) for position, size in enumerate(genes)}
    ends: list[float] = []

    class Clock(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ends.append(time.perf_counter())

    tuner = tune.Tuner(
        _trial,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(
                OptunaSearch(metric=["miou", "macs"], mode=["max", "min"]), max_concurrent=workers
            ),
            num_samples=candidates,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Clock()]),
    )
    tuner.fit()
    assert len(ends) == candidates, f"{len(ends)} of {candidates} trials have ended"
    return (len(ends) - 1) / (ends[-1] - ends[0])


def _trial(config: dict[str, int]) -> dict[str, float]:
    """The formula of `stand_ins.figures`, as Tune calls it."""
    from jobs.bench.stand_ins import figures
    from orchestrator.records import Candidate

    genotype = tuple(config.values())
    return figures(Candidate(ISLAND, 0, genotype, digest(list(genotype))))
