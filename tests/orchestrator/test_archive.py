from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.archive import Archive
from orchestrator.objectives import Objectives
from orchestrator.projection import running_figures
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement
from tests.doubles import toy_recipe

OBJECTIVES = Objectives.from_settings(
    toy_recipe(objectives=({"name": "miou"}, {"name": "macs", "reference": 9.0}, {"name": "params"})).objectives
)
COSTS = st.integers(1, 6)


def event(number: int, miou: float, macs: float, params: float) -> Event:
    return Event(Candidate("reef", number, (number,), ""), Measurement({"miou": miou, "macs": macs, "params": params}))


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def test_the_front_as_drawn() -> None:
    """
    miou 0.9 |             3
         0.5 |     1   2
         0.2 | 0       4
             +-1---2---3---4-- macs     2 costs more than 1, which it equals; 4 is worse in both
    """
    points = [(0.2, 1), (0.5, 2), (0.5, 3), (0.9, 4), (0.2, 3)]
    assert Archive(OBJECTIVES, [event(n, *point, 1) for n, point in enumerate(points)]).front == {0, 1, 3}


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75]), COSTS, COSTS), max_size=25))
def test_the_front_is_what_nothing_dominates_whatever_came_first(points: list[tuple[float, int, int]]) -> None:
    archive = Archive(OBJECTIVES, [event(number, *point) for number, point in enumerate(points)])
    minimised = [(-miou, macs, params) for miou, macs, params in points]
    best = {number for number, one in enumerate(minimised) if not any(dominates(other, one) for other in minimised)}
    assert archive.front == best
    backwards = Archive(OBJECTIVES, [event(number, *point) for number, point in reversed([*enumerate(points)])])
    assert (backwards.front, backwards.done) == (best, len(points))
    assert abs(backwards.hypervolume - archive.hypervolume) < 1e-12


def test_best_is_the_best_of_each_objective_within_the_limits() -> None:
    document = ({"name": "latency_ms", "at_most": 5.0}, {"name": "accuracy"})
    objectives = Objectives.from_settings(toy_recipe(objectives=document).objectives)
    archive = Archive(objectives)
    assert (archive.objective, archive.best) == ("latency_ms", {})
    for number, (latency_ms, accuracy) in enumerate([(4.0, 0.5), (3.0, 0.4), (4.5, 0.7), (6.0, 0.9)]):
        measured = Measurement({"latency_ms": latency_ms, "accuracy": accuracy})
        archive.add(Event(Candidate("reef", number, (number,), ""), measured))
    assert archive.best == {"latency_ms": 3.0, "accuracy": 0.7}
    assert running_figures(archive).keys() == {"hypervolume", "front_size", "failed", "best_latency_ms"}
    assert running_figures(archive)["best_latency_ms"] == 3.0


def test_failures_are_counted_and_nothing_more() -> None:
    failed = Event(Candidate("reef", 0, (0,), ""), Failure(FailureKind.EVALUATION, "no"))
    archive = Archive(OBJECTIVES, [failed])
    assert (archive.done, archive.failed, archive.front, archive.hypervolume) == (1, 1, frozenset(), 0.0)
