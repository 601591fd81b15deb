"""What a study will take: measured on a handful of its steps and candidates, before anything is spent.

A miniature of the study runs where the study would: a few training steps, then one batch of random candidates of each
island on the study's own workers, into a store that is thrown away. Later candidates have more in common with each
other than random ones; how much more is counted, not guessed: the study's own sampler evolves candidates for a made-up
objective, and the multiply-adds of the steps that are left in their batches are compared.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infra.file_store import FileStore
from infra.weights import save_weights
from jobs.composition import load_data, make_evaluator_factory, make_network_space, make_space, make_supernet_space
from jobs.progress import Display
from jobs.search import check_limits_of, make_pool
from jobs.study import Study
from jobs.tracking import NoTracker
from orchestrator.config import Recipe, lane_of
from orchestrator.foresight import Foresight, recipe_digest
from orchestrator.island import Island, make_islands
from orchestrator.journal import Journal
from orchestrator.loop import EndReason, Search
from orchestrator.memo import MemoPool
from orchestrator.objectives import Objectives
from orchestrator.projection import describer
from orchestrator.protocols import PoolExhausted
from orchestrator.randomness import generator
from orchestrator.records import Candidate, Failure, Measurement, Outcome
from orchestrator.study import create_study
from search_spaces.apart import ApartSpace, own_copies
from search_spaces.base import NetworkSpace, Program, Step
from search_spaces.complexity import ComplexityCounter, Shape
from search_spaces.supernet import Weights
from search_spaces.training.settings import TrainingSettings
from search_spaces.training.trainer import SupernetTrainer

WARM_STEPS = 3
MEASURED_S = 20.0
"""Of training, if it takes that long."""
LEAST_STEPS = 5
WINDOW_S = 0.5
"""Longest latency window of the miniature; what is missing is added."""


def foresee(recipe: Recipe, display: Display, address: str | None, in_process: bool) -> Foresight:
    """What the study will take where it would run.

    Raises:
        ValueError: something in the recipe cannot be run here; one sentence.
        ConnectionError: no Ray answers at `address`.
        PoolExhausted: no worker could be started.
    """
    if recipe.shrinking is not None:
        raise ValueError("plan is for studies that search a supernet: what a network that shrinks will take depends on "
                         "when it loses what")  # fmt: skip
    data = None if recipe.data is None else load_data(recipe)
    check_limits_of(recipe, data)
    step_s, weights = 0.0, dict[str, np.ndarray]()
    if recipe.training is not None:
        display.say("training a few steps")
        step_s, weights = _training(recipe)
    miniature = _miniature(recipe)
    with tempfile.TemporaryDirectory() as folder:
        display.say(f"evaluating {miniature.budget.evaluations_per_island} random candidates of each island")
        trial = _search(miniature, Path(folder), weights, address, in_process)
    islands = make_space(recipe).islands
    number = recipe.budget.evaluations_per_island * len(islands)
    shared = sharing(recipe, data.n_classes, (1, 3, *data.validation.size)) if data is not None else 1.0
    missing_s = max(0.0, recipe.latency.window_s - miniature.latency.window_s) if trial.latency_s else 0.0
    lanes = recipe.latency.lanes.values()
    display.say("evaluating a batch in a process of its own, for its memory")
    return Foresight(
        recipe=recipe_digest(recipe),
        workers=1 if in_process else recipe.workers.count or trial.workers,
        training_workers=recipe.training.workers if recipe.training else 1,
        candidates=number,
        training_s=step_s * _steps(recipe.training, len(islands)) if recipe.training else 0.0,
        start_s=trial.start_s,
        accuracy_s=number * trial.accuracy_s * shared,
        latency_s=number * (trial.latency_s + missing_s),
        lanes_apart=not in_process and all(lane.gpus or lane.resources for lane in lanes),
        store_bytes=trial.fixed_bytes + round(trial.candidate_bytes * number),
        worker_bytes=_worker_bytes(miniature, weights),
    )


def _training(recipe: Recipe) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds of an optimiser step here, and weights that have seen a few of them."""
    assert recipe.training is not None
    data = load_data(recipe)
    torch.set_num_threads(recipe.training.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = SupernetTrainer(make_network_space(recipe, data.n_classes), data, recipe.training, recipe.seed, device)
    trainer.step = min(recipe.training.warmup_largest_steps, recipe.training.steps - 1)
    for _ in range(WARM_STEPS):
        trainer.train_step()
    began_s, steps = time.monotonic(), 0
    while steps < LEAST_STEPS or (time.monotonic() - began_s < MEASURED_S and steps < recipe.training.steps):
        trainer.train_step()
        steps += 1
    step_s, supernet = (time.monotonic() - began_s) / steps, make_supernet_space(recipe, data.n_classes)
    weights = trainer.weights()
    return step_s, own_copies(supernet, weights) if isinstance(supernet, ApartSpace) else weights


def _steps(training: TrainingSettings, islands: int) -> int:
    """Of the supernet for all islands, and for each alone."""
    return training.steps + islands * training.island_steps


def _miniature(recipe: Recipe) -> Recipe:
    """The study with one batch of random candidates an island, and nobody told of it."""
    few = min(recipe.workers.batch, recipe.budget.evaluations_per_island, recipe.sampler.population_size)
    document = recipe.model_dump(mode="json")
    document["study"] = "miniature"
    document["budget"]["evaluations_per_island"] = few
    document["latency"]["window_s"] = min(recipe.latency.window_s, WINDOW_S)
    document["tracking"] = {"enabled": False}
    return Recipe.model_validate(document)


@dataclass(frozen=True)
class _Trial:
    """What the miniature took."""

    start_s: float
    """Until the workers were ready."""
    accuracy_s: float
    """Of a worker, a candidate."""
    latency_s: float
    """Of a lane, a candidate."""
    workers: int
    fixed_bytes: int
    candidate_bytes: float


def _search(recipe: Recipe, folder: Path, weights: Weights, address: str | None, in_process: bool) -> _Trial:
    """Runs the miniature in the folder."""
    study = Study(FileStore(folder), recipe.study)
    space, objectives = make_space(recipe), Objectives.from_settings(recipe.objectives)
    create_study(study.store, recipe)
    digest = save_weights(study.store, study.name, weights) if weights else None
    fixed_bytes = _size(folder)
    journal = Journal.take(study.store, study.name, space.islands, 1, lambda: None)
    islands = make_islands(recipe, space, objectives, journal)
    began_s = time.monotonic()
    pool = make_pool(recipe, study, space, weights, address, in_process)
    try:
        search = Search(
            islands=islands,
            pool=MemoPool(pool, study.store, digest) if recipe.workers.memo else pool,
            journal=journal,
            tracker=NoTracker(),
            describe=describer(space),
            batch_size=recipe.workers.batch,
        )
        ending = search.run()
    finally:
        pool.close()
    took_s = time.monotonic() - began_s
    if ending.reason is not EndReason.FINISHED:
        raise PoolExhausted(ending.message)
    journal.sweep()
    found = [event.result for island in space.islands for event in journal.events(island)]
    measured = [result for result in found if isinstance(result, Measurement)]
    if not measured:
        words = found[0].message if isinstance(found[0], Failure) else ""
        raise ValueError(f"none of {len(found)} random candidates could be evaluated: {words}")
    timings = [result.timings_s for result in measured]
    latency_s = sum(s for each in timings for name, s in each.items() if name.startswith("latency")) / len(measured)
    accuracy_s = sum(s for each in timings for s in each.values()) / len(measured) - latency_s
    workers = len({result.worker for result in measured})
    start_s = max(0.0, took_s - len(found) * (accuracy_s / workers + latency_s))
    return _Trial(start_s, accuracy_s, latency_s, workers, fixed_bytes, (_size(folder) - fixed_bytes) / len(found))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---- what candidates have in common


def sharing(recipe: Recipe, classes: int, shape: Shape) -> float:
    """Multiply-adds of a candidate's own steps in the study's batches, over those in batches of random candidates."""
    space = make_network_space(recipe, classes)
    counter, objectives = ComplexityCounter(space.build), Objectives.from_settings(recipe.objectives)
    own: list[float] = []
    random: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(Path(folder))
        journal = Journal.take(store, "evolution", space.islands, 1, lambda: None)
        for island in make_islands(recipe, space, objectives, journal):
            costs = list(_evolve(recipe, space, island, counter, shape))
            first = recipe.sampler.population_size
            own += [cost for _, cost in costs]
            random += [cost for number, cost in costs if number < first]
    return float(np.mean(own) / np.mean(random))


def _evolve(
    recipe: Recipe, space: NetworkSpace[Any], island: Island, counter: ComplexityCounter, shape: Shape
) -> Iterator[tuple[int, float]]:
    """Runs an island's search for a made-up accuracy; by batch, its first number and multiply-adds a candidate."""
    worth = _made_up(recipe, space, island.name)
    latencies = [each.name for each in recipe.objectives if lane_of(each.name)]
    while not island.scheduler.finished:
        batch = [one for _ in range(recipe.workers.batch) if (one := island.scheduler.take()) is not None]
        if not batch:
            return
        programs = [space.lower(space.decode(one.island, one.genotype)) for one in batch]
        yield batch[0].number, counter.count(_merged(programs), shape).macs / len(batch)
        for one, program in zip(batch, programs, strict=True):
            cost = counter.count(program, shape)
            metrics = {name: worth(one, cost.macs) for name in ("miou", "accuracy", "top5")}
            metrics |= {"macs": float(cost.macs), "params": float(cost.params)}
            metrics |= dict.fromkeys(latencies, cost.macs / 10000000.0)
            island.scheduler.receive(Outcome(one, Measurement(metrics, {})))


def _made_up(recipe: Recipe, space: NetworkSpace[Any], island: str) -> Callable[[Candidate, float], float]:
    """An accuracy between 0 and 1 that grows with multiply-adds and prefers some values of each gene."""
    rng = generator(recipe.seed, island, "made up")
    gains = [rng.normal(size=cardinality) for cardinality in space.cardinalities(island)]

    def worth(candidate: Candidate, macs: float) -> float:
        gain = np.mean([gains[place][gene] for place, gene in enumerate(candidate.genotype)])
        return float(1 / (1 + np.exp(-gain - 0.1 * np.log(macs))))

    return worth


def _merged(programs: Sequence[Program]) -> Program:
    """The distinct steps of all programs."""
    steps: dict[str, Step] = {step.id: step for program in programs for step in program.steps}
    return Program(tuple(steps.values()), programs[-1].output)


# ---- memory


def _worker_bytes(recipe: Recipe, weights: Weights) -> int:
    """Most memory of a process that evaluates one batch: what a worker takes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_bytes, recipe, weights).result()


def _peak_bytes(recipe: Recipe, weights: Mapping[str, np.ndarray]) -> int:
    space, island = make_space(recipe), make_space(recipe).islands[-1]
    rng = np.random.default_rng(recipe.seed)
    genotypes = [space.sample(island, rng) for _ in range(recipe.workers.batch)]
    candidates = [Candidate(island, number, genotype, "") for number, genotype in enumerate(genotypes)]
    make_evaluator_factory(recipe)(weights).score(candidates)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
