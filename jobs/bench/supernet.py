"""How good a supernet is: its random subnets against the floor, the largest subnet, and networks trained alone.

A search can only rank what the shared weights tell apart, so three things count: that random subnets are far above the
score of a prediction that never looks at the image, how close they come to the same networks trained alone for as
many steps, and whether both orders agree (Kendall's tau).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

from infra.stores import STUDIES, StudyStore, make_store
from jobs.composition import load_data, make_network_space, make_supernet_space
from jobs.progress import Display
from jobs.recipe_file import load_recipe
from jobs.scoring import TOGETHER, shared_scores
from orchestrator.config import Recipe
from orchestrator.study import create_study, read_weights
from search_spaces.alone import AloneSpace
from search_spaces.base import NetworkSpace
from search_spaces.data.images import ImageData
from search_spaces.supernet import Weights
from search_spaces.tasks.segmentation import confusion, mean_iou
from search_spaces.training.settings import RetrainingSettings
from search_spaces.training.trainer import SupernetTrainer


def supernet(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")] = "camvid-quick",
    store: Annotated[
        str, typer.Option(help="Where the recipe's study keeps its weights; trained if missing.")
    ] = STUDIES,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    subnets: Annotated[int, typer.Option(help="Random subnets of each island.")] = 30,
    alone: Annotated[int, typer.Option(help="Random subnets, over all islands, that are also trained alone.")] = 3,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """mIoU of random subnets against the floor, the largest subnet and networks trained alone."""
    console = Console(stderr=as_json)
    loaded = load_recipe(recipe, overrides or [])
    weights = _trained(loaded, make_store(store), Display(console))
    torch.set_num_threads(loaded.training.threads if loaded.training else 1)
    data = load_data(loaded)
    result = measure(loaded, data, weights, subnets, alone, console.print)
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, console)


def _trained(recipe: Recipe, store: StudyStore, display: Display) -> Weights:
    from jobs.train_supernet import supernet_weights

    store.probe()
    if not store.list(f"{recipe.study}/manifest.json"):
        create_study(store, recipe)
    if read_weights(store, recipe.study) is None:
        display.console.print(f"study {recipe.study} has no weights yet: training them")
    with display.training() as show:
        return supernet_weights(recipe, store, show, lambda: False)


def measure(
    recipe: Recipe,
    data: ImageData,
    weights: Weights,
    subnets: int,
    alone: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The bench's figures, as they are printed with --json."""
    rng = np.random.default_rng(0)
    space, supernet = make_network_space(recipe, data.n_classes), make_supernet_space(recipe, data.n_classes)
    drawn = {
        island: [space.decode(island, space.sample(island, rng)) for _ in range(subnets)] for island in space.islands
    }
    scores = {
        island: shared_scores(supernet, weights, data, recipe.evaluation, drawn[island]) for island in space.islands
    }
    largest = shared_scores(supernet, weights, data, recipe.evaluation, [space.largest(rng) for _ in range(TOGETHER)])
    rows = []
    for index in range(alone):
        island = space.islands[index % len(space.islands)]
        position = index // len(space.islands)
        architecture = drawn[island][position]
        began = time.monotonic()
        miou = train_alone(recipe, space, data, architecture)
        rows.append(
            {
                "island": island,
                "architecture": str(architecture),
                "miou_supernet": scores[island][position],
                "miou_alone": miou,
                "seconds": time.monotonic() - began,
            }
        )
        together = scores[island][position]
        say(f"{index + 1} of {alone}, {architecture}: {together:.3f} with shared weights, {miou:.3f} trained alone")
    pairs = [(row["miou_supernet"], row["miou_alone"]) for row in rows]
    return {
        "recipe": recipe.study,
        "steps": recipe.training.steps if recipe.training else 0,
        "threads": torch.get_num_threads(),
        "floor_miou": floor_miou(data),
        "largest_miou": float(np.median(largest)),
        "islands": {island: _summary(values) for island, values in scores.items()},
        "alone": rows,
        "kendall_tau": float(kendalltau(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else None,
    }


def train_alone(recipe: Recipe, space: NetworkSpace[Any], data: ImageData, architecture: Any) -> float:
    """mIoU of the architecture trained from scratch, as long as the supernet and in the same way."""
    assert recipe.training is not None
    only = AloneSpace(space, architecture)
    settings = RetrainingSettings.like(recipe.training).alone()
    trainer = SupernetTrainer(only, data, settings, recipe.seed)
    for _ in range(settings.steps):
        trainer.train_step()
    return shared_scores(only, trainer.weights(), data, recipe.evaluation, [architecture])[0]


def floor_miou(data: ImageData) -> float:
    """mIoU on validation of a prediction that never looks: the commonest training class at each pixel position."""
    counts = torch.stack([(data.train.labels == index).sum(0) for index in range(data.n_classes)])
    prediction = counts.argmax(0).to(torch.uint8).expand_as(data.validation.labels)
    return mean_iou(confusion(prediction, data.validation.labels, data.n_classes))


def _summary(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, (0, 50, 100))
    return {"n": len(values), "min": float(low), "median": float(median), "max": float(high)}


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['recipe']}: mIoU with shared weights after {result['steps']} steps")
    for name in ("subnets", "n", "min", "median", "max"):
        table.add_column(name, justify="left" if name == "subnets" else "right")
    for island, summary in result["islands"].items():
        table.add_row(f"random {island}", str(summary["n"]), *(f"{summary[k]:.3f}" for k in ("min", "median", "max")))
    console.print(table)
    console.print(f"largest subnet {result['largest_miou']:.3f}, floor {result['floor_miou']:.3f}")
    if result["kendall_tau"] is not None:
        console.print(f"Kendall's tau of both orders: {result['kendall_tau']:.2f} ({len(result['alone'])} subnets)")
