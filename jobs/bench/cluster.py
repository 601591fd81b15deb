"""What running on a cluster costs, in five parts: driver, busy, virtual, tune, memory.

driver    milliseconds that a candidate costs the driver when its evaluation takes no time
busy      how busy sleeping actors are, on a Ray of this machine
virtual   the same for clusters of any size, on a clock of their own
tune      work that takes no time, through our search and through Ray Tune with Optuna, three rounds in turn
memory    what a worker has of the weights for itself, when it reads them in place and when it copies them
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Annotated, Any

import ray
import typer
from rich.console import Console
from rich.table import Table

from infra.ray_cluster import connect
from jobs.bench.busy import CVS, MODES, real_share, virtual_share
from jobs.bench.driver import measure_driver
from jobs.bench.memory import private_bytes_per_worker
from jobs.bench.tune import BATCH_1, OURS, TUNE, rates

MIB = 2**20
MORE_THAN_TUNE = 20
"""How many times as many candidates our search gets as Ray Tune."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    candidates: int
    workers: int
    virtual_workers: tuple[int, ...]
    rounds: int
    mean_s: float
    trials: int
    holders: int
    weights_mib: int


def cluster(
    only: Annotated[str, typer.Option(metavar="PART,…", help="Parts to run.")] = "driver,busy,virtual,tune,memory",
    candidates: Annotated[int, typer.Option(help="Candidates of the driver's part.")] = 10_000,
    workers: Annotated[int, typer.Option(help="Sleeping actors.")] = 32,
    virtual_workers: Annotated[str, typer.Option(metavar="N,…", help="Virtual workers.")] = "64,256,1024",
    rounds: Annotated[int, typer.Option(help="Candidates per worker, where it is measured how busy they are.")] = 20,
    mean_s: Annotated[float, typer.Option(help="Mean seconds that an actor sleeps.")] = 1.0,
    trials: Annotated[
        int, typer.Option(help=f"Trials of Ray Tune in a round; our search gets {MORE_THAN_TUNE} times as many.")
    ] = 100,
    holders: Annotated[int, typer.Option(help="Actors that hold weights.")] = 4,
    weights_mib: Annotated[int, typer.Option(help="MiB of weights.")] = 500,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What running on a cluster costs: the driver, idle workers, Ray Tune instead, memory of weights."""
    parts = only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        raise typer.BadParameter(f"--only takes {', '.join(PARTS)}, separated by commas, got {', '.join(unknown)}")
    sizes = Sizes(
        candidates, workers, tuple(map(int, virtual_workers.split(","))), rounds, mean_s, trials, holders, weights_mib
    )
    notes = Console(stderr=True)
    result: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    if ON_RAY & set(parts):
        connect(None, max(workers, holders), weights_mib * MIB)
    try:
        with redirect_stdout(sys.stderr):  # Ray complains there of many actors, in the middle of what --json prints
            for part in parts:
                result |= PARTS[part](sizes, notes)
    finally:
        ray.shutdown()
    result["load_after"] = os.getloadavg()[0]
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, Console())


def _driver(sizes: Sizes, notes: Console) -> dict[str, Any]:
    slots = 2 * sizes.workers
    together = measure_driver(sizes.candidates, slots, slots)
    notes.print(f"driver, {slots} results at once: {together['ms']:.2f} ms, {together['cpu_ms']:.2f} of the processor")
    single = measure_driver(max(1, sizes.candidates // 10), slots, 1)
    notes.print(f"driver, one result at a time: {single['ms']:.2f} ms, {single['cpu_ms']:.2f} of the processor")
    return {
        "driver_ms_per_candidate": together["ms"],
        "driver_cpu_ms_per_candidate": together["cpu_ms"],
        "driver_ms_by_thousand": together["ms_by_thousand"],
        "driver_cpu_ms_by_thousand": together["cpu_ms_by_thousand"],
        "driver_ms_one_at_a_time": single["ms"],
        "driver_cpu_ms_one_at_a_time": single["cpu_ms"],
    }


def _busy(sizes: Sizes, notes: Console) -> dict[str, Any]:
    shares: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
    for mode in MODES:
        for cv in CVS:
            share = real_share(sizes.workers, mode, cv, sizes.rounds, sizes.mean_s)
            shares[mode][str(cv)] = share
            notes.print(f"{sizes.workers} actors, {mode}, cv {cv}: busy {share:.3f}")
    return {"busy_real": shares, "busy_real_workers": sizes.workers}


def _virtual(sizes: Sizes, notes: Console) -> dict[str, Any]:
    shares: dict[str, dict[str, dict[str, float]]] = {mode: {str(cv): {} for cv in CVS} for mode in MODES}
    for workers in sizes.virtual_workers:
        for mode in MODES:
            for cv in CVS:
                share = virtual_share(workers, mode, cv, sizes.rounds)
                shares[mode][str(cv)][str(workers)] = share
                notes.print(f"{workers} virtual workers, {mode}, cv {cv}: busy {share:.3f}")
    return {"busy_virtual": shares}


def _tune(sizes: Sizes, notes: Console) -> dict[str, Any]:
    workers = min(sizes.workers, 8)
    by_round = rates(sizes.trials, MORE_THAN_TUNE, workers, lambda words: notes.print(f"{workers} actors, {words}"))
    median = {name: statistics.median(of) for name, of in by_round.items()}
    return {
        "ratio_to_tune": median[OURS] / median[TUNE],
        "ratio_to_tune_batch_1": median[BATCH_1] / median[TUNE],
        "rates_per_s": median,
        "rates_per_s_by_round": by_round,
    }


def _memory(sizes: Sizes, notes: Console) -> dict[str, Any]:
    found = {}
    for name, copies in (("in place", False), ("copied", True)):
        found[name] = private_bytes_per_worker(sizes.holders, sizes.weights_mib * MIB, copies)
        notes.print(f"{sizes.holders} workers, weights {name}: {found[name] / MIB:.0f} MiB each for itself")
    return {
        "uss_bytes_per_worker": found["in place"],
        "uss_bytes_per_copying_worker": found["copied"],
        "weights_bytes": sizes.weights_mib * MIB,
    }


PARTS: dict[str, Callable[[Sizes, Console], dict[str, Any]]] = {
    "driver": _driver,
    "busy": _busy,
    "virtual": _virtual,
    "tune": _tune,
    "memory": _memory,
}

ON_RAY = {"busy", "tune", "memory"}
"""Parts that share a Ray of this process's own, which ends with it."""


def _show(result: dict[str, Any], console: Console) -> None:
    if "driver_ms_per_candidate" in result:
        table = _table("driver, per candidate", "candidates", "ms", "of the processor, ms")
        each = zip(result["driver_ms_by_thousand"], result["driver_cpu_ms_by_thousand"], strict=True)
        for number, (wall, cpu) in enumerate(each):
            table.add_row(f"{number * 1000} to {number * 1000 + 999}", f"{wall:.2f}", f"{cpu:.2f}")
        for name, end in (("all", "per_candidate"), ("one result at a time", "one_at_a_time")):
            table.add_row(name, f"{result[f'driver_ms_{end}']:.2f}", f"{result[f'driver_cpu_ms_{end}']:.2f}")
        console.print(table)
    shares = []
    if "busy_real" in result:
        shares += [(f"{result['busy_real_workers']} actors", mode, of) for mode, of in result["busy_real"].items()]
    for mode, by_cv in result.get("busy_virtual", {}).items():
        sizes = by_cv[str(CVS[0])]
        shares += [(f"{size} virtual", mode, {cv: of[size] for cv, of in by_cv.items()}) for size in sizes]
    if shares:
        table = _table("share of the workers' time", "workers", *(f"cv {cv}" for cv in CVS))
        for who, mode, by in shares:
            table.add_row(f"{who}, {mode}", *(f"{by[str(cv)]:.3f}" for cv in CVS))
        console.print(table)
    if "ratio_to_tune" in result:
        median = result["rates_per_s"]
        for name, ratio in ((OURS, "ratio_to_tune"), (BATCH_1, "ratio_to_tune_batch_1")):
            rate = f"candidates a second, {name}: {median[name]:.1f}, Ray Tune {median[TUNE]:.2f}"
            console.print(f"{rate}, so {result[ratio]:.0f}x")
    if "uss_bytes_per_worker" in result:
        sizes = (
            result[name] / MIB for name in ("weights_bytes", "uss_bytes_per_worker", "uss_bytes_per_copying_worker")
        )
        console.print(
            "weights of {:.0f} MiB: a worker has {:.0f} MiB for itself, one that copies {:.0f} MiB".format(*sizes)
        )
    console.print(f"load of the machine: {result['load_before']:.1f} before, {result['load_after']:.1f} after")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table
