"""Whole studies on a Ray cluster of several nodes, struck by every death that Ray knows: each has the calm journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from ray.cluster_utils import Cluster

from infra import ray_cluster
from infra.ray_pool import RayPool
from orchestrator.config import LaneSettings, LatencySettings, Recipe, WorkerSettings
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.island import Progress
from orchestrator.loop import EndReason
from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Outcome, without_latency
from tests.doubles import SimulatedPool, ToyStudy, run_toy, toy_recipe
from tests.infra.evaluators import Fate, ScriptedFactory, StormyFactory, candidate, spans

BUDGET = 30
AddNode = Callable[..., Any]
Storm = Callable[[RayPool, int], None]
"""What happens when so many candidates have been recorded."""


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[Cluster]:
    """A cluster of a head that gives no work and two nodes that stay."""
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, include_dashboard=False)
    ray_cluster.connect(cluster.address, 0, 0)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def add_node(cluster: Cluster) -> Iterator[AddNode]:
    """Adds a third node of one CPU, which goes when the test does."""
    added = []

    def add(**resources: Any) -> Any:
        added.append(cluster.add_node(**{"num_cpus": 1, "include_dashboard": False, **resources}))
        return added[-1]

    yield add
    for node in added:
        cluster.remove_node(node)


def stormy_study(
    factory: StormyFactory,
    storm: Storm = lambda pool, done: None,
    timed: bool = False,
    **workers: Any,
) -> ToyStudy:
    """A study on the cluster, to its end."""
    recipe = recipe_of_study()
    settings = WorkerSettings(**{"count": 2, "batch": 4, "window": recipe.workers.window, **workers})
    pool = RayPool(factory, {}, settings, LatencySettings(measure=timed, block=8))

    def on_progress(progress: Progress) -> None:
        storm(pool, sum(island.done for island in progress.islands))

    try:
        return run_toy(recipe, pool, batch_size=4, on_progress=on_progress)
    finally:
        pool.close()


def recipe_of_study() -> Recipe:
    costs = {"name": "macs", "reference": 2e7}
    return toy_recipe(budget=BUDGET, window=12, objectives=({"name": "miou"}, costs))


@pytest.fixture(scope="module")
def calm() -> ToyStudy:
    return run_toy(recipe_of_study(), SimulatedPool(ToyEvaluator(), 2, lambda candidate: 1.0))


def figures(events: tuple[Event, ...]) -> list[tuple[object, ...]]:
    """All of a journal that does not say who measured, when and in how many attempts."""
    return [
        (
            event.candidate,
            without_latency(event.result).metrics if isinstance(event.result, Measurement) else event.result,
        )
        for event in events
    ]


def assert_same(study: ToyStudy, calm: ToyStudy) -> None:
    assert study.ending.reason is EndReason.FINISHED, study.ending
    for island, events in calm.events.items():
        assert figures(study.events[island]) == figures(events)


def once(at: int, act: Callable[[], object]) -> Storm:
    """A storm that acts when `at` candidates have been recorded."""
    acted: list[int] = []

    def storm(pool: RayPool, done: int) -> None:
        if done >= at and not acted:
            acted.append(done)
            act()

    return storm


@pytest.mark.parametrize("fate", [Fate.KILLS_ITS_WORKER, pytest.param(Fate.EXITS, marks=pytest.mark.slow), Fate.STUCK])
def test_workers_that_die_under_a_batch(cluster: Cluster, tmp_path: Path, calm: ToyStudy, fate: Fate) -> None:
    study = stormy_study(StormyFactory(tmp_path, fate, numbers=(3, 17)), deadline_s=1.5)
    assert (tmp_path / "struck-3").exists()
    assert (tmp_path / "struck-17").exists()
    assert_same(study, calm)


@pytest.mark.slow
def test_poison_costs_its_companions_nothing(cluster: Cluster, tmp_path: Path, calm: ToyStudy) -> None:
    poison = (28, 29)  # nothing is asked for after their results
    study = stormy_study(StormyFactory(tmp_path, Fate.KILLS_ITS_WORKER, numbers=poison, always=True))
    assert study.ending.reason is EndReason.FINISHED, study.ending
    for island, events in calm.events.items():
        for event, quiet in zip(study.events[island], events, strict=True):
            if island == "atoll" and event.candidate.number in poison:
                assert isinstance(event.result, Failure)
                assert (event.result.kind, event.attempts) == (FailureKind.POISON, 3)
            else:
                assert figures((event,)) == figures((quiet,))


def test_a_raylet_that_is_killed(add_node: AddNode, tmp_path: Path, calm: ToyStudy) -> None:
    raylet = add_node().all_processes["raylet"][0].process
    strike = once(20, lambda: os.kill(raylet.pid, signal.SIGKILL))
    study = stormy_study(StormyFactory(tmp_path, Fate.GOOD), strike, timed=True, count=3)
    assert_same(study, calm)


@pytest.mark.parametrize("count", [3, pytest.param("auto", marks=pytest.mark.slow)])
def test_a_node_that_joins_late_is_used(add_node: AddNode, tmp_path: Path, calm: ToyStudy, count: int | str) -> None:
    study = stormy_study(StormyFactory(tmp_path, Fate.GOOD, delay_s=0.2), once(8, add_node), count=count)
    assert_same(study, calm)
    events = [event for island in study.events.values() for event in island]
    measured = [event.result.worker for event in events if isinstance(event.result, Measurement)]
    assert len({name.split()[-1] for name in measured}) == 3, "the nodes of the start, and the late one"


@pytest.mark.slow
def test_a_node_that_drains_gets_nothing_new(add_node: AddNode, tmp_path: Path, calm: ToyStudy) -> None:
    leaving = add_node()
    at_work: list[set[str | None]] = []

    def storm(pool: RayPool, done: int) -> None:
        at_work.append({slot.node for slot in pool._slots})
        if done >= 8 and leaving.node_id in at_work[-1] and not drained:
            drained.append(done)
            drain(leaving)

    drained: list[int] = []
    assert_same(stormy_study(StormyFactory(tmp_path, Fate.GOOD, delay_s=0.2), storm, count=3), calm)
    assert drained
    assert leaving.node_id not in at_work[-1]


def test_every_candidate_passes_through_every_lane_and_other_nodes_go_on(add_node: AddNode, tmp_path: Path) -> None:
    add_node(num_cpus=0, resources={"orin": 1})
    lanes = {"default": LaneSettings(), "orin": LaneSettings(resources={"orin": 1})}
    latency = LatencySettings(block=4, lanes=lanes)
    pool = RayPool(ScriptedFactory(tmp_path, duration_s=0.1), {}, WorkerSettings(count=2, batch=1), latency)
    try:
        numbers = [candidate(number) for number in range(24)]
        outcomes = [*evaluate(pool, numbers[:4]), *evaluate(pool, numbers[4:])]  # the first ones see both lanes start
    finally:
        pool.close()
    found = {one.candidate.number: one.result for one in outcomes}
    assert sorted(found) == list(range(24))
    for number, result in found.items():
        assert isinstance(result, Measurement)
        assert result.metrics["latency_ms"] == result.metrics["latency_ms@orin"] == 1 + number
        assert [name.split()[1].split("@")[0] for name in result.worker.split("; ")][1:] == ["timer", "timer-orin"]
    ran = spans(tmp_path)
    pids = Counter(span.pid for span in ran if span.kind == "latency")
    assert sorted(pids.values()) == [24, 24]
    beside = {
        span.pid
        for span in ran
        if span.kind == "latency" and any(other.kind == "score" and other.overlaps(span) for other in ran)
    }
    assert beside, "a lane that has a node to itself waits for nobody"


def evaluate(pool: RayPool, candidates: list[Candidate]) -> list[Outcome]:
    """What comes back for the candidates."""
    outcomes: list[Outcome] = []
    expected = len(candidates)
    while len(outcomes) < expected:
        slots = pool.free_slots()
        pool.submit(candidates[:slots])
        candidates = candidates[slots:]
        outcomes += pool.collect(1.0)
    return outcomes


def drain(node: Any) -> None:
    """Says that the node will go in a minute, as a cloud does."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", node.gcs_address]
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
    arguments = ["--node-id", node.node_id, *reason, "--deadline-remaining-seconds", "60"]
    subprocess.run([*command, *arguments], check=True, capture_output=True)


@pytest.mark.slow
def test_a_worker_that_takes_too_much_memory(
    add_node: AddNode, tmp_path: Path, calm: ToyStudy, caplog: pytest.LogCaptureFixture
) -> None:
    used, total = get_used_memory(), get_system_memory()
    threshold = (used + 2 * 2**30) / total
    if threshold > 0.9:
        pytest.skip(f"{used} bytes of {total} are in use: too little is free")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", str(threshold))
        add_node(num_gpus=1)
    storm = StormyFactory(tmp_path, Fate.EATS_MEMORY, numbers=(3,))
    study = stormy_study(storm, count=1, gpus_per_worker=1, deadline_s=100)
    assert (tmp_path / "struck-3").exists()
    assert "running low on memory" in caplog.text
    assert_same(study, calm)
