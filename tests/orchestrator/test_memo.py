"""What one study has measured serves the next one, whatever is in the store, and changes no result."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.file_store import FileStore
from infra.local import InProcessPool
from jobs.composition import NetworkEvaluatorFactory
from orchestrator.config import read_recipe
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.loop import EndReason
from orchestrator.memo import Memo, MemoPool
from orchestrator.protocols import EvaluationPool, ObjectMissing, Store, StoreError
from orchestrator.records import Candidate, Event, Failure, Measurement, Outcome, Source, without_latency
from search_spaces.base import architecture_id
from search_spaces.toy import ToySettings
from tests.doubles import MemoryStore, SimulatedPool, ToyStudy, run_toy, toy_recipe
from tests.networks import by_ends, small_space, small_weights
from tests.orchestrator.test_loop import simulated

RECIPE = toy_recipe(budget=12, population=4)
CANDIDATE = Candidate("reef", 3, (1, 2, 0, 0, 0), "0123456789abcdef")
NUMBERS = st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), max_size=4)

Studies = dict[str, tuple[Event, ...]]


def run(pool: SimulatedPool, store: Store, study: str = "toy", weights: str = "w", **options: object) -> ToyStudy:
    """A study over the memo in the store, its evaluations all written when this returns."""
    memo = MemoPool(pool, store, weights)
    try:
        return run_toy(RECIPE.model_copy(update={"study": study}), memo, store, **options)
    finally:
        memo.close()


def sources(events: Studies) -> set[Source]:
    return {event.result.source for of in events.values() for event in of if isinstance(event.result, Measurement)}


def without_sources(events: Studies) -> Studies:
    """The events as if all had been evaluated."""
    return {
        island: tuple(
            replace(event, result=replace(event.result, source=Source.WORKER))
            if isinstance(event.result, Measurement)
            else event
            for event in of
        )
        for island, of in events.items()
    }


def objects(store: MemoryStore) -> list[str]:
    return list(store.list("evaluations/"))


@pytest.fixture(scope="module")
def plain() -> Studies:
    """The study's journal without a memo."""
    return run_toy(RECIPE, simulated(4)).events


@pytest.fixture(scope="module")
def filled() -> dict[str, bytes]:
    """A store that holds the evaluations of study `first`."""
    store = MemoryStore()
    run(simulated(4), store, "first")
    return store.objects


def test_what_is_kept_is_found_with_its_source() -> None:
    store = MemoryStore()
    memo = Memo(store, "w", "p")
    assert memo.find(CANDIDATE) is None
    memo.keep(CANDIDATE, Measurement({"miou": 0.1 + 0.2, "latency_ms": 3.0}, {"score": 1.5, "latency": 6.0}, "cpu a"))
    memo.close()
    assert objects(store) == ["evaluations/w/p/0123456789abcdef.json"]
    expected = Measurement({"miou": 0.1 + 0.2}, {"score": 1.5}, "cpu a", Source.MEMO)
    assert memo.find(CANDIDATE) == Memo(store, "w", "p").find(CANDIDATE) == expected
    other = replace(CANDIDATE, architecture_id="f" * 16)
    assert [Memo(store, "w", "p").find(other), Memo(store, "v", "p").find(CANDIDATE)] == [None, None]


@given(NUMBERS, NUMBERS, st.text(max_size=8))
@settings(max_examples=40, deadline=None)
def test_every_bit_comes_back(metrics: dict[str, float], timings: dict[str, float], where: str) -> None:
    store, measured = MemoryStore(), Measurement(metrics, timings, where)
    memo = Memo(store, "w", "p")
    memo.keep(CANDIDATE, measured)
    memo.close()
    assert memo.find(CANDIDATE) == replace(without_latency(measured), source=Source.MEMO)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_kept(value: float) -> None:
    store = MemoryStore()
    memo = Memo(store, "w", "p")
    memo.keep(CANDIDATE, Measurement({"miou": value}))
    memo.close()
    assert objects(store) == []


