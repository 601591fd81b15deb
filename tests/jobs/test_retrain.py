"""`archipelago select` and `retrain`: chosen by rule or by name, trained from scratch once, resumed after a kill."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.file_store import FileStore
from orchestrator.retraining import read_retrained
from tests.jobs.conftest import TINY, TOY, CommandLine, wait_until


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A store with the finished study `tiny`."""
    archipelago = CommandLine(tmp_path_factory.mktemp("retrain"))
    assert archipelago("search", archipelago.recipe(TINY), "--in-process").exit_code == 0
    return archipelago


def retrain(study: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    result = study("retrain", "tiny", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_selected_candidates_are_on_their_fronts(study: CommandLine) -> None:
    fronts = {(row["island"], row["number"]) for row in study.rows("front", "tiny")}
    selected = study.rows("select", "tiny")
    assert {(row["island"], row["number"]) for row in selected} <= fronts
    assert {row["front"] for row in selected} == {"branches-1", "branches-2", "branches-3", "all islands"}
    assert {role for row in selected for role in row["roles"]} == {"best", "knee"}
    assert "branches-2/" in study("select", "tiny", "--limit", "macs<=1e9").stdout


def test_a_candidate_is_trained_from_scratch_once_for_each_seed(study: CommandLine) -> None:
    options = ("branches-1/0", "--in-process", "--seeds", "2", "--set", "retraining.drop_path=0.2")
    (row,) = retrain(study, *options)
    first, second = row["trials"]
    assert first["weights"] != second["weights"]
    assert 0 <= first["miou"] <= 1
    assert 0 <= first["test_miou"] <= 1
    assert row["miou_mean"] == pytest.approx((first["miou"] + second["miou"]) / 2)
    assert retrain(study, *options) == [row]
    found = [result for result in read_retrained(FileStore(study.store), "tiny") if result.trial.settings["drop_path"]]
    assert len(found) == 2


def test_the_size_may_be_another_one(study: CommandLine) -> None:
    def params(*settings: str) -> int:
        changes = [part for setting in settings for part in ("--set", setting)]
        (row,) = retrain(study, "branches-1/0", "--in-process", *changes)
        return int(row["trials"][0]["params"])

    assert params("retraining.filters=2") > 2 * params()


def test_what_is_selected_is_what_is_trained(study: CommandLine) -> None:
    selected = {row["candidate"] for row in study.rows("select", "tiny")}
    rows = retrain(study, "--in-process", "--set", "retraining.steps=1")
    assert {row["candidate"] for row in rows} == selected


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(study: CommandLine) -> None:
    settings = ("--set", "retraining.steps=60", "--set", "retraining.checkpoint_s=0.05", "--in-process")
    program = study.start("retrain", "tiny", "branches-1/0", *settings)
    wait_until(lambda: any(study.store.glob("tiny/retrained/*/HEAD")), program)
    program.kill()
    program.communicate()
    (resumed,) = retrain(study, "branches-1/0", *settings)
    assert not list(study.store.glob("tiny/retrained/*/HEAD"))
    assert study("search", study.recipe(TINY, study="tiny2"), "--in-process").exit_code == 0
    result = study("retrain", "tiny2", "branches-1/0", *settings, "--json")
    assert json.loads(result.stdout)[0]["trials"][0]["weights"] == resumed["trials"][0]["weights"]


@pytest.mark.slow
def test_ray_tune_trains_to_the_same_weights(study: CommandLine) -> None:
    rows = retrain(study, "branches-1/0", "branches-2/0")
    for file in study.store.glob("tiny/retrained/*.json"):
        file.unlink()
    assert [[trial["weights"] for trial in row["trials"]] for row in rows] == [
        [trial["weights"] for trial in row["trials"]]
        for row in retrain(study, "branches-1/0", "branches-2/0", "--in-process")
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("branches-1/99",), "candidate branches-1/99 does not exist"),
        (("branches-9/1",), "a candidate is ISLAND/NUMBER with an island of branches-1, branches-2, branches-3"),
        (("--set", "space.filters=3"), "of a study that exists only retraining., data.root= can be changed"),
        (("--set", "retraining.stepps=3"), "retraining.stepps"),
        (("--limit", "macs<=1"), "no measured candidate within the limits"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is(
    study: CommandLine, arguments: tuple[str, ...], words: str
) -> None:
    result = study("retrain", "tiny", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_space_without_networks_has_nothing_to_train(archipelago: CommandLine) -> None:
    assert archipelago("search", archipelago.recipe(TOY), "--in-process").exit_code == 0
    result = archipelago("retrain", "toy", "--in-process")
    assert result.exit_code == 2
    assert "which has no networks to train" in result.stderr
