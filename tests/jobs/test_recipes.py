"""The recipes that ship."""

from __future__ import annotations

from importlib import resources

import pytest

from jobs.recipe_file import load_recipe
from jobs.retrain import retraining_settings

NAMES = sorted(entry.name.removesuffix(".yaml") for entry in (resources.files("jobs") / "recipes").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_that_ships_is_one_and_bears_its_name(name: str) -> None:
    assert load_recipe(name).study == name


def test_cityscapes_is_searched_and_retrained_by_the_papers_numbers() -> None:
    recipe = load_recipe("cityscapes")
    retraining = retraining_settings(recipe)
    assert recipe.budget.evaluations_per_island == recipe.sampler.population_size * 20 == 800
    assert (recipe.latency.window_s, recipe.evaluation.recalibration_images) == (6, 1000)
    assert (retraining.schedule, retraining.learning_rate, retraining.batch_size) == ("poly", 0.005, 32)
    assert (retraining.filters, retraining.drop_path) == (12, 0.2)
