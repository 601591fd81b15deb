"""What evaluating candidates together saves: the same candidates one at a time and merged, in one run, interleaved.

The candidates come from a study's journal: its first, middle and last ones of every island, so that the gain on a
random population and on an evolved one stand side by side. One at a time means: cut the subnet out, recalibrate its
BatchNorm, fold it, score it; with the same kernels, layouts and resident images as the merged run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from infra.stores import STUDIES
from infra.weights import load_weights
from jobs.composition import load_data, make_supernet_space
from jobs.study import Study
from orchestrator.evaluation.evaluator import NetworkEvaluator
from orchestrator.evaluation.executor import Executor
from orchestrator.evaluation.memory import peak_bytes
from orchestrator.evaluation.modules import fold_norms
from orchestrator.evaluation.schedule import merge
from orchestrator.journal import Journal
from orchestrator.records import Candidate, Measurement
from orchestrator.study import read_study, read_weights
from search_spaces.base import Program
from search_spaces.subnet import materialise
from search_spaces.tasks.segmentation import mean_iou

POPULATION = 40
BATCHES = (8, 16, 40)
STAGES = {"stem4": "stem", "stem8": "stem", "cell": "cells", "merge": "head", "fusion": "head", "head": "head"}
"""The stage that each operation's time is counted for."""


@dataclass(frozen=True)
class Population:
    """Consecutive candidates of one island."""

    island: str
    when: str
    candidates: tuple[Candidate, ...]


