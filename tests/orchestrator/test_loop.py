"""Whole searches of the toy space, in one process, on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local import InProcessPool
from orchestrator.archive import front
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.island import Progress
from orchestrator.loop import EndReason
from orchestrator.objectives import Objectives
from orchestrator.projection import describer, project
from orchestrator.protocols import ObjectChanged, Store
from orchestrator.records import Candidate, Failure, FailureKind
from search_spaces.base import architecture_id
from search_spaces.toy import ISLANDS, ToySettings, ToySpace
from tests.doubles import MemoryStore, MemoryTracker, SimulatedPool, run_toy, toy_recipe

KINDS = [
    ("nsga2", "generational"),
    ("nsga2", "steady-state"),
    ("optuna-nsga2", "generational"),
    ("random", "generational"),
]


def uneven(seed: int, spread: float = 1.0) -> Callable[[Candidate], float]:
    """Seconds that a candidate takes: log-normal, drawn from its id and a seed."""

    def duration_s(candidate: Candidate) -> float:
        rng = np.random.default_rng([seed, int(candidate.architecture_id, 16)])
        return float(rng.lognormal(0.0, spread))

    return duration_s


def simulated(workers: int, seed: int = 0, **faults: object) -> SimulatedPool:
    return SimulatedPool(ToyEvaluator(), workers, uneven(seed), **faults)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "mode"), KINDS)
@given(workers=st.integers(1, 24), seed=st.integers(0, 999), batch_size=st.integers(1, 4))
@settings(max_examples=5, deadline=None)
def test_the_journal_does_not_depend_on_the_workers(
    name: str, mode: str, workers: int, seed: int, batch_size: int
) -> None:
    recipe = toy_recipe(name, mode=mode, budget=25, population=6)
    alone = run_toy(recipe, InProcessPool(ToyEvaluator(), slots=1))
    assert run_toy(recipe, simulated(workers, seed), batch_size=batch_size).events == alone.events


@pytest.mark.parametrize(("name", "mode"), [*KINDS[:3], ("optuna-tpe", "generational")])
def test_a_resumed_study_is_the_uninterrupted_one_wherever_it_was_killed(name: str, mode: str) -> None:
    """States of the store that a killed driver can leave behind: all of them once, every third elsewhere."""
    recipe = toy_recipe(name, mode=mode, budget=12, population=4)
    states: list[dict[str, bytes]] = []

    class Filmed(MemoryStore):
        def create(self, key: str, data: bytes) -> None:
            super().create(key, data)
            states.append(dict(self.objects))

        def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
            super().replace(key, data, expected)
            states.append(dict(self.objects))

    whole = run_toy(recipe, simulated(4), Filmed())
    assert len(states) > 30
    for cut, state in list(enumerate(states))[:: 1 if mode == "steady-state" else 3]:
        resumed = run_toy(recipe, simulated(1 + cut % 5, seed=cut), MemoryStore(state))
        assert resumed.events == whole.events, f"cut after write {cut}"
        assert resumed.ending.reason is EndReason.FINISHED


def test_every_island_has_its_budget_its_front_and_no_candidate_twice() -> None:
    pool = simulated(6)
    study = run_toy(toy_recipe(budget=60), pool)
    assert study.ending.reason is EndReason.FINISHED
    assert {island: len(events) for island, events in study.events.items()} == dict.fromkeys(ISLANDS, 60)
    assert len({(one.island, one.architecture_id) for one in pool.evaluated}) == len(pool.evaluated) == 180
    space = ToySpace()
    assert all(not space.violations(space.decode(one.island, one.genotype)) for one in pool.evaluated)
    for island in study.islands:
        found = front(Objectives.from_settings(toy_recipe().objectives), study.events[island.name])
        assert {event.candidate.number for event in found} == island.archive.front


def test_the_whole_front_is_found_when_the_whole_island_is_searched() -> None:
    study = run_toy(toy_recipe("random", budget=600, window=30), simulated(8))
    assert study.ending.reason is EndReason.FINISHED
    assert "island shoal holds no more than" in study.ending.message
    space = ToySpace()
    for island in study.islands:
        assert 530 <= island.archive.done <= 550
        known = {architecture_id(one) for one in space.front(island.name)}
        numbered = {event.candidate.number: event.candidate.architecture_id for event in study.events[island.name]}
        assert len(known & {numbered[number] for number in island.archive.front}) >= 15


def test_no_worker_idles_while_another_island_has_work() -> None:
    pool = simulated(4)
    run_toy(toy_recipe(budget=60, window=20), pool)
    work_s = sum(uneven(0)(candidate) for candidate in pool.evaluated)
    assert work_s / (4 * pool.now_s) > 0.9


def test_candidates_beyond_a_limit_are_not_on_the_front() -> None:
    limited = ({"name": "miou", "at_least": 0.3}, {"name": "macs", "at_most": 2.4e7, "reference": 2.4e7})
    study = run_toy(toy_recipe(objectives=limited, budget=60), simulated(4))
    for island in study.islands:
        events = study.events[island.name]
        assert island.archive.front
        for number in island.archive.front:
            metrics = events[number].result.metrics  # type: ignore[union-attr]
            assert metrics["miou"] >= 0.3
            assert metrics["macs"] <= 2.4e7


def test_failures_are_recorded_and_never_on_the_front() -> None:
    space = ToySpace()
    raising, nan = (tuple(architecture_id(one) for one in space.front("reef")[start::2]) for start in (0, 1))
    pool = SimulatedPool(ToyEvaluator(ToySettings(raising=raising, non_finite=nan)), 4, uneven(0))
    study = run_toy(toy_recipe(budget=200, population=20), pool)
    kinds = {event.result.kind: event for event in study.events["reef"] if isinstance(event.result, Failure)}
    assert set(kinds) == {FailureKind.EVALUATION, FailureKind.NON_FINITE}
    assert "nan" in kinds[FailureKind.NON_FINITE].result.message  # type: ignore[union-attr]
    reef = study.islands[-1]
    assert reef.archive.done == 200
    assert not {number for number in reef.archive.front if study.events["reef"][number].status == "failed"}


def test_dying_workers_change_nothing_but_the_attempts() -> None:
    recipe = toy_recipe(budget=30)
    calm = run_toy(recipe, simulated(4))
    stormy = run_toy(recipe, simulated(4, dies=lambda candidate, attempt: (candidate.number + attempt) % 3 == 0))
    for island in ISLANDS:
        assert [(one.candidate, one.result) for one in stormy.events[island]] == [
            (one.candidate, one.result) for one in calm.events[island]
        ]
    assert {event.attempts for event in stormy.events["reef"]} == {1, 2}


def test_poison_is_recorded_after_the_last_attempt_and_the_study_goes_on() -> None:
    study = run_toy(toy_recipe(budget=30), simulated(4, dies=lambda candidate, attempt: candidate.number == 7))
    assert study.ending.reason is EndReason.FINISHED
    for events in study.events.values():
        (poison,) = [event for event in events if event.status == "failed"]
        assert (poison.candidate.number, poison.attempts) == (7, 3)
        assert isinstance(poison.result, Failure)
        assert poison.result.kind is FailureKind.INFRASTRUCTURE


def test_without_workers_the_journal_is_closed_and_the_study_resumes() -> None:
    store, recipe, tracker = MemoryStore(), toy_recipe(budget=30), MemoryTracker()
    first = run_toy(recipe, simulated(4, lasts=40), store, tracker)
    assert (first.ending.reason, first.ending.message) == (EndReason.NO_WORKERS, "no worker is left")
    assert tracker.status == "FAILED"
    assert 30 < sum(len(events) for events in first.events.values()) <= 40
    assert run_toy(recipe, simulated(2), store).events == run_toy(recipe, simulated(4)).events


def test_a_request_to_stop_is_followed_and_the_study_resumes() -> None:
    store, recipe, tracker, rounds = MemoryStore(), toy_recipe(budget=30), MemoryTracker(), iter(range(10**6))
    first = run_toy(recipe, simulated(4), store, tracker, stop=lambda: next(rounds) >= 25)
    assert first.ending.reason is EndReason.STOPPED
    assert tracker.status == "KILLED"
    assert 15 < sum(len(events) for events in first.events.values()) <= 26
    assert run_toy(recipe, simulated(2), store).events == run_toy(recipe, simulated(4)).events


def test_a_finished_study_resumed_does_nothing() -> None:
    store, recipe = MemoryStore(), toy_recipe(budget=10)
    run_toy(recipe, simulated(4), store)
    pool = simulated(4)
    assert run_toy(recipe, pool, store).ending.reason is EndReason.FINISHED
    assert pool.evaluated == []


def test_a_second_driver_is_refused_and_its_tracker_told() -> None:
    store, tracker = MemoryStore(), MemoryTracker()

    class Stolen(SimulatedPool):
        def collect(self, timeout_s: float):  # type: ignore[no-untyped-def]
            if len(self.evaluated) == 5:
                _write_head(store)
            return super().collect(timeout_s)

    with pytest.raises(ObjectChanged, match="toy/HEAD"):
        run_toy(toy_recipe(), Stolen(ToyEvaluator(), 4, uneven(0)), store, tracker)
    assert tracker.status == "FAILED"


def _write_head(store: Store) -> None:
    head = store.read("toy/HEAD")
    store.replace("toy/HEAD", head + b" ", head)


def test_the_tracker_ends_with_the_final_front() -> None:
    store, tracker, recipe = MemoryStore(), MemoryTracker(), toy_recipe(budget=40)
    study = run_toy(recipe, simulated(4), store, tracker)
    final = {(island.name, number) for island in study.islands for number in island.archive.front}
    assert {name for name, on_front in tracker.on_front.items() if on_front} == final
    assert len(tracker.on_front) == 120
    assert set(tracker.descriptions["reef", 0]) == {"island", "depth", "width", "kernel", "tokens"}
    assert tracker.figures["reef"]["evaluated"] == 40
    assert tracker.status == "FINISHED"

    rebuilt = MemoryTracker()
    project(study.journal, Objectives.from_settings(recipe.objectives), describer(ToySpace()), rebuilt)
    assert (rebuilt.on_front, rebuilt.figures) == (tracker.on_front, tracker.figures)


def test_progress_says_how_far_every_island_is() -> None:
    seen: list[Progress] = []
    pool = simulated(4)
    run_toy(toy_recipe(budget=20), pool, on_progress=seen.append, now=lambda: pool.now_s)
    first, last = seen[0], seen[-1]
    assert [(one.island, one.done, one.budget, one.best_miou) for one in first.islands] == [
        (island, 0, 20, None) for island in ISLANDS
    ]
    assert first.left_s is None
    assert all(one.finished and one.done == 20 and 0 < one.hypervolume < 1 for one in last.islands)
    assert (last.evaluated, last.elapsed_s, last.left_s) == (60, pool.now_s, 0.0)
    middle = seen[len(seen) // 2]
    assert middle.left_s is not None
    assert 0 < middle.left_s < 3 * pool.now_s
    assert middle.evaluated < 60
    dones = [sum(one.done for one in progress.islands) for progress in seen]
    assert dones == sorted(dones)


def test_a_resumed_sessions_pace_counts_from_its_start() -> None:
    store, recipe, rounds = MemoryStore(), toy_recipe(budget=20), iter(range(10**6))
    run_toy(recipe, simulated(4), store, stop=lambda: next(rounds) >= 30)
    seen: list[Progress] = []
    run_toy(recipe, simulated(4), store, on_progress=seen.append)
    assert seen[0].evaluated == 0
    assert sum(one.done for one in seen[0].islands) > 0
    assert seen[-1].evaluated == 60 - sum(one.done for one in seen[0].islands)
