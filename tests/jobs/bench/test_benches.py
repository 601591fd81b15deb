"""The benches run on a small study and print the figures that they promise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.seaweedfs import S3Server
from jobs.bench.__main__ import app
from tests.jobs.conftest import TINY, CommandLine


def bench(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    figures: dict[str, Any] = json.loads(result.stdout)
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


def test_cluster_counts_what_a_candidate_costs_and_who_waits() -> None:
    sizes = ("--candidates", "1000", "--virtual-workers", "8,64", "--rounds", "5")
    figures = bench("cluster", "--only", "driver,virtual", *sizes)
    assert figures["driver_ms_per_candidate"] > 0
    assert len(figures["driver_ms_by_thousand"]) == 1
    virtual = figures["busy_virtual"]
    assert virtual["steady-state"]["0.25"]["64"] > virtual["generational"]["0.25"]["64"] > 0


@pytest.mark.slow
def test_cluster_measures_real_actors() -> None:
    sizes = ("--workers", "2", "--rounds", "5", "--mean-s", "0.05", "--trials", "4", "--holders", "2")
    figures = bench("cluster", "--only", "busy,tune,memory", *sizes, "--weights-mib", "64")
    for mode in ("steady-state", "generational"):
        assert all(0 < share <= 1 for share in figures["busy_real"][mode].values())
    assert figures["ratio_to_tune"] > 0
    assert figures["ratio_to_tune_batch_1"] > 0
    assert {len(of) for of in figures["rates_per_s_by_round"].values()} == {3}
    assert figures["uss_bytes_per_copying_worker"] - figures["uss_bytes_per_worker"] > 50 * 2**20


def test_cluster_refuses_parts_that_it_does_not_have() -> None:
    result = CliRunner().invoke(app, ["cluster", "--only", "driver,nonsense"])
    assert result.exit_code == 2
    assert "got nonsense" in " ".join(result.stderr.split())


def test_store_counts_what_a_journal_costs() -> None:
    figures = bench("store", "--candidates", "200,400", "--at-once", "4")
    assert set(figures["sizes"]) == {"200", "400"}
    for of in figures["sizes"].values():
        assert of["append_per_s"] > 0
        assert of["replay_per_s"] > 0
        assert 0 < of["read_s"] < of["resume_s"]
        assert of["resume_peak_bytes"] > of["resume_own_bytes"] > 0
    assert figures["sizes"]["400"]["bytes"] > figures["sizes"]["200"]["bytes"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_chaos_loses_nothing(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    figures = bench("chaos", "--kills", "15", "--stops", "2", "--bucket", s3_server.bucket)
    assert (figures["kills"], figures["lost"], figures["duplicates"], figures["identical"]) == (15, 0, 0, True)
    assert set(figures["studies"]) == {"formulas", "networks", "formulas on Ray"}
    assert figures["left_over"] == []
    assert figures["split_brain_writes"] == 0
    assert figures["losers_that_said_who"] == figures["losers"] == 4
    assert figures["missed"] == []
    assert figures["corruptions_detected"] == figures["corruptions_total"] > 20


def test_chaos_refuses_parts_that_it_does_not_have() -> None:
    result = CliRunner().invoke(app, ["chaos", "--only", "kills,nonsense"])
    assert result.exit_code == 2
    assert "got nonsense" in " ".join(result.stderr.split())
