"""Who searches in the sampler bench: each gives the genotypes that it looked at, in the order in which they were done.

Ours go through the real scheduler and its ordered window; the others as their users run them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import Trial

from orchestrator.config import SamplerSettings
from orchestrator.objectives import Objectives
from orchestrator.randomness import generator
from orchestrator.records import Measurement, Outcome
from orchestrator.samplers.registry import make_sampler
from orchestrator.scheduler import Scheduler
from search_spaces.base import Genotype
from search_spaces.tabular import ISLAND, TabularSpace

DURATION_CV = 0.25
"""Standard deviation over mean of the candidates' log-normal durations."""
LOOK_AHEAD = 2
"""The window, as a multiple of the workers."""

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """What is searched, and how its candidates are scored."""

    space: TabularSpace
    objectives: Objectives
    metrics: Callable[[Genotype], Mapping[str, float]]
    settings: SamplerSettings
    """The recipe's."""

    def minimised(self, genotype: Genotype) -> tuple[float, ...]:
        return self.objectives.scores(Measurement(self.metrics(genotype))).minimised


@dataclass(frozen=True)
class Run:
    """One search."""

    problem: Problem
    workers: int
    seed: int
    budget: int


Contestant = Callable[[Run], Iterator[Genotype]]


def completions(run: Run, ask: Callable[[], T | None], tell: Callable[[T], object]) -> Iterator[T]:
    """What is asked for, in the order in which virtual workers are done with it; each is told when it is done.

    `ask` gives None where nothing may start before more has been told.
    """
    rng = generator(run.seed, "durations")
    sigma = float(np.sqrt(np.log1p(DURATION_CV**2)))
    running: list[tuple[float, int, T]] = []
    now_s, started = 0.0, 0
    while True:
        while len(running) < run.workers and (asked := ask()) is not None:
            heapq.heappush(running, (now_s + rng.lognormal(-(sigma**2) / 2, sigma), started, asked))
            started += 1
        if not running:
            return
        now_s, _, done = heapq.heappop(running)
        tell(done)
        yield done


def through_the_window(name: str, mode: str = "generational") -> Contestant:
    """A sampler of ours, by the name that recipes use."""

    def contestant(run: Run) -> Iterator[Genotype]:
        problem = run.problem
        settings = SamplerSettings.model_validate(problem.settings.model_dump() | {"name": name, "mode": mode})
        scheduler = Scheduler(
            problem.space,
            ISLAND,
            make_sampler(settings, problem.space, ISLAND, len(problem.objectives.each), run.seed),
            problem.objectives,
            budget=run.budget,
            window=LOOK_AHEAD * run.workers,
            max_attempts=1,
            rng=generator(run.seed, "fallback"),
        )
        finished = completions(
            run,
            scheduler.take,
            lambda one: scheduler.receive(Outcome(one, Measurement(problem.metrics(one.genotype)))),
        )
        return (candidate.genotype for candidate in finished)

    return contestant


def optuna_alone(run: Run) -> Iterator[Genotype]:
    """Optuna's NSGA-II with its own settings: a trial is told when it ends, and another one asked for."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = run.problem
    sampler = NSGAIISampler(population_size=problem.settings.population_size, seed=run.seed)
    study = optuna.create_study(directions=["minimize"] * len(problem.objectives.each), sampler=sampler)
    cardinalities = problem.space.cardinalities(ISLAND)

    def ask() -> tuple[Trial, Genotype] | None:
        if len(study.get_trials(deepcopy=False)) == run.budget:
            return None
        trial = study.ask()
        genes = (trial.suggest_categorical(f"gene{i}", range(values)) for i, values in enumerate(cardinalities))
        return trial, tuple(int(gene) for gene in genes)

    def tell(done: tuple[Trial, Genotype]) -> None:
        trial, genotype = done
        study.tell(trial, list(problem.minimised(genotype)))

    return (genotype for _, genotype in completions(run, ask, tell))


def pymoo_alone(run: Run) -> Iterator[Genotype]:
    """pymoo's NSGA-II over integers as its manual has it: simulated binary crossover and polynomial mutation, rounded.

    It looks at no genotype twice. Serial: a generation after the other.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    problem, highest = run.problem, np.array(run.problem.space.cardinalities(ISLAND)) - 1
    algorithm = NSGA2(
        pop_size=problem.settings.population_size,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    box = PymooProblem(n_var=len(highest), n_obj=len(problem.objectives.each), xl=0, xu=highest, vtype=int)
    algorithm.setup(box, termination=("n_eval", run.budget), seed=run.seed, verbose=False)
    while algorithm.has_next():
        asked = algorithm.ask()
        if asked is None:  # it finds nothing that is new
            return
        genotypes = [tuple(int(gene) for gene in row) for row in asked.get("X")]
        asked.set("F", np.array([problem.minimised(genotype) for genotype in genotypes]))
        yield from genotypes
        algorithm.tell(infills=asked)


CONTESTANTS: dict[str, Contestant] = {
    "nsga2 generational": through_the_window("nsga2"),
    "nsga2 steady-state": through_the_window("nsga2", "steady-state"),
    "pymoo nsga2": pymoo_alone,
    "optuna nsga2": optuna_alone,
    "optuna nsga2, our window": through_the_window("optuna-nsga2"),
    "random": through_the_window("random"),
}
SERIAL = ("pymoo nsga2",)
"""Those that know no workers."""
COSTLY = ("optuna nsga2", "optuna nsga2, our window")
"""Those whose proposals take milliseconds."""
