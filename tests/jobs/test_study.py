"""Whole studies through the command line, and what the commands print about them."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest

from tests.jobs.conftest import TINY, TINY_HRNAS, TOY, CommandLine, without_timings
from tests.tables import rows, table_settings

COLUMNS = {
    "island",
    "number",
    "arch_id",
    "architecture",
    "status",
    "source",
    "objectives",
    "miou",
    "macs",
    "params",
    "latency_ms",
}


def test_toy_study_from_recipe_to_fronts(archipelago: CommandLine) -> None:
    result = archipelago("search", archipelago.recipe(TOY), "--in-process")
    assert result.exit_code == 0, result.stderr
    assert "shoal: " in result.stdout
    assert "archipelago ui toy" in result.stdout or " ui toy" in result.stdout
    rows = archipelago.rows("candidates", "toy")
    assert [(row["island"], row["number"]) for row in rows] == [
        (island, number) for island in ("shoal", "atoll", "reef") for number in range(12)
    ]
    for row in rows:
        assert set(row) == COLUMNS
        assert row["status"] == "measured"
        assert len(row["arch_id"]) == 16
        assert row["architecture"]["island"] == row["island"]
        assert row["objectives"] == {"miou": row["miou"], "latency_ms": row["latency_ms"]}
        assert all(isinstance(row[name], float) for name in ("miou", "macs", "params", "latency_ms"))
    status = archipelago.rows("status", "toy")
    assert [(row["island"], row["done"], row["budget"]) for row in status] == [
        ("shoal", 12, 12),
        ("atoll", 12, 12),
        ("reef", 12, 12),
    ]
    assert [row["best"] for row in status] == [row["best_miou"] for row in status]


def test_front_is_what_no_candidate_of_the_island_dominates(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    rows, front = archipelago.rows("candidates", "toy"), archipelago.rows("front", "toy")
    for row in rows:
        others = [other for other in rows if other["island"] == row["island"]]
        dominated = any(
            (other["miou"], -other["latency_ms"]) != (row["miou"], -row["latency_ms"])
            and other["miou"] >= row["miou"]
            and other["latency_ms"] <= row["latency_ms"]
            for other in others
        )
        assert (row in front) == (not dominated)


def test_failed_candidates_are_listed_and_never_on_the_front(archipelago: CommandLine) -> None:
    random = {**TOY, "sampler": {"name": "random"}}  # which candidates come does not depend on what fails
    archipelago("search", archipelago.recipe(random), "--in-process")
    best = archipelago.rows("front", "toy")[0]["arch_id"]
    other = next(row["arch_id"] for row in archipelago.rows("candidates", "toy") if row["arch_id"] != best)
    space = {"name": "toy", "non_finite": [best], "raising": [other]}
    result = archipelago("search", archipelago.recipe(random, study="faulty", space=space), "--in-process")
    assert result.exit_code == 0, result.stderr
    failed = {row["arch_id"]: row for row in archipelago.rows("candidates", "faulty") if row["status"] == "failed"}
    assert failed[best]["failure"].startswith("non_finite: metrics must be finite")
    assert failed[other]["failure"].startswith("evaluation: ToyError")
    assert failed[best]["miou"] is None
    assert not {row["arch_id"] for row in archipelago.rows("front", "faulty")} & set(failed)
    assert "failed: ToyError" in archipelago("candidates", "faulty").stdout


def test_table_study_finds_the_tables_front(archipelago: CommandLine) -> None:
    table = archipelago.folder / "table.csv"
    table.write_text("\n".join(rows()))
    space = {"name": "tabular", **table_settings(table).model_dump(mode="json")}
    objectives = [{"name": "accuracy"}, {"name": "macs", "reference": 2e9}]
    recipe = archipelago.recipe(TOY, space=space, objectives=objectives, budget={"evaluations_per_island": 240})
    result = archipelago("search", recipe, "--in-process")
    assert result.exit_code == 0, result.output
    assert "table 240/240 best accuracy 0.8949" in result.stdout
    (status,) = archipelago.rows("status", "toy")
    assert (status["objective"], status["best"]) == ("accuracy", pytest.approx(0.9 * 17600 / 17700, rel=1e-4))
    assert "best_miou" not in status
    assert "best accuracy" in archipelago("status", "toy").stdout
    best = archipelago.rows("front", "toy")
    assert best[0]["architecture"] == {"kernel": "11", "kind": "conv", "depth": "16", "width": "100"}
    assert best[0]["objectives"] == pytest.approx({"accuracy": 0.9 * 17600 / 17700, "macs": 1.76e9}, rel=1e-4)
    limited = [{"name": "accuracy", "at_least": 0.5}, {"name": "macs", "at_most": 1e6}]
    refused = archipelago("search", archipelago.recipe(TOY, study="other", space=space, objectives=limited))
    assert refused.exit_code == 2
    assert re.search(r"accuracy\.at_least 0\.5 and .*: no architecture of island table is within", refused.stderr)


def test_toy_study_on_a_local_ray_equals_the_one_in_process(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:  # a socket's path has 107 bytes at most
        program = archipelago.start(
            "search", archipelago.recipe(TOY, study="on-ray"), environment={"RAY_TMPDIR": short}
        )
        out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    assert "Traceback" not in err
    assert "archipelago candidates on-ray" in out or " candidates on-ray" in out
    assert archipelago.rows("candidates", "on-ray") == archipelago.rows("candidates", "toy")


def test_tiny_networks_from_scenes_to_fronts(archipelago: CommandLine) -> None:
    result = archipelago("search", archipelago.recipe(TINY, tracking={"enabled": True}), "--in-process")
    assert result.exit_code == 0, result.stderr
    rows = archipelago.rows("candidates", "tiny")
    assert [row["island"] for row in rows] == ["branches-1"] * 3 + ["branches-2"] * 3 + ["branches-3"] * 3
    for row in rows:
        assert row["status"] == "measured"
        assert 0 <= row["miou"] <= 1
        assert row["latency_ms"] > 0
        assert set(row["architecture"]) == {"ops", "paths", "downs", "widths", "lasts"}
        assert len(row["architecture"]["lasts"]) == int(row["island"][-1])
    assert "1/8" in archipelago("front", "tiny").stdout
    assert (archipelago.store / "mlflow.db").is_file()
    again = archipelago("search", archipelago.recipe(TINY, study="again"), "--in-process")
    assert again.exit_code == 0, again.stderr
    assert without_timings(archipelago.rows("candidates", "again")) == without_timings(rows)


def test_tiny_hrnas_networks_from_scenes_to_fronts(archipelago: CommandLine) -> None:
    result = archipelago("search", archipelago.recipe(TINY_HRNAS, tracking={"enabled": True}), "--in-process")
    assert result.exit_code == 0, result.stderr
    rows = archipelago.rows("candidates", "tiny")
    assert [row["island"] for row in rows] == ["branches-1"] * 3 + ["branches-2"] * 3
    for row in rows:
        assert row["status"] == "measured"
        assert 0 <= row["miou"] <= 1
        assert row["latency_ms"] > 0
        assert row["architecture"]["branches"] == int(row["island"][-1])
    assert " tokens" in archipelago("front", "tiny").stdout.replace("\n", " ")
    again = archipelago("search", archipelago.recipe(TINY_HRNAS, study="again"), "--in-process")
    assert again.exit_code == 0, again.stderr
    assert without_timings(archipelago.rows("candidates", "again")) == without_timings(rows)
    page = archipelago.folder / "report.html"
    assert archipelago("report", "tiny", "--out", str(page)).exit_code == 0
    assert "branches-2" in page.read_text()


def test_study_is_known_by_its_folder_too(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    folder = str(archipelago.store / "toy")
    assert archipelago("status", folder).stdout == archipelago("status", "toy").stdout


def test_resuming_what_is_finished_changes_nothing(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    before = archipelago.rows("candidates", "toy")
    assert archipelago("resume", "toy", "--in-process").exit_code == 0
    assert archipelago.rows("candidates", "toy") == before


def test_values_of_the_recipe_are_overridden(archipelago: CommandLine) -> None:
    overrides = ("--set", "budget.evaluations_per_island=5", "--set", "objectives.1.reference=20", "--set", "study=few")
    assert archipelago("search", archipelago.recipe(TOY), "--in-process", *overrides).exit_code == 0
    assert [row["done"] for row in archipelago.rows("status", "few")] == [5, 5, 5]
    manifest = json.loads((archipelago.store / "few" / "manifest.json").read_text())
    assert manifest["recipe"]["objectives"][1]["reference"] == 20


def test_fronts_are_drawn_in_the_form_that_the_name_says(archipelago: CommandLine, tmp_path: Path) -> None:
    assert archipelago("search", archipelago.recipe(TOY), "--in-process").exit_code == 0
    for name, start in (("fronts.png", b"\x89PNG"), ("fronts.svg", b"<?xml")):
        assert archipelago("front", "toy", "--picture", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    for name, words in (("fronts.gif", "must end in .png or .svg"), ("no/fronts.png", "cannot be written")):
        refused = archipelago("front", "toy", "--picture", str(tmp_path / name))
        assert refused.exit_code == 2
        assert words in refused.stderr


def test_complexity_counts_a_published_network(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    widths = [8, 8, 8, 4, 8, 10, 4, 10, 4, 8]
    network = {
        "name": "published_S_F6_w8of12_mt0",
        "arch": {
            "ops": [[3, 2, 2, 1, 2, 4, 1, 3, 3, 2, 3]],
            "paths": [[0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2]],
            "downs": [[0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]],
            "widths": [[width / 12 for width in widths]],
            "lasts": [2],
        },
        "settings": {
            "Fch": 6,
            "stem_head_width": [8 / 12, 8 / 12],
            "model_type": 0,
            "num_classes": 19,
            "norm": "BN",
            "sem_only": True,
            "use_aux": False,
            "use_bias": False,
            "align_corners": False,
            "input": [1, 3, 512, 1024],
        },
    }
    file = tmp_path / "networks.json"
    file.write_text(json.dumps({"description": "one network", "networks": [network]}))
    result = CliRunner().invoke(app, ["complexity", str(file), "--json"])
    assert json.loads(result.stdout) == [
        {
            "name": "published_S_F6_w8of12_mt0",
            "params_total": 1493813,
            "params_backbone": 1460697,
            "macs": 1709746176,
        }
    ]
    assert "1,709,746,176" in CliRunner().invoke(app, ["complexity", str(file)]).stdout


def test_complexity_counts_lightweight_transformers(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    one = {"n": 8, "s": 4, "c": 64, "h": 16, "w": 16, "c_out": 32, "downsampling": True}
    file = tmp_path / "transformers.json"
    file.write_text(json.dumps({"transformer": [one, {"n": 8, "s": 8, "c": 18, "h": 128, "w": 256}]}))
    result = CliRunner().invoke(app, ["complexity", str(file), "--json"])
    other = {"n": 8, "s": 8, "c": 18, "h": 128, "w": 256, "c_out": 18, "downsampling": False}
    assert json.loads(result.stdout) == [
        {**one, "params": 4512 - 8 * 32 - 2 * 32, "macs": 45312 - 16 * 8 * 32},
        {**other, "params": 50532, "macs": 429056},
    ]
    table = CliRunner().invoke(app, ["complexity", str(file)]).stdout
    assert "50,532" in table
    assert "32 at half size" in table


@pytest.mark.parametrize(
    "command", ["search", "resume", "status", "front", "candidates", "report", "sync", "complexity", "ui"]
)
def test_every_command_has_help(command: str, archipelago: CommandLine) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 5
