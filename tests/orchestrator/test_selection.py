"""Which candidates are selected, on fronts that can be drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.config import ObjectiveSettings
from orchestrator.objectives import Objectives
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement
from orchestrator.selection import MERGED, Limit, evenly_spread, knee, normalised, select

OBJECTIVES = Objectives.from_settings([ObjectiveSettings(name="miou"), ObjectiveSettings(name="macs", reference=100)])


def event(island: str, number: int, miou: float, macs: float) -> Event:
    return Event(Candidate(island, number, (number,), f"{island}{number}"), Measurement({"miou": miou, "macs": macs}))


ONE = [event("one", 0, 0.2, 10), event("one", 1, 0.6, 20), event("one", 2, 0.7, 90), event("one", 3, 0.1, 50)]
TWO = [event("two", 0, 0.65, 20), event("two", 1, 0.1, 5)]


def chosen(*limits: str, spread: int = 0) -> dict[str, dict[str, tuple[str, ...]]]:
    """By front, the roles by ISLAND/NUMBER."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for one in select(OBJECTIVES, {"one": ONE, "two": TWO}, [Limit.parse(limit) for limit in limits], spread):
        candidate = one.event.candidate
        found.setdefault(one.front, {})[f"{candidate.island}/{candidate.number}"] = one.roles
    return found


def test_the_best_and_the_knee_of_each_front_and_of_the_merged_one() -> None:
    assert chosen() == {
        "one": {"one/2": ("best",), "one/1": ("knee",)},
        "two": {"two/0": ("best", "knee")},
        MERGED: {"one/2": ("best",), "two/0": ("knee",)},
    }


def test_candidates_beyond_a_limit_do_not_count() -> None:
    assert chosen("macs<=15") == {
        "one": {"one/0": ("best", "knee")},
        "two": {"two/1": ("best", "knee")},
        MERGED: {"one/0": ("best", "knee")},
    }
    assert chosen("miou>=0.62")["one"] == {"one/2": ("best", "knee")}
    assert chosen("macs<=1") == {}


def test_a_candidate_has_every_role_that_it_was_selected_for() -> None:
    assert chosen(spread=3)["one"] == {"one/2": ("best", "spread"), "one/1": ("knee", "spread"), "one/0": ("spread",)}


def test_failed_candidates_are_not_selected() -> None:
    failed = Event(Candidate("one", 0, (0,), "a"), Failure(FailureKind.EVALUATION, "no"))
    assert select(OBJECTIVES, {"one": [failed]}) == []


def test_the_knee_is_the_farthest_from_the_line_between_the_ends() -> None:
    assert knee(np.array([[0.0, 10.0], [5.0, 5.0], [1.0, 2.0], [10.0, 0.0]])) == 2
    assert knee(np.array([[3.0, 7.0]])) == 0


def test_spread_begins_at_the_best_and_goes_to_where_nobody_is() -> None:
    F = np.array([[0.0, 10.0], [1.0, 9.0], [5.0, 5.0], [6.0, 4.0], [10.0, 0.0]])
    assert evenly_spread(F, 3) == [0, 4, 2]
    assert sorted(evenly_spread(F, 9)) == [0, 1, 2, 3, 4]
    assert evenly_spread(F, 0) == []


def test_an_objective_in_which_all_are_equal_tells_nothing() -> None:
    assert normalised(np.array([[1.0, 3.0], [1.0, 5.0]])).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("text", ["macs", "macs<8", "macs<=much", "<=8", "macs<=8 m"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a limit is METRIC<=NUMBER"):
        Limit.parse(text)


def test_a_limit_is_on_what_was_measured() -> None:
    with pytest.raises(ValueError, match=r"a metric of the study \(macs, miou\), got latency_ms@orin"):
        chosen("latency_ms@orin<=8")
