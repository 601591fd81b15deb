"""The ordered window: what is asked depends on seed and window, and on nothing that workers do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.objectives import Objectives, Scores
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Outcome, Result, with_latency
from orchestrator.samplers.registry import make_sampler
from orchestrator.scheduler import Scheduler
from search_spaces.base import Genotype
from search_spaces.toy import ToySpace
from tests.doubles import toy_recipe

OBJECTIVES = Objectives.from_settings(toy_recipe().objectives)


class Listener:
    """A sampler that proposes every genotype in turn and writes down when it was told what."""

    def __init__(self, proposals: Sequence[Genotype], generation: int = 1) -> None:
        self._proposals, self._generation = iter(proposals), generation
        self.told: list[int] = []
        self.told_before_ask: dict[int, int] = {}
        self.scores: list[Scores | None] = []

    def prerequisite(self, number: int) -> int:
        return number // self._generation * self._generation if self._generation > 1 else 0

    def ask(self, number: int) -> Genotype:
        self.told_before_ask[number] = len(self.told)
        return next(self._proposals)

    def tell(self, number: int, genotype: Genotype, scores: Scores | None) -> None:
        self.told.append(number)
        self.scores.append(scores)


DISTINCT: list[Genotype] = [(depth, width, 0, 0, 0) for depth in range(10) for width in range(3)]


def scheduler(
    sampler: object, *, budget: int = 30, window: int = 3, max_attempts: int = 3, ordered: bool = True
) -> Scheduler:
    rng = np.random.default_rng(0)
    return Scheduler(
        ToySpace(),
        "reef",
        sampler,  # type: ignore[arg-type]
        OBJECTIVES,
        budget=budget,
        window=window,
        max_attempts=max_attempts,
        rng=rng,
        ordered=ordered,
    )


def result(candidate: Candidate) -> Result:
    (accuracy,) = ToyEvaluator().score([candidate])
    assert isinstance(accuracy, Measurement)
    return with_latency(accuracy, ToyEvaluator().latency(candidate))


def finish(one: Scheduler, candidate: Candidate, with_result: Result | None = None) -> tuple[Event, ...]:
    return one.receive(Outcome(candidate, with_result or result(candidate)))


def take_all(one: Scheduler) -> list[Candidate]:
    return list(iter(one.take, None))


def drain(one: Scheduler, order: np.random.Generator, workers: int) -> list[Event]:
    """Runs to the end with so many workers, the next to finish drawn at random."""
    running: list[Candidate] = []
    events: list[Event] = []
    while not one.finished:
        while len(running) < workers and (candidate := one.take()) is not None:
            running.append(candidate)
        if running:
            events += finish(one, running.pop(int(order.integers(len(running)))))
    return events


def test_candidate_n_is_asked_after_exactly_n_minus_window_results() -> None:
    listener = Listener(DISTINCT)
    one = scheduler(listener, window=3)
    first = take_all(one)
    assert [candidate.number for candidate in first] == [0, 1, 2, 3]
    for candidate in first[:0:-1]:
        finish(one, candidate)
    assert take_all(one) == []  # 1, 2, 3 are there; 0, which candidate 4 needs, is not
    finish(one, first[0])
    assert [candidate.number for candidate in take_all(one)] == [4, 5, 6, 7]
    assert listener.told_before_ask == {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 2, 6: 3, 7: 4}
    assert listener.told == [0, 1, 2, 3]


def test_a_generation_holds_the_window_back() -> None:
    listener = Listener(DISTINCT, generation=4)
    one = scheduler(listener, window=3)
    first = take_all(one)
    for candidate in first[:3]:
        finish(one, candidate)
    assert take_all(one) == []
    finish(one, first[3])
    assert [candidate.number for candidate in take_all(one)] == [4, 5, 6, 7]
    assert [listener.told_before_ask[number] for number in (4, 5, 6, 7)] == [4, 4, 4, 4]


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_told_before_ask_depends_on_the_window_alone(window: int, generation: int, workers: int, order: int) -> None:
    listener = Listener(DISTINCT, generation)
    drain(scheduler(listener, window=window), np.random.default_rng(order), workers)
    barrier = [number // generation * generation if generation > 1 else 0 for number in range(30)]
    assert listener.told_before_ask == {number: max(0, number - window, barrier[number]) for number in range(30)}
    assert listener.told == sorted(listener.told)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_without_order_the_sampler_is_told_in_the_order_of_arrival(window: int, workers: int, order: int) -> None:
    listener = Listener(DISTINCT)
    one = scheduler(listener, window=window, ordered=False)
    events = drain(one, np.random.default_rng(order), workers)
    assert listener.told == [event.candidate.number for event in events][: max(0, 29 - window)]
    assert listener.told_before_ask == {number: max(0, number - window) for number in range(30)}


def test_without_order_a_result_is_recorded_at_once() -> None:
    one = scheduler(listener := Listener(DISTINCT), window=3, ordered=False)
    first = take_all(one)
    assert [event.candidate.number for event in finish(one, first[2])] == [2]
    assert [candidate.number for candidate in take_all(one)] == [4]
    assert listener.told == [2]


@pytest.mark.parametrize(
    ("name", "mode"), [("nsga2", "generational"), ("nsga2", "steady-state"), ("optuna-nsga2", "generational")]
)
@given(workers=st.integers(1, 12), order=st.integers(0, 2**32))
@settings(max_examples=12, deadline=None)
def test_the_journal_is_the_same_whatever_finishes_first(name: str, mode: str, workers: int, order: int) -> None:
    def island() -> Scheduler:
        recipe = toy_recipe(name, mode=mode, population=6)
        return scheduler(make_sampler(recipe.sampler, ToySpace(), "reef", 2, 0), window=8)

    alone = drain(island(), np.random.default_rng(0), 1)
    assert drain(island(), np.random.default_rng(order), workers) == alone
    assert [event.candidate.number for event in alone] == list(range(30))


def test_a_result_is_recorded_as_soon_as_all_lower_numbers_are() -> None:
    one = scheduler(Listener(DISTINCT), window=3)
    first = take_all(one)
    assert finish(one, first[2]) == ()
    assert [event.candidate.number for event in finish(one, first[0])] == [0]
    assert [event.candidate.number for event in finish(one, first[1])] == [1, 2]
    assert one.recorded == 3


def test_known_architectures_and_infeasible_genotypes_do_not_leave() -> None:
    twins: list[Genotype] = [(1, 1, 0, 0, 0), (1, 1, 0, 0, 2), (15, 3, 0, 0, 0), (2, 1, 0, 0, 0)]
    one = scheduler(Listener(twins), budget=2)
    assert [candidate.genotype for candidate in take_all(one)] == [twins[0], twins[3]]
    assert one.asked == 2


def test_where_the_sampler_repeats_itself_the_space_is_sampled() -> None:
    one = scheduler(Listener([(1, 1, 0, 0, 0)] * 1000), budget=5, window=9)
    assert len({candidate.architecture_id for candidate in take_all(one)}) == 5


class Atom(ToySpace):
    """Two architectures, whatever is drawn."""

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        return (int(rng.integers(2)), 0, 0, 0, 0)


def test_an_island_with_nothing_new_ends_early() -> None:
    recipe = toy_recipe("random")
    one = Scheduler(
        Atom(), "reef", make_sampler(recipe.sampler, Atom(), "reef", 2, 0), OBJECTIVES,
        budget=9, window=5, max_attempts=1, rng=np.random.default_rng(0),
    )  # fmt: skip
    candidates = take_all(one)
    assert len(candidates) == 2
    assert one.exhausted
    assert not one.finished
    for candidate in candidates:
        finish(one, candidate)
    assert one.finished


def test_a_candidate_whose_worker_died_is_tried_again_until_the_limit() -> None:
    one = scheduler(listener := Listener(DISTINCT), budget=5, window=1, max_attempts=3)
    died = Failure(FailureKind.INFRASTRUCTURE, "the worker died")
    candidate = one.take()
    assert candidate is not None
    for _ in range(2):
        assert finish(one, candidate, died) == ()
        assert one.take() == candidate
    (event,) = finish(one, candidate, died)
    assert (event.attempts, event.result) == (3, Failure(FailureKind.POISON, "the worker died"))
    take_all(one)
    assert listener.scores == [None]  # nobody's verdict on the network


@pytest.mark.parametrize("kind", [FailureKind.EVALUATION, FailureKind.NON_FINITE])
def test_a_candidates_own_failure_is_not_retried(kind: FailureKind) -> None:
    one = scheduler(Listener(DISTINCT))
    candidate = one.take()
    assert candidate is not None
    (event,) = finish(one, candidate, Failure(kind, "no"))
    assert (event.status, event.attempts) == ("failed", 1)


def test_an_outcome_that_nobody_waits_for_is_dropped() -> None:
    one = scheduler(Listener(DISTINCT))
    candidate = one.take()
    assert candidate is not None
    assert len(finish(one, candidate)) == 1
    assert finish(one, candidate) == ()


@given(st.sets(st.integers(0, 29), min_size=1), st.sampled_from(["miou", "macs", "latency_ms"]))
@settings(max_examples=20, deadline=None)
def test_nan_anywhere_is_never_told_as_a_score(where: set[int], metric: str) -> None:
    one = scheduler(listener := Listener(DISTINCT), window=1)
    events: list[Event] = []
    while (candidate := one.take()) is not None:
        measured = result(candidate)
        assert isinstance(measured, Measurement)
        metrics = dict(measured.metrics) | ({metric: math.nan} if candidate.number in where else {})
        events += finish(one, candidate, Measurement(metrics))
    assert {event.candidate.number for event in events if event.status == "failed"} == where
    assert [number for number, scores in zip(listener.told, listener.scores, strict=True) if scores is None] == [
        number for number in listener.told if number in where
    ]
    assert all(math.isfinite(value) for scores in listener.scores if scores for value in scores.minimised)
