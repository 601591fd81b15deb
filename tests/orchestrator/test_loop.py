"""Whole searches of the toy space, in one process, on a clock of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local import InProcessPool
from orchestrator.archive import front
from orchestrator.config import Recipe, RecipeError
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.island import Progress
from orchestrator.loop import EndReason
from orchestrator.objectives import Objectives
from orchestrator.projection import describer, project
from orchestrator.protocols import ObjectChanged, Store
from orchestrator.records import Candidate, Event, Failure, FailureKind, Outcome, Result
from search_spaces.base import architecture_id
from search_spaces.toy import ISLANDS, ToySettings, ToySpace
from tests.doubles import MemoryStore, MemoryTracker, SimulatedPool, ToyStudy, run_toy, toy_recipe

KINDS = [
    ("nsga2", "generational"),
    ("nsga2", "steady-state"),
    ("optuna-nsga2", "generational"),
    ("random", "generational"),
]
WITHOUT_ORDER = [*KINDS[1:], ("optuna-tpe", "generational")]


@dataclass(frozen=True)
class Session:
    """Workers that a study has for a while: how many, how uneven, how often they die, and rounds until the end."""

    workers: int
    seed: int
    spread: float
    deaths: float
    rounds: int = 10**9

    def pool(self) -> SimulatedPool:
        return simulated(self.workers, self.seed, self.spread, dies=self.dies)

    def dies(self, candidate: Candidate, attempt: int) -> bool:
        """At random, but never for the last time that the scheduler would try."""
        rng = np.random.default_rng([self.seed, int(candidate.architecture_id, 16), attempt])
        return attempt < 3 and bool(rng.random() < self.deaths)

    def run(self, recipe: Recipe, store: Store, batch_size: int = 1) -> ToyStudy:
        left = iter(range(self.rounds))
        return run_toy(recipe, self.pool(), store, batch_size=batch_size, stop=lambda: next(left, None) is None)


def sessions(rounds: st.SearchStrategy[int]) -> st.SearchStrategy[Session]:
    spreads, deaths = st.sampled_from([0.0, 0.25, 1.0, 2.0]), st.sampled_from([0.0, 0.1, 0.5])
    return st.builds(Session, st.integers(1, 24), st.integers(0, 999), spreads, deaths, rounds)


def found(study: ToyStudy) -> dict[str, list[tuple[Candidate, Result]]]:
    """What a study's journal says, but for how often each candidate was tried."""
    return {island: [(one.candidate, one.result) for one in events] for island, events in study.events.items()}


def uneven(seed: int, spread: float = 1.0) -> Callable[[Candidate], float]:
    """Seconds that a candidate takes: log-normal, drawn from its id and a seed."""

    def duration_s(candidate: Candidate) -> float:
        rng = np.random.default_rng([seed, int(candidate.architecture_id, 16)])
        return float(rng.lognormal(0.0, spread))

    return duration_s


def simulated(workers: int, seed: int = 0, spread: float = 1.0, **faults: object) -> SimulatedPool:
    return SimulatedPool(ToyEvaluator(), workers, uneven(seed, spread), **faults)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "mode"), KINDS)
@given(
    before=st.lists(sessions(st.integers(0, 40)), max_size=3),
    last=sessions(st.just(10**9)),
    window=st.integers(1, 30),
    batch_size=st.integers(1, 4),
)
@settings(max_examples=12, deadline=None)
def test_the_journal_does_not_depend_on_the_workers(
    name: str, mode: str, before: list[Session], last: Session, window: int, batch_size: int
) -> None:
    """Nor on their deaths, nor on how often the study was stopped and went on elsewhere."""
    recipe = toy_recipe(name, mode=mode, budget=25, population=6, window=window)
    alone = run_toy(recipe, InProcessPool(ToyEvaluator(), slots=1))
    store = MemoryStore()
    for session in before:
        session.run(recipe, store, batch_size)
    assert found(last.run(recipe, store, batch_size)) == found(alone)


