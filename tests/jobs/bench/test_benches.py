"""The benches run on a small study and print the figures that they promise."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from jobs.bench.__main__ import app
from tests.jobs.conftest import TINY, CommandLine


def bench(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    figures: dict[str, object] = json.loads(result.stdout)
    return figures


@pytest.fixture
def archipelago(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("bench"))


def test_supernet_compares_random_subnets_with_networks_trained_alone(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(TINY)
    sizes = ("--subnets", "2", "--alone", "3")
    figures = bench("supernet", recipe, "--store", str(archipelago.store), *sizes)
    assert figures["floor_miou"] > 0
    assert {name: of["n"] for name, of in figures["islands"].items()} == {f"branches-{n}": 2 for n in (1, 2, 3)}
    assert [row["island"] for row in figures["alone"]] == ["branches-1", "branches-2", "branches-3"]
    assert all(0 <= row[name] <= 1 for row in figures["alone"] for name in ("miou_supernet", "miou_alone"))
    again = bench("supernet", recipe, "--store", str(archipelago.store), "--subnets", "2", "--alone", "0")
    assert again["islands"] == figures["islands"], "the weights that are there are used again"


def test_evaluation_is_exact_and_counts_memory(archipelago: CommandLine) -> None:
    assert archipelago("search", archipelago.recipe(TINY), "--in-process").exit_code == 0
    figures = bench("evaluation", "tiny", "--store", str(archipelago.store), "--images", "8")
    assert figures["max_abs_miou_diff"] == 0
    assert figures["speedup"] > 0
    assert set(figures["speedup_by_island"]) == {"branches-1", "branches-2", "branches-3"}
    assert figures["peak_bytes_merged"] >= figures["peak_bytes_single"] > 0
    assert sum(figures["stage_shares"].values()) == pytest.approx(1)
