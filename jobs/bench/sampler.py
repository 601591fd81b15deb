"""What samplers find with so many evaluations on real benchmarks: hypervolume as a share of the true front's.

The searches are real, their workers are virtual: a clock jumps from one completion to the next. On a table that holds
but a part of its combinations a regressor stands in, and the share is of the best front that is known: what all runs
of this bench have found together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from jobs.bench.contestants import CONTESTANTS, COSTLY, DURATION_CV, LOOK_AHEAD, SERIAL, Problem, Run
from jobs.bench.surrogate import FOLDS, GridSpace, Quality, Surrogate
from jobs.composition import make_space
from jobs.recipe_file import load_recipe
from orchestrator.config import Recipe
from orchestrator.objectives import Objectives
from orchestrator.pareto import ranks
from search_spaces.tabular import TabularSettings, TabularSpace

COLUMNS = (100, 200, 400, 800)
"""Evaluations after which the hypervolume is taken."""
WORKERS = (1, 8, 64)
MORE = 5
"""How many times as many searches those make whose proposals cost little: the differences are of a deviation's size."""
OURS = ("nsga2 generational", "nsga2 steady-state")

Matrix = NDArray[np.float64]


def sampler(
    tables: Annotated[
        list[str] | None, typer.Option("--table", metavar="RECIPE", help="A recipe with space tabular. Repeatable.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help=f"Searches of each kind; {MORE} times as many where they are cheap.")
    ] = 10,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Virtual workers. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Hypervolume after 100, 200, 400 and 800 evaluations: our NSGA-II, pymoo's, Optuna's and random search."""
    began, console = time.monotonic(), Console(stderr=True)
    results = []
    for name in tables or ["nasbench201", "nasbench-mr"]:
        recipe = load_recipe(name)
        if not isinstance(recipe.space, TabularSettings):
            raise typer.BadParameter(f"recipe {name} has the space {recipe.space.name}: give one with space tabular")
        results.append(measure(recipe, seeds, workers or WORKERS, console))
    figures = {"seeds": seeds, "columns": COLUMNS, "duration_cv": DURATION_CV, "window_per_worker": LOOK_AHEAD}
    if as_json:
        print(json.dumps(figures | {"tables": results, "seconds": time.monotonic() - began}))
    else:
        for result in results:
            _show(result, Console())


def measure(recipe: Recipe, seeds: int, workers: Sequence[int], console: Console) -> dict[str, Any]:
    """The figures of one table, as they are printed with --json."""
    problem, known, quality = _problem(recipe)
    found: dict[tuple[str, int], list[Matrix]] = {}
    spent_s: dict[tuple[str, int], float] = {}
    for name, contestant in CONTESTANTS.items():
        runs = seeds if name in COSTLY else MORE * seeds
        for count in (1,) if name in SERIAL else workers:
            began = time.monotonic()
            found[name, count] = [
                np.array(
                    [
                        problem.minimised(genotype)
                        for genotype in islice(contestant(Run(problem, count, seed, COLUMNS[-1])), COLUMNS[-1])
                    ]
                )
                for seed in range(runs)
            ]
            spent_s[name, count] = time.monotonic() - began
            console.print(f"{recipe.study}: {name}, {count} workers, {spent_s[name, count]:.0f} s")
    best = _front(np.concatenate([known, *(F for runs in found.values() for F in runs)]))
    largest = problem.objectives.hypervolume(best)
    rows = [
        {
            "sampler": name,
            "workers": count,
            "seeds": len(runs),
            **_shares(problem.objectives, runs, largest),
            "ms_per_candidate": 1e3 * spent_s[name, count] / (len(runs) * COLUMNS[-1]),
        }
        for (name, count), runs in found.items()
    ]
    return {
        "table": recipe.study,
        "population_size": recipe.sampler.population_size,
        "reference": {one.name: one.reference for one in problem.objectives.each},
        "share_of": "best known" if quality else "true",
        "surrogate": {name: asdict(of) for name, of in quality.items()} if quality else None,
        "front_size": len(best),
        "hypervolume": largest,
        "rows": rows,
        "shown": _shown(rows),
    }


def _problem(recipe: Recipe) -> tuple[Problem, Matrix, dict[str, Quality] | None]:
    """The problem; all scores that it can have, none where a regressor gives them; how good the regressor is."""
    space, objectives = make_space(recipe), Objectives.from_settings(recipe.objectives)
    assert isinstance(space, TabularSpace)
    if space.table.complete:
        problem = Problem(space, objectives, space.table.rows.__getitem__, recipe.sampler)
        return problem, np.array([problem.minimised(genotype) for genotype in space.table.rows]), None
    surrogate = Surrogate(space.table, objectives.each)
    problem = Problem(GridSpace(space.table), objectives, surrogate, recipe.sampler)
    return problem, np.empty((0, len(objectives.each))), surrogate.quality


def _front(F: Matrix) -> Matrix:
    """The distinct rows that no other one dominates."""
    distinct: Matrix = np.unique(F, axis=0)
    front: Matrix = distinct[ranks(distinct) == 0]
    return front


def _shares(objectives: Objectives, runs: Sequence[Matrix], largest: float) -> dict[str, Any]:
    """Mean and standard deviation over the runs, by column."""
    shares = np.array([[objectives.hypervolume(F[:column]) / largest for column in COLUMNS] for F in runs])
    return {"mean": shares.mean(axis=0).tolist(), "deviation": shares.std(axis=0).tolist(), "shares": shares.tolist()}


def _shown(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, bool | None]]:
    """By sampler of ours, whether each holds in every column; None: it was not run."""
    mean = {(row["sampler"], row["workers"]): np.array(row["mean"]) for row in rows}
    deviation = {(row["sampler"], row["workers"]): np.array(row["deviation"]) for row in rows}
    many = max(row["workers"] for row in rows)

    def holds(one: tuple[str, int], other: tuple[str, int], slack: float = 0.0) -> bool | None:
        if one not in mean or other not in mean:
            return None
        return bool((mean[one] > mean[other] - slack * deviation[other]).all())

    return {
        name: {
            "serial_above_random": holds((name, 1), ("random", 1)),
            "serial_above_pymoo": holds((name, 1), ("pymoo nsga2", 1)),
            "serial_above_optuna": holds((name, 1), ("optuna nsga2", 1)),
            f"{many}_workers_within_a_deviation_of_serial": holds((name, many), (name, 1), slack=1.0),
            f"{many}_workers_above_optuna": holds((name, many), ("optuna nsga2", many)),
        }
        for name in OURS
    }


def _show(result: dict[str, Any], console: Console) -> None:
    reference = ", ".join(f"{name} {value:g}" for name, value in result["reference"].items())
    table = Table(
        title=f"{result['table']}: share of the {result['share_of']} hypervolume, population "
        f"{result['population_size']}, reference point {reference}"
    )
    for name in ("sampler", "workers", "seeds", *map(str, COLUMNS), "ms each"):
        table.add_column(name, justify="left" if name == "sampler" else "right", no_wrap=True)
    for row in result["rows"]:
        cells = (f"{mean:.4f} ±{spread:.4f}" for mean, spread in zip(row["mean"], row["deviation"], strict=True))
        table.add_row(row["sampler"], str(row["workers"]), str(row["seeds"]), *cells, f"{row['ms_per_candidate']:.2f}")
    console.print(table)
    for name, of in (result["surrogate"] or {}).items():
        console.print(f"regressor of {name}: R2 {of['r2']:.3f}, rank correlation {of['spearman']:.3f} in {FOLDS} folds")
    for name, claims in result["shown"].items():
        words = (f"{claim.replace('_', ' ')}: {'yes' if holds else 'no'}" for claim, holds in claims.items())
        console.print(f"{name}: {', '.join(words)}")