@pytest.mark.parametrize(("name", "mode"), WITHOUT_ORDER)
@given(before=st.lists(sessions(st.integers(0, 40)), max_size=3), last=sessions(st.just(10**9)))
@settings(max_examples=12, deadline=None)
def test_an_unordered_study_goes_on_wherever_it_was_stopped(
    name: str, mode: str, before: list[Session], last: Session
) -> None:
    recipe, store = toy_recipe(name, mode=mode, budget=25, population=6, window=8, order="unordered"), MemoryStore()
    written: dict[str, list[tuple[Candidate, Result]]] = {island: [] for island in ISLANDS}
    for session in [*before, last]:
        study = session.run(recipe, store)
        for island, events in found(study).items():
            assert events[: len(written[island])] == written[island], "what is in the journal stays"
        written = found(study)
    for events in written.values():
        assert sorted(candidate.number for candidate, _ in events) == list(range(25))
        assert len({candidate.architecture_id for candidate, _ in events}) == 25


class Rehearsed(InProcessPool):
    """Any number of places, whose results come in the order of an earlier journal."""

    def __init__(self, order: Mapping[str, Sequence[Event]]) -> None:
        super().__init__(ToyEvaluator(), slots=10**6)
        self._order = [event.candidate for island in order.values() for event in island]

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        waiting = {candidate for candidate, _ in self._queue}
        following = [next(one for one in self._order if one in waiting)] if waiting else []
        self._queue = deque(sorted(self._queue, key=lambda one: one[0] not in following))
        return super().collect(timeout_s)


@pytest.mark.parametrize(("name", "mode"), WITHOUT_ORDER)
def test_an_unordered_study_is_a_function_of_the_order_of_arrival(name: str, mode: str) -> None:
    """Cut anywhere, and given the rest of the results in the same order, it becomes what it was."""
    recipe, states = toy_recipe(name, mode=mode, budget=20, population=5, order="unordered"), Filmed()
    whole = run_toy(recipe, simulated(9, spread=2.0), states)
    assert any(one.candidate.number != position for position, one in enumerate(whole.events["reef"]))
    for cut, state in list(enumerate(states.seen))[::4]:
        resumed = run_toy(recipe, Rehearsed(whole.events), MemoryStore(state))
        assert found(resumed) == found(whole), f"cut after write {cut}"


def test_without_order_nothing_waits_for_a_straggler() -> None:
    def spent_s(order: str) -> float:
        pool = SimulatedPool(ToyEvaluator(), 8, lambda candidate: 200.0 if candidate.number == 3 else 1.0)
        run_toy(toy_recipe(mode="steady-state", budget=60, window=15, order=order), pool)
        return pool.now_s

    assert spent_s("unordered") < 205.0 < spent_s("ordered")


def test_an_unordered_generation_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"workers\.order must be ordered with sampler\.mode generational, got unord"):
        toy_recipe(order="unordered")


class Filmed(MemoryStore):
    """Remembers every state that a killed driver could leave behind."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, bytes]] = []

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        self.seen.append(dict(self.objects))

    def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
        super().replace(key, data, expected)
        self.seen.append(dict(self.objects))


@pytest.mark.parametrize(("name", "mode"), [*KINDS[:3], ("optuna-tpe", "generational")])
def test_a_resumed_study_is_the_uninterrupted_one_wherever_it_was_killed(name: str, mode: str) -> None:
    """States of the store that a killed driver can leave behind: all of them once, every third elsewhere."""
    recipe = toy_recipe(name, mode=mode, budget=12, population=4)
    states = Filmed()
    whole = run_toy(recipe, simulated(4), states)
    assert len(states.seen) > 30
    for cut, state in list(enumerate(states.seen))[:: 1 if mode == "steady-state" else 3]:
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
        assert poison.result.kind is FailureKind.POISON


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
    assert [(one.island, one.done, one.budget, one.best) for one in first.islands] == [
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
