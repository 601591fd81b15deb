"""Studies whose driver is killed or asked to stop, and what resuming them gives."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from orchestrator.sealed import seal
from tests.jobs.conftest import TINY, TOY, CommandLine, wait_until, without_timings

SLOW = {"name": "toy", "delay_s": 0.03}


def events_of(archipelago: CommandLine, study: str) -> int:
    head = archipelago.store / study / "HEAD"
    if not head.is_file():
        return 0
    return sum(island["events"] for island in json.loads(head.read_text())["islands"].values())


def content(store: Path) -> dict[str, bytes]:
    """Every object of a store in a folder."""
    files = (file for file in store.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGKILL, ["--in-process"]),
        (signal.SIGTERM, ["--in-process"]),
        (signal.SIGINT, ["--in-process"]),
        (signal.SIGTERM, []),
    ],
)
def test_search_that_was_ended_resumes_to_the_same_journal(
    archipelago: CommandLine, outside: dict[str, str], number: signal.Signals, where: list[str]
) -> None:
    archipelago("search", archipelago.recipe(TOY, study="whole"), "--in-process")
    program = archipelago.start("search", archipelago.recipe(TOY, space=SLOW), *where, environment=outside)
    wait_until(lambda: events_of(archipelago, "toy") >= 7, program)
    program.send_signal(number)
    out, err = program.communicate(timeout=30)
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert program.returncode == -signal.SIGKILL
    else:
        assert program.returncode == 130
        assert "resume toy" in out
    assert 7 <= events_of(archipelago, "toy") < 36
    resumed = archipelago("resume", "toy", "--in-process")
    assert resumed.exit_code == 0, resumed.stderr
    assert archipelago.rows("candidates", "toy") == archipelago.rows("candidates", "whole")


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_training_that_was_ended_resumes_to_the_same_weights(archipelago: CommandLine, number: signal.Signals) -> None:
    training = {"steps": 60, "batch_size": 2, "optimiser": "adamw", "checkpoint_s": 0.2}
    small = {**TINY, "training": training, "budget": {"evaluations_per_island": 2}}
    whole = archipelago("search", archipelago.recipe(small, study="whole"), "--in-process")
    assert whole.exit_code == 0, whole.stderr
    program = archipelago.start("search", archipelago.recipe(small), "--in-process")
    folder = archipelago.store / "tiny"
    wait_until((folder / "training" / "HEAD").is_file, program)
    program.send_signal(number)
    _, err = program.communicate(timeout=30)
    assert "Traceback" not in err
    assert program.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert 0 < json.loads((folder / "training" / "HEAD").read_text())["step"] < 60
    assert not (folder / "weights.json").exists()
    assert "not trained yet" in archipelago("status", "tiny").stdout
    resumed = archipelago("resume", "tiny", "--in-process")
    assert resumed.exit_code == 0, resumed.stderr
    assert (folder / "weights.json").read_text() == (archipelago.store / "whole" / "weights.json").read_text()
    assert without_timings(archipelago.rows("candidates", "tiny")) == without_timings(
        archipelago.rows("candidates", "whole")
    )


def test_study_that_was_killed_before_it_had_a_journal_is_resumed(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY, study="whole"), "--in-process")
    archipelago("search", archipelago.recipe(TOY, budget={"evaluations_per_island": 1}), "--in-process")
    manifest = json.loads((archipelago.store / "whole" / "manifest.json").read_text())
    manifest["recipe"]["study"] = "toy"
    del manifest["sha256"]
    (archipelago.store / "toy" / "manifest.json").write_bytes(seal(manifest))
    (archipelago.store / "toy" / "HEAD").unlink()
    shutil.rmtree(archipelago.store / "toy" / "journal")
    assert archipelago("resume", "toy", "--in-process").exit_code == 0
    assert archipelago.rows("candidates", "toy") == archipelago.rows("candidates", "whole")


def test_a_second_driver_is_told_who_runs_the_study(archipelago: CommandLine) -> None:
    slow = {"name": "toy", "delay_s": 1}
    program = archipelago.start("search", archipelago.recipe(TOY, space=slow, lease={"ttl_s": 12}), "--in-process")
    wait_until(lambda: events_of(archipelago, "toy") >= 1, program)
    second = archipelago("resume", "toy", "--in-process")
    assert second.exit_code == 2
    assert f"process {program.pid}, since 2" in second.stderr
    assert archipelago("status", "toy").exit_code == 0
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130, err


def test_a_driver_that_slept_past_its_lease_stops_and_says_who_has_it(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY, study="whole"), "--in-process")
    slow = {"name": "toy", "delay_s": 0.1}
    program = archipelago.start("search", archipelago.recipe(TOY, space=slow, lease={"ttl_s": 1}), "--in-process")
    wait_until(lambda: events_of(archipelago, "toy") >= 3, program)
    time.sleep(0.05)  # so that it sleeps in an evaluation: a process that sleeps with a folder's lock keeps it
    program.send_signal(signal.SIGSTOP)
    resumed = archipelago("resume", "toy", "--in-process")
    before = content(archipelago.store)
    program.send_signal(signal.SIGCONT)
    _, err = program.communicate(timeout=60)
    assert resumed.exit_code == 0, resumed.stderr
    assert content(archipelago.store) == before, "it has written after it had lost its lease"
    assert "it is taken over unless a sign of life comes within 1 s" in resumed.stdout
    assert program.returncode == 2
    assert "study toy is held by" in err
    assert "this driver has lost it and stopped" in err
    assert archipelago.rows("candidates", "toy") == archipelago.rows("candidates", "whole")


def test_a_finished_study_that_is_given_more_is_the_longer_study(archipelago: CommandLine) -> None:
    longer = {"evaluations_per_island": 16}
    archipelago("search", archipelago.recipe(TOY, study="whole", budget=longer), "--in-process")
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    more = archipelago("resume", "toy", "--in-process", "--more", "4")
    assert more.exit_code == 0, more.stderr
    assert archipelago.rows("candidates", "toy") == archipelago.rows("candidates", "whole")
    assert [row["budget"] for row in archipelago.rows("status", "toy")] == [16] * 3


def test_more_is_for_what_is_finished(archipelago: CommandLine) -> None:
    program = archipelago.start("search", archipelago.recipe(TOY, space=SLOW), "--in-process")
    wait_until(lambda: events_of(archipelago, "toy") >= 3, program)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    result = archipelago("resume", "toy", "--in-process", "--more", "4")
    assert result.exit_code == 2
    assert "--more 4 is for a finished study" in result.stderr
    assert [row["budget"] for row in archipelago.rows("status", "toy")] == [12] * 3


def test_other_code_or_libraries_are_refused_until_accepted(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    file = archipelago.store / "toy" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["sha256"]
    manifest["origin"]["code"], manifest["versions"]["pymoo"] = "0123456789abcdef", "0.0.1"
    file.write_bytes(seal(manifest))
    refused = archipelago("resume", "toy", "--in-process", "--more", "1")
    assert refused.exit_code == 2
    assert "pymoo was 0.0.1 and is 0.6.2; code was 0123456789abcdef and is " in refused.stderr
    accepted = archipelago("resume", "toy", "--in-process", "--more", "1", "--accept-changes")
    assert accepted.exit_code == 0, accepted.stderr
    assert archipelago("resume", "toy", "--in-process").exit_code == 0


def test_a_repaired_study_goes_on_to_the_same_candidates(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    before = archipelago.rows("candidates", "toy")
    (segment,) = (archipelago.store / "toy" / "journal" / "reef").iterdir()
    segment.write_bytes(segment.read_bytes()[:-20])
    refused = archipelago("resume", "toy", "--in-process")
    assert refused.exit_code == 2
    assert f"toy/journal/reef/{segment.name} is torn or was changed" in refused.stderr
    repaired = archipelago("resume", "toy", "--in-process", "--repair")
    assert repaired.exit_code == 0, repaired.stderr
    assert "island reef: 0 of 12 events are whole and stay" in repaired.stdout
    assert archipelago.rows("candidates", "toy") == before
    (kept,) = (archipelago.store / "toy" / "damaged" / "journal" / "reef").iterdir()
    assert kept.name.startswith(segment.name)


def test_a_lost_object_is_named_by_who_needs_it(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    archipelago("resume", "toy", "--in-process", "--more", "1")
    folder = archipelago.store / "toy"
    said = {"HEAD": "toy/HEAD is missing, and toy/journal/", "manifest.json": "toy/manifest.json is missing"}
    for name, words in said.items():
        (folder / name).rename(archipelago.folder / name)
        for command in (["front", "toy"], ["resume", "toy", "--in-process"]):
            result = archipelago(*command)
            assert result.exit_code == 2, result.stdout
            assert words in result.stderr
        (archipelago.folder / name).rename(folder / name)
    (folder / "amendments.json").unlink()
    result = archipelago("resume", "toy", "--in-process")
    assert result.exit_code == 2
    assert "toy/amendments.json is missing or from before: the journal holds 13 of shoal" in result.stderr


def test_a_damaged_lease_is_named_and_taken_over(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY, lease={"ttl_s": 0.2}), "--in-process")
    lease = archipelago.store / "toy" / "lease.json"
    lease.write_bytes(lease.read_bytes().replace(b'"epoch": 1', b'"epoch": 0'))
    result = archipelago("resume", "toy", "--in-process")
    assert result.exit_code == 0, result.stderr
    assert "toy/lease.json is torn or changed" in result.stdout
    assert json.loads(lease.read_text())["epoch"] == 2