def test_the_second_study_evaluates_nothing_and_its_journal_is_equal_but_for_the_note(plain: Studies) -> None:
    store, first, second = MemoryStore(), simulated(4), simulated(3, seed=9)
    before, after = run(first, store, "first"), run(second, store, "second")
    assert len(first.evaluated) == 36
    assert second.evaluated == []
    assert before.events == plain
    assert sources(after.events) == {Source.MEMO}
    assert without_sources(after.events) == plain
    assert len(objects(store)) == 36


@pytest.mark.parametrize(
    ("weights", "space"), [("other", {}), ("w", {"non_finite": ("0" * 16,)}), ("w", {"raising": ("0" * 16,)})]
)
def test_other_weights_or_another_protocol_evaluate_everything(
    filled: dict[str, bytes], weights: str, space: dict[str, Sequence[str]]
) -> None:
    store = MemoryStore(filled)
    pool = SimulatedPool(ToyEvaluator(ToySettings(**space)), 4, lambda candidate: 1.0)  # type: ignore[arg-type]
    assert sources(run(pool, store, weights=weights).events) == {Source.WORKER}
    assert len(pool.evaluated) == 36
    assert len(objects(store)) == 72


def test_how_slow_an_evaluation_is_belongs_to_no_protocol(filled: dict[str, bytes]) -> None:
    pool = SimulatedPool(ToyEvaluator(ToySettings(delay_s=1e-6)), 4, lambda candidate: 1.0)
    run(pool, MemoryStore(filled))
    assert pool.evaluated == []


def test_latency_is_measured_again_for_what_is_known(filled: dict[str, bytes]) -> None:
    class Slower(ToyEvaluator):
        def latency(self, candidate: Candidate) -> Measurement:
            return Measurement({"latency_ms": 100.0 + candidate.number})

    assert not any("latency" in data.decode() for key, data in filled.items() if key.startswith("evaluations/"))
    pool = SimulatedPool(Slower(), 4, lambda candidate: 1.0)
    events = run(pool, MemoryStore(filled)).events
    assert Source.MEMO in sources(events)
    for event in (event for of in events.values() for event in of):
        assert isinstance(event.result, Measurement)
        assert event.result.metrics["latency_ms"] == 100.0 + event.candidate.number


def test_failures_are_evaluated_again() -> None:
    ids = [event.candidate.architecture_id for event in run_toy(RECIPE, simulated(4)).events["reef"]]
    store, faulty = MemoryStore(), ToySettings(raising=(ids[0],), non_finite=(ids[1],))
    pools = [SimulatedPool(ToyEvaluator(faulty), 4, lambda candidate: 1.0) for _ in range(2)]
    studies = [run(pool, store, f"study-{number}").events for number, pool in enumerate(pools)]
    assert without_sources(studies[1]) == studies[0]
    failed = [event for of in studies[0].values() for event in of if isinstance(event.result, Failure)]
    assert len(failed) >= 2
    assert sorted(one.architecture_id for one in pools[1].evaluated) == sorted(
        event.candidate.architecture_id for event in failed
    )