def evaluation(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study whose journal gives the candidates.")],
    store: Annotated[str, typer.Option(metavar="STORE")] = STUDIES,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    images: Annotated[int, typer.Option(help="Calibration images, and as many validation images.")] = 32,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Seconds per candidate, one at a time and merged, on the populations of a study."""
    torch.set_num_threads(threads)
    place = Study.at(study, store)
    recipe = read_study(place.store, place.name).recipe
    digest = read_weights(place.store, place.name)
    if digest is None:
        raise typer.BadParameter(f"study {place.name} has no weights yet: finish `archipelago search` first")
    data = load_data(recipe)
    protocol = recipe.evaluation.model_copy(update={"recalibration_images": images, "validation_images": images})
    space = make_supernet_space(recipe, data.n_classes)
    evaluator = NetworkEvaluator(
        space, load_weights(place.store, place.name, digest), data, protocol, recipe.latency, device, 2**40
    )
    result = measure(evaluator, populations(Journal.open(place.store, place.name)), Console(stderr=True))
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, Console())


def populations(journal: Journal) -> list[Population]:
    """The first, middle and last measured candidates of each island, at most `POPULATION` each."""
    found = []
    for island in journal.islands:
        measured = [e.candidate for e in journal.events(island) if isinstance(e.result, Measurement)]
        size = min(POPULATION, len(measured))
        starts = {"first": 0, "middle": (len(measured) - size) // 2, "last": len(measured) - size}
        found += [Population(island, when, tuple(measured[at : at + size])) for when, at in starts.items()]
    return found


def measure(evaluator: NetworkEvaluator, found: Sequence[Population], console: Console) -> dict[str, Any]:
    """The bench's figures, as they are printed with --json."""
    rows = []
    for population in found:
        row = _measure_population(evaluator, population)
        rows.append(row)
        together = ", ".join(f"{size} together {seconds:.2f} s" for size, seconds in row["seconds"].items())
        console.print(f"{population.island} {population.when}: {row['seconds_single']:.2f} s alone, {together}")
    largest = str(max(BATCHES))

    def ratio(when: str) -> float:
        return _geometric_mean([row["speedup"][largest] for row in rows if row["when"] == when])

    last = [row for row in rows if row["when"] == "last"]
    return {
        "speedup": ratio("last"),
        "speedup_first": ratio("first"),
        "speedup_by_island": {row["island"]: row["speedup"][largest] for row in last},
        "max_abs_miou_diff": max(row["max_abs_miou_diff"] for row in rows),
        "peak_bytes_merged": max(row["peak_bytes"][largest] for row in rows),
        "peak_bytes_single": max(row["peak_bytes_single"] for row in rows),
        "seconds_per_candidate": {
            "single": float(np.mean([row["seconds_single"] for row in last])),
            **{f"merged_{size}": float(np.mean([row["seconds"][str(size)] for row in last])) for size in BATCHES},
        },
        "stage_shares": _stage_shares(evaluator, found[-1]),
        "macs_per_second": _achieved(evaluator, found[-1]),
        "threads": torch.get_num_threads(),
        "device": str(evaluator.device),
        "populations": rows,
    }


def _measure_population(evaluator: NetworkEvaluator, population: Population) -> dict[str, Any]:
    """One at a time and in batches of each size, in turn: a part of the population each time."""
    candidates = population.candidates
    programs = _programs(evaluator, candidates)
    single: dict[int, float] = {}
    merged: dict[str, list[float]] = {str(size): [] for size in BATCHES}
    spent = {"single": 0.0, **{str(size): 0.0 for size in BATCHES}}
    part = max(1, len(candidates) // 5)
    for start in range(0, len(candidates), part):
        began = time.perf_counter()
        for number in range(start, min(start + part, len(candidates))):
            single[number] = plain_miou(evaluator, candidates[number])
        spent["single"] += time.perf_counter() - began
        for size in BATCHES:
            done, target = len(merged[str(size)]), min(start + part, len(candidates))
            while done < target:
                batch = candidates[done : done + size]
                began = time.perf_counter()
                merged[str(size)] += [_miou(result) for result in evaluator.score(batch)]
                spent[str(size)] += time.perf_counter() - began
                done += len(batch)
    alone = [single[number] for number in range(len(candidates))]
    image = (evaluator.protocol.batch_size, *evaluator.images.shape[1:])
    peaks = {
        str(size): max(_peak(evaluator, programs[at : at + size], image) for at in range(0, len(programs), size))
        for size in BATCHES
    }
    seconds = {str(size): spent[str(size)] / len(candidates) for size in BATCHES}
    seconds_single = spent["single"] / len(candidates)
    return {
        "island": population.island,
        "when": population.when,
        "candidates": len(candidates),
        "seconds_single": seconds_single,
        "seconds": seconds,
        "speedup": {size: seconds_single / value for size, value in seconds.items()},
        "max_abs_miou_diff": max(float(np.abs(np.subtract(alone, scores)).max()) for scores in merged.values()),
        "peak_bytes_single": max(_peak(evaluator, [program], image) for program in programs),
        "peak_bytes": peaks,
        "macs_ratio": {str(size): _macs_ratio(evaluator, programs, size) for size in BATCHES},
    }


def plain_miou(evaluator: NetworkEvaluator, candidate: Candidate) -> float:
    """mIoU of one candidate, as one would write it without steps."""
    architecture = evaluator.space.decode(candidate.island, candidate.genotype)
    network = materialise(evaluator.space, architecture, evaluator.weights).to(evaluator.device, evaluator.dtype)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.float()
            layer.momentum = None
    classes, size = evaluator.data.n_classes, evaluator.protocol.batch_size
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=evaluator.device)

    def batches(images: Tensor) -> Iterator[Tensor]:
        for part in torch.split(images, size):
            yield evaluator.data.normalise(part).to(evaluator.dtype).contiguous(memory_format=torch.channels_last)

    with torch.inference_mode():
        network.train()
        for images in batches(evaluator.calibration):
            network(images)
        network.eval()
        fold_norms(network)
        for images, counter in zip(batches(evaluator.images), evaluator.counters, strict=True):
            matrix += counter.count(network(images))
    return mean_iou(matrix.cpu())


def _programs(evaluator: NetworkEvaluator, candidates: Sequence[Candidate]) -> list[Program]:
    space = evaluator.space
    return [space.lower(space.decode(one.island, one.genotype)) for one in candidates]


def _miou(result: object) -> float:
    assert isinstance(result, Measurement), result
    return result.metrics["miou"]


def _peak(evaluator: NetworkEvaluator, programs: Sequence[Program], image: tuple[int, ...]) -> int:
    costs = {name: cost for program in programs for name, cost in evaluator.counter.costs(program, image).items()}
    return peak_bytes(merge(programs), costs, evaluator.dtype)


def _macs_ratio(evaluator: NetworkEvaluator, programs: Sequence[Program], size: int) -> float:
    """Multiply-adds one at a time over those of batches of `size`: what merging could save at most."""
    image = (1, *evaluator.images.shape[1:])
    costs = {name: cost for program in programs for name, cost in evaluator.counter.costs(program, image).items()}
    batches = [merge(programs[at : at + size]) for at in range(0, len(programs), size)]
    alone = sum(costs[step.id].macs for program in programs for step in program.steps)
    return alone / sum(costs[step.id].macs for batch in batches for step in batch.steps)


def _stage_shares(evaluator: NetworkEvaluator, population: Population) -> dict[str, float]:
    """Share of the validation time of a merged batch that each stage takes."""
    executor, batch = _calibrated(evaluator, population)
    spent = dict.fromkeys([*STAGES.values(), "tail"], 0.0)
    for step in executor.schedule.steps:
        stage = STAGES.get(step.operation.name, step.operation.name)
        executor.modules[step.id] = Timed(executor.modules[step.id], stage, spent, evaluator)
    counter = evaluator.counters[0]

    def take(_index: int, logits: Tensor) -> None:
        began = _now(evaluator)
        counter.count(logits)
        spent["tail"] += _now(evaluator) - began

    executor.run(batch, take)
    total = sum(spent.values())
    return {stage: seconds / total for stage, seconds in spent.items()}


class Timed(nn.Module):
    """A module whose running time is added to its stage's."""

    def __init__(self, module: nn.Module, stage: str, spent: dict[str, float], evaluator: NetworkEvaluator) -> None:
        super().__init__()
        self.module, self.stage, self.spent, self.evaluator = module, stage, spent, evaluator

    def forward(self, *inputs: Tensor) -> Tensor:
        began = _now(self.evaluator)
        result: Tensor = self.module(*inputs)
        self.spent[self.stage] += _now(self.evaluator) - began
        return result


def _calibrated(evaluator: NetworkEvaluator, population: Population) -> tuple[Executor, Tensor]:
    """The population merged, calibrated on the first batch of validation images and folded; and that batch."""
    executor = Executor(evaluator.modules, _programs(evaluator, population.candidates))
    images = evaluator.images[: evaluator.protocol.batch_size]
    batch = evaluator.data.normalise(images).to(evaluator.dtype)
    executor.recalibrate([batch])
    executor.fold()
    return executor, batch


def _achieved(evaluator: NetworkEvaluator, population: Population) -> dict[str, float]:
    """Multiply-adds a second of a merged forward pass, and of a large matrix product on the same device."""
    executor, batch = _calibrated(evaluator, population)
    programs = _programs(evaluator, population.candidates)
    shape = tuple(batch.shape)
    costs = {name: cost for program in programs for name, cost in evaluator.counter.costs(program, shape).items()}
    macs = sum(costs[step.id].macs for step in executor.schedule.steps)
    began = _now(evaluator)
    executor.run(batch, lambda _index, _logits: None)
    achieved = macs / (_now(evaluator) - began)
    side = 2048
    matrix = torch.rand(side, side, device=evaluator.device, dtype=evaluator.dtype)
    _ = matrix @ matrix
    began = _now(evaluator)
    for _ in range(4):
        _ = matrix @ matrix
    return {"merged": achieved, "matrix_product": 4 * side**3 / (_now(evaluator) - began)}


def _now(evaluator: NetworkEvaluator) -> float:
    if evaluator.device.type == "cuda":
        torch.cuda.synchronize(evaluator.device)
    return time.perf_counter()


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="one at a time over merged, seconds per candidate")
    for name in ("island", "candidates", "alone, s", *(f"{size} together" for size in BATCHES)):
        table.add_column(name, justify="left" if name == "island" else "right")
    for row in result["populations"]:
        cells = (f"{row['seconds'][str(size)]:.3f} s = {row['speedup'][str(size)]:.2f}x" for size in BATCHES)
        table.add_row(f"{row['island']} {row['when']}", str(row["candidates"]), f"{row['seconds_single']:.3f}", *cells)
    console.print(table)
    largest = str(max(BATCHES))
    bounds = ", ".join(
        f"{r['island']} {r['macs_ratio'][largest]:.2f}x" for r in result["populations"] if r["when"] == "last"
    )
    console.print(f"by multiply-adds alone, last candidates at {largest}: {bounds}")
    console.print(
        f"geometric mean at {max(BATCHES)}: {result['speedup']:.2f}x on the last candidates, "
        f"{result['speedup_first']:.2f}x on the first; largest difference of mIoU {result['max_abs_miou_diff']:g}"
    )
    console.print(
        f"peak memory {result['peak_bytes_merged'] / 2**20:.0f} MiB merged, "
        f"{result['peak_bytes_single'] / 2**20:.0f} MiB alone"
    )
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in result["stage_shares"].items())
    rates = result["macs_per_second"]
    console.print(f"of a merged pass: {shares}; {rates['merged'] / 1e9:.1f} of {rates['matrix_product'] / 1e9:.1f} "
                  f"G multiply-adds a second")  # fmt: skip
