"""What the page draws from, held against archives that are built anew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.local import InProcessPool
from orchestrator.archive import Archive, front
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.objectives import Objectives
from orchestrator.records import Measurement, Source
from orchestrator.report.columns import CODES, Found, columns
from search_spaces.toy import ToySpace
from tests.doubles import run_toy, toy_recipe
from tests.orchestrator.report.conftest import MESSAGE


def toy_found(*objectives: dict[str, object], budget: int = 40) -> Found:
    recipe = toy_recipe(budget=budget, objectives=objectives or ({"name": "miou"}, {"name": "macs", "reference": 1e9}))
    study = run_toy(recipe, InProcessPool(ToyEvaluator()))
    return Found("toy", Objectives.from_settings(recipe.objectives), ToySpace(), study.events, 10)


def test_every_column_has_an_entry_for_every_candidate(small_study: Found) -> None:
    data = columns(small_study)
    json.dumps(data, allow_nan=False)
    assert data["number"] == [*range(120)] * 3
    assert data["island"] == [0] * 120 + [1] * 120 + [2] * 120
    each = [*(data[name] for name in ("generation", "words", "until", "hypervolume", "merged", "seconds"))]
    each += [*data["metrics"].values(), *data["classes"].values(), *data["properties"].values()]
    assert {len(column) for column in [*each, data["choices"]["each"]]} == {360}
    assert list(data["metrics"]) == ["miou", "latency_ms", "macs", "params"]
    assert list(data["classes"]) == ["Sky", "Road", "Car"]
    assert data["metrics"]["miou"][99] is None


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_fronts_of_any_moment_follow_from_one_column(objectives: int) -> None:
    names = ({"name": "miou"}, {"name": "macs", "reference": 1e9}, {"name": "params", "reference": 1e6})
    found = toy_found(*names[:objectives])
    data, first = columns(found), 0
    for events in found.events.values():
        until = data["until"][first : first + len(events)]
        for after in range(1, len(events) + 1):
            archive = Archive(found.objectives, events[:after])
            there = {
                events[place].candidate.number
                for place in range(after)
                if until[place] is None or until[place] > after
            }  # fmt: skip
            assert there == archive.front
            assert data["hypervolume"][first + after - 1] == pytest.approx(archive.hypervolume, rel=1e-4)
        first += len(events)


def test_the_merged_front_is_the_front_of_all_fronts(small_study: Found) -> None:
    data, events = columns(small_study), small_study.flat
    rows = [(data["metrics"]["miou"][i], data["metrics"]["latency_ms"][i]) for i in range(len(events))]
    known = [row for row in rows if row[0] is not None]
    for index, (miou, latency_ms) in enumerate(rows):
        beaten = miou is None or any(
            m >= miou and ms <= latency_ms and (m, ms) != (miou, latency_ms) for m, ms in known
        )
        assert data["merged"][index] == (not beaten)
    assert data["merged_hypervolume"] == sorted(data["merged_hypervolume"])
    assert data["merged_hypervolume"][-1] >= max(data["hypervolume"])


def test_choices_say_what_each_architecture_has(small_study: Found) -> None:
    choices = columns(small_study)["choices"]
    for event, each in list(zip(small_study.flat, choices["each"], strict=True))[::17]:
        architecture = small_study.architecture(event)
        named = {
            (row, column): choices["kinds"][CODES.index(code)]
            for (row, column), code in zip(choices["places"], each, strict=True)
            if code != "."
        }
        expected = small_study.space.choices(architecture)  # type: ignore[attr-defined]
        assert named == {(one.row, one.column): one.kind for one in expected}


def test_drawings_are_those_of_the_fronts(small_study: Found) -> None:
    drawn = {int(index) for index in columns(small_study)["drawings"]}
    fronts = [event for events in small_study.events.values() for event in front(small_study.objectives, events)]
    assert {small_study.flat[index].candidate for index in drawn} == {event.candidate for event in fronts}


def test_failures_that_are_alike_are_one_entry(small_study: Found) -> None:
    (failure,) = columns(small_study)["failures"]
    assert failure["message"] == MESSAGE
    assert failure["candidates"] == [99, 219, 339]


def test_seconds_are_those_of_the_worker_that_spent_them(small_study: Found) -> None:
    data = columns(small_study)
    busy = {row["worker"]: row for row in data["busy"]}
    assert list(busy) == ["CPU lane-0", "CPU worker-0", "CPU worker-1"]
    assert busy["CPU lane-0"]["stages"] == pytest.approx({"latency": 357 * 0.15})
    assert busy["CPU worker-0"]["stages"] == pytest.approx({"recalibration": 36.0, "validation": 45.0})
    assert busy["CPU worker-0"]["candidates"] == 180
    assert data["seconds"][:2] == [0.6, 0.6]


def test_what_a_memo_knew_cost_nothing_but_its_latency(small_study: Found) -> None:
    island, events = next(iter(small_study.events.items()))
    assert isinstance(events[0].result, Measurement)
    known = replace(events[0], result=replace(events[0].result, source=Source.MEMO))
    data = columns(replace(small_study, events={island: [known]}))
    assert data["seconds"] == [0.15]
    assert [row["stages"] for row in data["busy"]] == [{"latency": 0.15}]


def test_a_study_without_candidates_has_empty_columns(small_study: Found) -> None:
    data = columns(replace(small_study, events=dict.fromkeys(small_study.events, ())))
    assert data["number"] == data["picks"] == data["busy"] == data["failures"] == []
    assert data["islands"] == list(small_study.events)
