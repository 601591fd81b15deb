"""`archipelago plan`: what it measures is a study's own, and the report holds it against what came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.stores import make_store
from jobs.plan import sharing
from jobs.recipe_file import load_recipe
from orchestrator.foresight import read_foresight
from tests.jobs.conftest import TINY, TOY, CommandLine


def planned(archipelago: CommandLine, *arguments: str) -> dict[str, Any]:
    """What the plan foretells."""
    result = archipelago("plan", *arguments, "--in-process", "--json")
    assert result.exit_code == 0, result.output
    row: dict[str, Any] = json.loads(result.stdout)
    return row


def test_a_study_is_foretold_and_the_report_says_how_far_off_it_was(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TINY)
    row = planned(archipelago, recipe)
    assert row["candidates"] == 9
    assert 0 < row["training_s"] < row["wall_s"]
    assert row["wall_s"] == pytest.approx(row["training_s"] + row["searching_s"])
    assert row["worker_bytes"] > 100 * 2**20, "a process that has imported torch takes more"
    assert not (archipelago.store / "tiny").exists(), "nothing of the study is there before it begins"
    foresight = read_foresight(make_store(archipelago.address), "tiny")
    assert foresight is not None
    times = [foresight.searching_with(workers) for workers in (1, 2, 4, 1_000_000)]
    assert times == sorted(times, reverse=True)
    assert times[-1] == pytest.approx(row["start_s"] + row["latency_s"], rel=1e-3)
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    page = archipelago.store / "page.html"
    assert archipelago("report", "tiny", "--out", str(page)).exit_code == 0
    assert "Foretold and taken" in page.read_text()
    fixed = sum(file.stat().st_size for file in (archipelago.store / "tiny" / "weights").iterdir())
    assert fixed < row["store_bytes"] < 3 * (fixed + 200_000)


def test_another_recipe_is_not_held_against_the_plan(archipelago: CommandLine) -> None:
    planned(archipelago, archipelago.recipe(TOY))
    assert archipelago("search", archipelago.recipe(TOY, seed=7), "--in-process").exit_code == 0
    page = archipelago.store / "page.html"
    assert archipelago("report", "toy", "--out", str(page)).exit_code == 0
    assert "Foretold and taken" not in page.read_text()


def test_a_plan_that_is_damaged_is_named(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TOY)
    planned(archipelago, recipe)
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    (archipelago.store / "plans" / "toy.json").write_text("{}")
    result = archipelago("report", "toy", "--out", str(archipelago.store / "page.html"))
    assert result.exit_code == 2
    assert "plans/toy.json is damaged" in result.stderr
    assert "delete it" in result.stderr


@pytest.mark.parametrize(("sampler", "low", "high"), [("random", 0.97, 1.03), ("nsga2", 0.3, 0.95)])
def test_evolved_candidates_share_more_than_random_ones(sampler: str, low: float, high: float) -> None:
    changes = [f"sampler.name={sampler}", "budget.evaluations_per_island=80", "sampler.population_size=16"]
    assert low < sharing(load_recipe("camvid-quick", changes), 11, (1, 3, 180, 240)) < high