def forged(data: bytes) -> bytes:
    return data.replace(b'"miou": 0.', b'"miou": 0.9')


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: b"\xff" + data,
        lambda data: b"[1]",
        lambda data: b"{}",
        lambda data: b'{"sha256": 3}',
        lambda data: b"[" * 100_000,
        forged,
    ],
)
def test_a_damaged_object_is_said_once_evaluated_again_and_overwritten(
    filled: dict[str, bytes], plain: Studies, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    store = MemoryStore(filled)
    damaged = objects(store)[3:6]
    for key in damaged:
        store.objects[key] = damage(store.objects[key])
        assert store.objects[key] != filled[key]
    pool = simulated(4)
    assert without_sources(run(pool, store).events) == plain
    assert {f"{one.architecture_id}.json" for one in pool.evaluated} == {key.rsplit("/")[-1] for key in damaged}
    assert {key: store.objects[key] for key in objects(store)} == {key: filled[key] for key in objects(store)}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any(f"{key} is " in warning for key in damaged)


def test_an_object_in_anothers_place_is_named(filled: dict[str, bytes], caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(filled)
    mine, other = objects(store)[:2]
    store.objects[mine] = store.objects[other]
    pool = simulated(4)
    run(pool, store)
    assert [f"{one.architecture_id}.json" for one in pool.evaluated] == [mine.rsplit("/")[-1]]
    assert "another candidate's" in caplog.text


class Broken(MemoryStore):
    """Its journal is in order; what is below evaluations/ fails as `how` says."""

    how = ""

    def _check(self, verb: str, key: str) -> None:
        if verb == self.how and key.startswith("evaluations/"):
            raise StoreError(f"cannot {verb} {key}: disk full")

    def create(self, key: str, data: bytes) -> None:
        self._check("create", key)
        super().create(key, data)

    def read(self, key: str) -> bytes:
        self._check("read", key)
        return super().read(key)

    def list(self, prefix: str) -> Sequence[str]:
        self._check("list", prefix)
        return super().list(prefix)


@pytest.mark.parametrize("how", ["create", "read", "list"])
def test_a_store_that_fails_is_said_once_and_stops_nothing(
    filled: dict[str, bytes], plain: Studies, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    store = Broken({} if how == "create" else filled)
    store.how = how
    pool = simulated(4)
    assert run(pool, store).events == plain
    assert len(pool.evaluated) == 36
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"cannot {how} evaluations/w/")
    assert warning.endswith("neither uses nor keeps evaluations in the store")


def test_an_object_that_vanishes_is_evaluated_again(filled: dict[str, bytes]) -> None:
    class Vanishing(MemoryStore):
        def read(self, key: str) -> bytes:
            if key.startswith("evaluations/"):
                raise ObjectMissing(key)
            return super().read(key)

    pool = simulated(4)
    run(pool, Vanishing(filled))
    assert len(pool.evaluated) == 36


@given(st.integers(1, 35), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_a_killed_study_resumes_to_the_same_journal_and_evaluates_nothing_twice(
    lasts: int, workers: int, batch_size: int
) -> None:
    """What had come back and was not yet its turn to be written is not evaluated again either."""
    store, whole = MemoryStore(), run_toy(RECIPE, simulated(4)).events
    before, after = simulated(workers, lasts=lasts), simulated(4, seed=lasts)
    assert run(before, store, batch_size=batch_size).ending.reason is EndReason.NO_WORKERS
    resumed = run(after, store)
    assert resumed.ending.reason is EndReason.FINISHED
    assert without_sources(resumed.events) == whole
    assert len(before.evaluated) == lasts
    assert len(before.evaluated) + len(after.evaluated) == 36


@given(st.integers(1, 12), st.integers(0, 99), st.integers(1, 4), st.sets(st.integers(0, 35)))
@settings(max_examples=15, deadline=None)
def test_the_journal_does_not_depend_on_what_is_known(
    workers: int, seed: int, batch_size: int, missing: set[int]
) -> None:
    store = MemoryStore()
    whole = run(simulated(4), store, "first").events
    keys = objects(store)
    for index in missing:
        store.delete(keys[index])
    pool = simulated(workers, seed, dies=lambda candidate, attempt: attempt == 1 and candidate.number % 3 == 0)
    events = run(pool, store, "second", batch_size=batch_size).events
    assert {i: [(one.candidate, one.result) for one in of] for i, of in without_sources(events).items()} == {
        i: [(one.candidate, one.result) for one in of] for i, of in whole.items()
    }
    assert len(pool.evaluated) == len(missing)


class SlowToStart(InProcessPool):
    """A pool whose workers say after a while which protocol they follow, as `says` tells, one word a `collect`."""

    def __init__(self, says: Sequence[str | None]) -> None:
        super().__init__(ToyEvaluator(), slots=6)
        self.says, self.given = list(says), 0

    @property
    def protocol_digest(self) -> str | None:  # type: ignore[override]
        return self.says[0]

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self.given += len(candidates)
        super().submit(candidates)

    def collect(self, timeout_s: float) -> Sequence[Outcome]:
        if len(self.says) > 1:
            self.says.pop(0)
        return super().collect(timeout_s)


def search_with(pool: EvaluationPool, store: Store) -> Studies:
    memo = MemoPool(pool, store, "w")
    events = run_toy(RECIPE.model_copy(update={"study": "second"}), memo, store).events
    memo.close()
    return events


def test_the_memo_waits_for_the_first_worker(filled: dict[str, bytes], plain: Studies) -> None:
    pool = SlowToStart([None, None, None, ToyEvaluator().protocol_digest])
    assert without_sources(search_with(pool, MemoryStore(filled))) == plain
    assert pool.given == 0


def test_workers_that_know_no_protocol_or_differ_have_no_memo(filled: dict[str, bytes], plain: Studies) -> None:
    store = MemoryStore(filled)
    unknown = SlowToStart([None, ""])
    assert search_with(unknown, store) == plain
    assert unknown.given == 36
    assert objects(store) == objects(MemoryStore(filled))
    differ = SlowToStart([*[ToyEvaluator().protocol_digest] * 5, ""])
    assert sources(search_with(differ, MemoryStore(filled))) == {Source.MEMO, Source.WORKER}
    assert 0 < differ.given < 36


TINY = {
    "study": "tiny",
    "space": {"name": "hyctas", "layers": 4, "filters": 2},
    "data": {"name": "synthetic", "height_px": 32, "width_px": 64, "train_images": 8, "validation_images": 4},
    "training": {"steps": 1, "batch_size": 2},
    "evaluation": {"recalibration_images": 4, "batch_size": 2},
    "objectives": [{"name": "miou"}],
    "latency": {"window_s": 0.01},
}


def networks(**evaluation: object) -> Callable[[], InProcessPool]:
    """Makes pools over real networks with untrained weights."""
    document = {**TINY, "evaluation": {**TINY["evaluation"], **evaluation}}  # type: ignore[dict-item]
    weights = small_weights(small_space())
    return lambda: InProcessPool(NetworkEvaluatorFactory(read_recipe(document, "tiny.yaml"))(weights), slots=3)


def test_networks_are_evaluated_once_and_timed_each_time(tmp_path: Path) -> None:
    store, space = FileStore(tmp_path), small_space()
    candidates = []
    for number, architecture in enumerate(list(by_ends(space).values())[:2]):
        island, genotype = space.encode(architecture)
        candidates.append(Candidate(island, number, genotype, architecture_id(architecture)))

    def measured(make: Callable[[], InProcessPool]) -> list[Measurement]:
        pool = MemoPool(make(), store, "w")
        pool.submit(candidates)
        results = [outcome.result for _ in candidates for outcome in pool.collect(1.0)]
        pool.close()
        assert all(isinstance(result, Measurement) for result in results), results
        return [result for result in results if isinstance(result, Measurement)]

    first, second, other = measured(networks()), measured(networks()), measured(networks(seed=1))
    assert [one.source for one in (*first, *second)] == [Source.WORKER] * 2 + [Source.MEMO] * 2
    assert [one.source for one in other] == [Source.WORKER] * 2, "it calibrates on other images"
    for before, after in zip(first, second, strict=True):
        assert dict(without_latency(before).metrics) == dict(without_latency(after).metrics)
        assert after.metrics["latency_runs"] > 0
        assert before.metrics["latency_ms"] != after.metrics["latency_ms"]
    assert len(store.list("evaluations/w/")) == 4
