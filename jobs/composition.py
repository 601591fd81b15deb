"""From a recipe to the parts of a study: the one place that knows which class serves which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.config import Recipe
from orchestrator.evaluation.tabular import TabularEvaluatorFactory
from orchestrator.evaluation.toy import ToyEvaluatorFactory
from orchestrator.protocols import CandidateEvaluator, EvaluatorFactory
from search_spaces.apart import ApartSpace
from search_spaces.base import NetworkSpace, SearchSpace
from search_spaces.data.images import ImageData
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hrnas.snapshots import SnapshotSpace
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.own import OwnSettings
from search_spaces.settings import BranchSettings
from search_spaces.tabular import TabularSettings, TabularSpace, read_table
from search_spaces.toy import ToySettings, ToySpace


def make_space(recipe: Recipe) -> SearchSpace[Any]:
    """The recipe's space, for genotypes and architectures alone.

    Raises:
        DataError: it is a table, and the table is missing or broken; the message names file and line.
    """
    match recipe.space:
        case ToySettings():
            return ToySpace()
        case TabularSettings():
            return TabularSpace(read_table(recipe.space))
        case _:
            return make_network_space(recipe, classes=1)


def make_network_space(recipe: Recipe, classes: int) -> NetworkSpace[Any]:
    """The recipe's space with its networks, which predict `classes` classes; `make_supernet_space` is for weights."""
    assert recipe.training is not None, "the recipe has no training: see Recipe"
    height, width = recipe.training.augmentation.crop or (512, 1024)  # a memory limit needs a crop: see Recipe
    shape = (recipe.training.batch_size, 3, height, width)
    match recipe.space:
        case HyctasSettings():
            return HyctasSpace(recipe.space, classes, shape)
        case HrnasSettings() if recipe.shrinking is not None:
            return snapshot_space(recipe, classes)
        case HrnasSettings():
            return HrnasSpace(recipe.space, classes, shape, recipe.data.task if recipe.data else "segmentation")
        case OwnSettings():
            return recipe.space.make(classes, shape)
    raise AssertionError(f"space {recipe.space.name} has no networks")


def make_island_space(recipe: Recipe, island: str, classes: int) -> NetworkSpace[Any]:
    """The recipe's space with one of its islands alone.

    Raises:
        ValueError: the space's islands cannot be had alone.
    """
    if not isinstance(recipe.space, BranchSettings):
        raise ValueError(
            f"space {recipe.space.name} has no islands that can be trained alone: leave out training.island_steps"
        )
    branches = (recipe.space.branches[recipe.space.islands.index(island)],)
    only = recipe.space.model_copy(update={"branches": branches})
    return make_network_space(recipe.model_copy(update={"space": only}), classes)


def make_supernet_space(recipe: Recipe, classes: int) -> NetworkSpace[Any]:
    """The recipe's space, whose operations name the study's weights: those of all islands, or of each its own."""
    assert recipe.training is not None
    space = make_network_space(recipe, classes)
    if not recipe.training.island_steps:
        return space
    return ApartSpace(space, {island: make_island_space(recipe, island, classes) for island in space.islands})


def snapshot_space(recipe: Recipe, classes: int) -> SnapshotSpace:
    """The space of what shrinking leaves, any number of units in each block."""
    assert isinstance(recipe.space, HrnasSettings)
    assert recipe.shrinking is not None
    assert recipe.training is not None
    any_number = recipe.space.model_copy(update={"parts": None})
    task = recipe.data.task if recipe.data else "segmentation"
    return SnapshotSpace(HrnasSpace(any_number, classes, task=task), recipe.shrinking, recipe.training.steps)


def load_data(recipe: Recipe) -> ImageData:
    """The recipe's data set, decoded.

    Raises:
        DataError: it is missing or broken; the message names the file.
    """
    from search_spaces.data.registry import load

    assert recipe.data is not None, "the recipe has no data: see Recipe"
    return load(recipe.data)


@dataclass(frozen=True)
class NetworkEvaluatorFactory:
    """Builds an evaluator where a worker lives: the data set is read there, the weights come along."""

    recipe: Recipe

    def __call__(self, weights: Mapping[str, np.ndarray]) -> CandidateEvaluator:
        import torch

        from orchestrator.evaluation.evaluator import NetworkEvaluator
        from orchestrator.evaluation.protocol import network_protocol

        torch.set_num_threads(self.recipe.workers.threads)
        data = load_data(self.recipe)
        space = make_supernet_space(self.recipe, data.n_classes)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return NetworkEvaluator(
            space,
            weights,
            data,
            self.recipe.evaluation,
            self.recipe.latency,
            device,
            self.recipe.workers.memory_limit_bytes,
            network_protocol(self.recipe.space.model_dump(mode="json"), self.recipe.evaluation, data, device),
        )


def make_evaluator_factory(recipe: Recipe) -> EvaluatorFactory:
    """What the recipe's workers run."""
    match recipe.space:
        case ToySettings():
            return ToyEvaluatorFactory(recipe.space)
        case TabularSettings():
            return TabularEvaluatorFactory(recipe.space)
        case _:
            return NetworkEvaluatorFactory(recipe)
