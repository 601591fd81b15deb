"""Who is looked at first."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.archive import front
from orchestrator.objectives import Objectives
from orchestrator.records import Candidate, Event, Measurement
from orchestrator.report.columns import Found
from orchestrator.report.picks import picks
from tests.doubles import toy_recipe
from tests.orchestrator.report.conftest import LATENCY_AND_MIOU


def event(number: int, miou: float, latency_ms: float) -> Event:
    return Event(Candidate("reef", number, (), ""), Measurement({"miou": miou, "latency_ms": latency_ms}))


def test_each_island_has_its_best_and_its_knee() -> None:
    events = [event(0, 0.9, 10.0), event(1, 0.8, 2.0), event(2, 0.5, 1.0), event(3, 0.4, 5.0)]
    found = list(picks(Objectives.from_settings(LATENCY_AND_MIOU), {"atoll": [], "reef": events}))
    assert found == [(0, "highest mIoU"), (1, "knee"), (2, "lowest latency")]


def test_one_candidate_may_be_best_at_everything() -> None:
    found = list(picks(Objectives.from_settings(LATENCY_AND_MIOU), {"reef": [event(0, 0.9, 1.0)]}))
    assert found == [(0, "highest mIoU, knee, lowest latency")]
    one = Objectives.from_settings(toy_recipe(objectives=({"name": "miou"},)).objectives)
    assert list(picks(one, {"reef": [event(0, 0.9, 1.0)]})) == [(0, "highest mIoU")]


def test_they_are_on_the_front_of_their_island(small_study: Found) -> None:
    of_fronts = {
        event.candidate for events in small_study.events.values() for event in front(small_study.objectives, events)
    }
    found = [small_study.flat[index].candidate for index, _ in picks(small_study.objectives, small_study.events)]
    assert set(found) <= of_fronts
    assert {candidate.island for candidate in found} == set(small_study.events)
    empty = replace(small_study, events=dict.fromkeys(small_study.events, ()))
    assert list(picks(empty.objectives, empty.events)) == []
