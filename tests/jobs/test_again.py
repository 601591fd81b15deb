"""`archipelago search --resume`: one command for what is started again and again."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from jobs.cli import app
from tests.jobs.conftest import TOY, CommandLine


def test_it_begins_a_study_and_goes_on_with_it(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TOY)
    for _ in range(2):
        result = archipelago("search", recipe, "--resume", "--in-process")
        assert result.exit_code == 0, result.stderr
    assert len(archipelago.rows("candidates", "toy")) == 36


def test_a_study_that_was_extended_is_gone_on_with(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TOY)
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    assert archipelago("resume", "toy", "--more", "2", "--in-process").exit_code == 0
    assert archipelago("search", recipe, "--resume", "--in-process").exit_code == 0
    assert len(archipelago.rows("candidates", "toy")) == 42


def test_another_recipe_under_the_same_name_is_refused(archipelago: CommandLine) -> None:
    assert archipelago("search", archipelago.recipe(TOY), "--in-process").exit_code == 0
    changed = archipelago.recipe(TOY, seed=1, budget={"evaluations_per_island": 13})
    result = archipelago("search", changed, "--resume", "--in-process")
    assert result.exit_code == 2
    assert "budget.evaluations_per_island is 12 there and 13 here; seed is 0 there and 1 here" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_recipe_comes_from_the_standard_input(archipelago: CommandLine) -> None:
    text = Path(archipelago.recipe(TOY)).read_text()
    arguments = ["search", "-", "--resume", "--in-process", "--store", archipelago.address]
    assert CliRunner().invoke(app, arguments, input=text).exit_code == 0
    assert len(archipelago.rows("candidates", "toy")) == 36
    refused = CliRunner().invoke(app, arguments, input="study: [")
    assert refused.exit_code == 2
    assert "the recipe on the standard input is not YAML" in refused.stderr
