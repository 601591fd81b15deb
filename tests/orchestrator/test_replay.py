from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config import Recipe
from orchestrator.island import make_islands
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.replay import ReplayMismatch
from search_spaces.toy import ISLANDS, ToySpace
from tests.doubles import MemoryStore, run_toy, toy_recipe
from tests.orchestrator.test_loop import simulated


@pytest.fixture(scope="module")
def events() -> dict[str, tuple[Event, ...]]:
    return run_toy(toy_recipe(budget=20), simulated(4)).events


def resume(recipe: Recipe, events: dict[str, tuple[Event, ...]]) -> None:
    journal = Journal.create(MemoryStore(), "toy", ISLANDS)
    for island in ISLANDS:
        journal.append(events[island])
    make_islands(recipe, ToySpace(), Objectives.from_settings(recipe.objectives), journal)


def test_the_same_study_replays(events: dict[str, tuple[Event, ...]]) -> None:
    resume(toy_recipe(budget=20), events)


def test_another_seed_is_said_at_the_first_event(events: dict[str, tuple[Event, ...]]) -> None:
    with pytest.raises(ReplayMismatch, match=r"island shoal, event 0 of 20: genotype is \(.*\) in the journal, \("):
        resume(toy_recipe(budget=20, seed=1), events)


@pytest.mark.parametrize("changed", [{"population": 5}, {"window": 2, "mode": "steady-state"}, {"sampler": "random"}])
def test_another_search_is_said_where_it_parts(
    events: dict[str, tuple[Event, ...]], changed: dict[str, object]
) -> None:
    with pytest.raises(ReplayMismatch, match=r"island shoal, event \d+ of 20: .* The recipe, the code or a library"):
        resume(toy_recipe(budget=20, **changed), events)  # type: ignore[arg-type]


def test_a_smaller_budget_is_said(events: dict[str, tuple[Event, ...]]) -> None:
    with pytest.raises(ReplayMismatch, match=r"event 12 of 20: the journal holds .*, but the island ends before it"):
        resume(toy_recipe(budget=12), events)


def test_an_unordered_journal_is_refused_where_numbers_count() -> None:
    search = {"mode": "steady-state", "budget": 20}
    free = toy_recipe(order="unordered", **search)  # type: ignore[arg-type]
    arrived = run_toy(free, simulated(6)).events
    resume(free, arrived)
    with pytest.raises(ReplayMismatch, match=r"island shoal, event \d of 20: the journal holds number \d in its place"):
        resume(toy_recipe(**search), arrived)  # type: ignore[arg-type]
    twice = {**arrived, "reef": (arrived["reef"][0], *arrived["reef"])}
    with pytest.raises(ReplayMismatch, match=r"island reef, event 1 of 21: the journal holds number \d for the second"):
        resume(free, twice)


def test_arrivals_in_another_order_are_said() -> None:
    free = toy_recipe(order="unordered", mode="steady-state", budget=40, population=5)
    arrived = run_toy(free, simulated(6)).events
    early = {**arrived, "shoal": (arrived["shoal"][-1], *arrived["shoal"][:-1])}
    with pytest.raises(ReplayMismatch, match=r"island shoal, event 0 of 40: .*, or asks for it later"):
        resume(free, early)
    mixed = {**arrived, "shoal": (*sorted(arrived["shoal"][:20], key=_quality), *arrived["shoal"][20:])}
    with pytest.raises(ReplayMismatch, match="island shoal, event"):
        resume(free, mixed)


def _quality(event: Event) -> float:
    assert isinstance(event.result, Measurement)
    return event.result.metrics["miou"]


def test_a_changed_result_is_said_where_it_leads_elsewhere(events: dict[str, tuple[Event, ...]]) -> None:
    forged = list(events["reef"])
    for number in range(10):
        result = forged[number].result
        assert isinstance(result, Measurement)
        forged[number] = replace(forged[number], result=replace(result, metrics={**result.metrics, "miou": number / 9}))
    with pytest.raises(ReplayMismatch, match=r"island reef, event 1\d of 20"):
        resume(toy_recipe(budget=20), {**events, "reef": tuple(forged)})
