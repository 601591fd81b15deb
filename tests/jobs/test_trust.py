"""`archipelago trust`: evidence is gathered once, added to, kept in the store, and shared with `retrain`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from infra.file_store import FileStore
from jobs.trust import FINE_TUNED
from orchestrator.retraining import read_retrained
from orchestrator.sealed import seal
from orchestrator.trust import SEARCH, read_evidence
from tests.jobs.conftest import TINY, TOY, CommandLine, wait_until


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with the finished studies `tiny` and `other`."""
    archipelago = CommandLine(tmp_path_factory.mktemp("trust"))
    assert archipelago("search", archipelago.recipe(TINY), "--in-process").exit_code == 0
    assert archipelago("search", archipelago.recipe(TINY, study="other", seed=1), "--in-process").exit_code == 0
    return archipelago


def trust(study: CommandLine, *options: str) -> dict[str, Any]:
    result = study("trust", "tiny", "--in-process", "--sampled", "3", "--random", "1", *options, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_what_the_evidence_has(study: CommandLine) -> None:
    found = trust(study, "--fine-tune", "2", "--also", "other")
    groups = {group: [one for one in found["networks"] if one["group"] == group] for group in ("sampled", "searched")}
    assert len(groups["sampled"]) == 9
    assert [one["island"] for one in groups["searched"]] == ["branches-1", "branches-2", "branches-3"]
    assert all(len(one["scratch"]) == 1 for one in found["networks"])
    assert {SEARCH, FINE_TUNED, "other"} == set(found["correlation"])
    assert found["correlation"][SEARCH]["all islands"]["n"] >= 9
    assert found["noise"]["scratch_deviation"] > 0
    best = {row["island"]: row for row in study.rows("select", "tiny") if "best" in row["roles"]}
    for row in found["searched"]:
        assert row["miou_shared"] == best[row["island"]]["miou"]
        assert row["macs"] == best[row["island"]]["macs"]


@pytest.mark.slow
def test_more_evidence_adds_to_what_there_is(study: CommandLine) -> None:
    first = trust(study)
    before = {result.trial.id for result in read_retrained(FileStore(study.store), "tiny")}
    second = trust(study, "--seeds", "2")
    for one, two in zip(first["networks"], second["networks"], strict=True):
        assert two["scratch"][: len(one["scratch"])] == one["scratch"]
        assert len(two["scratch"]) == 2
    assert before < {result.trial.id for result in read_retrained(FileStore(study.store), "tiny")}
    kept = read_evidence(FileStore(study.store), "tiny")
    assert kept is not None
    assert [list(one.scratch) for one in kept.networks] == [one["scratch"] for one in second["networks"]]


def test_more_of_one_group_are_the_same_ones_of_the_others(study: CommandLine) -> None:
    few = trust(study)["networks"]
    more = trust(study, "--sampled", "4", "--distort-all")["networks"]
    for group, count in (("sampled", 9), ("searched", 3), ("random", None)):
        before, now = ([one["architecture_id"] for one in some if one["group"] == group] for some in (few, more))
        assert set(before) <= set(now), group
        assert count in (None, len(before))
        assert len(now) == len(before) + (3 if group == "sampled" else 0)
    distorted = {one["island"] for one in more if one["group"] == "distorted"}
    assert distorted > {one["island"] for one in few if one["group"] == "distorted"} == {"branches-3"}


def test_a_score_that_is_kept_is_not_computed_again(study: CommandLine) -> None:
    first = trust(study)
    for file in study.store.glob("evaluations/*/*/*.json"):
        kept = json.loads(file.read_text())
        del kept["sha256"]
        kept["metrics"]["miou"] += 1.0
        file.write_bytes(seal(kept))
    again = trust(study)
    for one, two in zip(first["networks"], again["networks"], strict=True):
        assert two["shared"] == pytest.approx({name: score + 1.0 for name, score in one["shared"].items()})
    for file in study.store.glob("evaluations/*/*/*.json"):
        file.unlink()
    assert trust(study)["networks"] == first["networks"]


def test_stopped_while_scoring_it_keeps_what_it_has(study: CommandLine) -> None:
    options = ("--in-process", "--sampled", "3000", "--random", "0")
    program = study.start("trust", "other", *options)
    wait_until(lambda: "scoring 9" in _said(program), program)
    wait_until(lambda: any(study.store.glob("evaluations/*/*/*.json")), program)
    program.terminate()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "stopped while networks were scored: the same command goes on" in errors


def test_the_report_shows_the_evidence(study: CommandLine) -> None:
    trust(study)
    file = study.folder / "report.html"
    assert study("report", "tiny", "--out", str(file)).exit_code == 0
    page = file.read_text()
    assert "Found networks against random ones of their size" in page
    assert "mIoU of networks trained from scratch, 8 steps" in page
    shown = json.loads(page.split('id="data" type="application/json">')[1].split("</script>")[0])
    evidence = trust(study)
    assert shown["noise"] == {"miou": evidence["noise"]["recalibration_deviation"]}
    for row in evidence["searched"]:
        assert shown["scratch"][row["candidate"]] == [row["miou"]]


def test_stopped_while_fine_tuning_it_says_that_it_goes_on(study: CommandLine) -> None:
    options = ("--in-process", "--sampled", "1", "--random", "0", "--fine-tune", "100000")
    program = study.start("trust", "other", *options)
    wait_until(lambda: "fine-tuning the supernet" in _said(program), program)
    program.terminate()
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "stopped while the supernet was fine-tuned for branches-1: the same command goes on" in errors
    assert list(study.store.glob("other/fine-tuned/*/HEAD"))


def _said(program: subprocess.Popen[str]) -> str:
    """The next line that the program prints."""
    assert program.stdout is not None
    return program.stdout.readline()


def test_the_tables_name_what_was_compared(study: CommandLine) -> None:
    shown = study("trust", "tiny", "--in-process", "--sampled", "3", "--random", "1").stdout
    assert "Rank correlation of mIoU" in shown
    assert "Noise, and what there is to find" in shown


def test_a_space_without_networks_has_no_evidence(archipelago: CommandLine) -> None:
    assert archipelago("search", archipelago.recipe(TOY), "--in-process").exit_code == 0
    result = archipelago("trust", "toy", "--in-process")
    assert result.exit_code == 2
    assert "which has no networks to train" in result.stderr
