"""The pool on a real local Ray: what comes back, what dies, and what never runs at the same time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import ray

from infra import ray_cluster
from infra.ray_pool import RayPool
from infra.ray_worker import VERSIONS, mismatch, versions
from orchestrator.canary import Canary
from orchestrator.config import LatencySettings, WorkerSettings
from orchestrator.protocols import PoolExhausted
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Outcome, Result, Source
from tests.doubles import MemoryStore
from tests.infra.evaluators import Fate, ScriptedFactory, candidate, spans

WEIGHTS = {"stem": np.ones((256, 256), np.float32), "head": np.ones((128, 256), np.float32)}
MakePool = Callable[..., RayPool]


@pytest.fixture(scope="module", autouse=True)
def _ray(environment: None) -> Iterator[None]:
    assert ray_cluster.connect(None, 3, 2**20)
    yield
    ray.shutdown()


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    """Makes a pool over a `ScriptedFactory` in `tmp_path`; `block=0` means that nothing is timed."""
    pools = []

    def make(
        count: int = 2,
        block: int = 0,
        threads: int = 1,
        batch: int = 1,
        deadline_s: float | None = None,
        canary: Canary | None = None,
        **script: float | bool | str,
    ) -> RayPool:
        workers = WorkerSettings(count=count, threads=threads, batch=batch, deadline_s=deadline_s)
        latency = LatencySettings(measure=block > 0, block=max(1, block))
        pools.append(RayPool(ScriptedFactory(tmp_path, **script), WEIGHTS, workers, latency, canary=canary))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
        pool.close()


def run(pool: RayPool, candidates: list[Candidate], limit_s: float = 60) -> list[Outcome]:
    """What comes back for the candidates, which are submitted as slots are free."""
    waiting, outcomes, begin = list(candidates), [], time.monotonic()
    while len(outcomes) < len(candidates):
        assert time.monotonic() - begin < limit_s, f"only {len(outcomes)} of {len(candidates)} came back"
        slots = pool.free_slots()
        pool.submit(waiting[:slots])
        del waiting[:slots]
        outcomes += pool.collect(1.0)
    return outcomes


def results(outcomes: list[Outcome]) -> dict[int, Result]:
    numbers = [outcome.candidate.number for outcome in outcomes]
    assert len(numbers) == len(set(numbers)), "a candidate came back twice"
    return {outcome.candidate.number: outcome.result for outcome in outcomes}


def metrics(result: Result) -> dict[str, float]:
    assert isinstance(result, Measurement), result
    return dict(result.metrics)


def failure(result: Result) -> Failure:
    assert isinstance(result, Failure), result
    return result


def test_every_candidate_comes_back_once(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=2)
    assert pool.free_slots() == 4
    found = results(run(pool, [candidate(number) for number in range(40)]))
    assert {number: metrics(result)["miou"] for number, result in found.items()} == {n: 1 / (1 + n) for n in range(40)}
    assert len({span.pid for span in spans(tmp_path)}) == 2, "both workers worked"
    assert pool.free_slots() == 4
    begin = time.monotonic()
    assert list(pool.collect(5.0)) == []
    assert time.monotonic() - begin < 1, "nothing is under way, so there is nothing to wait for"


def test_weights_are_views_of_the_object_store_and_threads_are_set(make_pool: MakePool) -> None:
    result = results(run(make_pool(count=1, threads=3), [candidate(0)]))[0]
    assert metrics(result) == {"miou": 1.0, "threads": 3.0, "weights/stem": 1.0, "weights/head": 1.0}
    assert isinstance(result, Measurement)
    assert result.worker.startswith("cpu worker-0@")


def test_an_exception_is_the_candidates_failure(make_pool: MakePool, tmp_path: Path) -> None:
    expected = {
        Fate.RAISES: "ZeroDivisionError: this network divides by zero",
        Fate.RAISES_WHAT_CANNOT_TRAVEL: "Unpicklable: cannot travel",
        Fate.TOO_MANY_RESULTS: "ValueError: the evaluator gave 2 results for 1 candidates",
    }
    odd = [candidate(int(fate), fate) for fate in expected]
    found = results(run(make_pool(count=1), [candidate(100), *odd, candidate(101)]))
    for fate, message in expected.items():
        failed = failure(found[fate])
        assert (failed.kind, failed.message) == (FailureKind.EVALUATION, message)
        assert "Traceback" in failed.traceback
    assert metrics(found[100])["miou"] == 1 / 101
    assert metrics(found[101])["miou"] == 1 / 102
    assert len({span.pid for span in spans(tmp_path)}) == 1, "the worker lived on"


def test_a_killed_worker_is_replaced_and_gives_its_candidate_back(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=1)
    slow = candidate(0, Fate.SLOW)
    pool.submit([slow, candidate(1)])
    began = tmp_path / "began-0"
    while not (began.exists() and began.read_text()):
        assert list(pool.collect(0.05)) == []
    os.kill(int(began.read_text()), signal.SIGKILL)
    first = list(pool.collect(10))
    assert [outcome.candidate for outcome in first] == [slow]
    died = failure(first[0].result)
    assert died.kind == FailureKind.INFRASTRUCTURE
    assert died.message.startswith("worker-0 died under it: ")
    pool.submit([slow])
    again = results([*pool.collect(20), *pool.collect(20)])
    assert metrics(again[0])["miou"] == 1.0
    assert metrics(again[1])["miou"] == 0.5, "it stood behind the one that was running, and lost nothing"


def test_a_worker_that_exits_is_a_death(make_pool: MakePool) -> None:
    found = results(run(make_pool(count=1), [candidate(0, Fate.EXITS), candidate(1)]))
    assert failure(found[0]).kind == FailureKind.INFRASTRUCTURE
    assert metrics(found[1])["miou"] == 0.5


def test_four_deaths_in_a_row_end_a_worker_and_the_last_worker_ends_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(count=1)
    fates = [Fate.KILLS_ITS_WORKER] * 3 + [Fate.GOOD] + [Fate.KILLS_ITS_WORKER] * 4
    found = results(run(pool, [candidate(number, fate) for number, fate in enumerate(fates)]))
    assert [number for number, result in found.items() if isinstance(result, Measurement)] == [3]
    assert pool.free_slots() == 0
    pool.submit([candidate(8)])
    with pytest.raises(PoolExhausted, match=r"every worker died 4 times in a row, worker-0 of: "):
        pool.collect(10)


def test_what_died_together_is_tried_apart(make_pool: MakePool, tmp_path: Path) -> None:
    fates = [Fate.GOOD, Fate.GOOD, Fate.KILLS_ITS_WORKER, Fate.GOOD]
    found = results(run(make_pool(count=1, batch=4), [candidate(number, fate) for number, fate in enumerate(fates)]))
    assert {number for number, result in found.items() if isinstance(result, Measurement)} == {0, 1, 3}
    died = failure(found[2])
    assert died.kind == FailureKind.INFRASTRUCTURE
    assert died.message.startswith("worker-0 died under it: ")
    batches = (tmp_path / "batches").read_text().split("\n")
    assert sorted(batches[0].split()) == ["island/0", "island/1", "island/2", "island/3"]
    assert sorted(batches[1:-1]) == ["island/0", "island/1", "island/2", "island/3"]


def test_a_candidate_that_kills_again_and_again_does_not_end_its_worker(make_pool: MakePool) -> None:
    pool = make_pool(count=1)
    poison, good = [candidate(number, Fate.KILLS_ITS_WORKER) for number in range(2)], candidate(2)
    for _ in range(3):
        assert {failure(outcome.result).kind for outcome in run(pool, poison)} == {FailureKind.INFRASTRUCTURE}
    assert metrics(results(run(pool, [good]))[2])["miou"] == 1 / 3


def test_what_is_stuck_is_ended_at_its_deadline(make_pool: MakePool) -> None:
    pool = make_pool(count=1, batch=2, deadline_s=1)
    found = results(run(pool, [candidate(0, Fate.STUCK), candidate(1)]))
    assert failure(found[0]).message == (
        "worker-0 died under it: it was stuck: no answer in 1 s, see workers.deadline_s"
    )
    assert metrics(found[1])["miou"] == 0.5


def test_a_constructor_that_always_raises_is_named_within_seconds(make_pool: MakePool) -> None:
    pool = make_pool(count=1, broken=True)
    pool.submit([candidate(0)])
    begin = time.monotonic()
    with pytest.raises(PoolExhausted, match=r"4 times in a row, .* of: FileNotFoundError: data/street: no such folder"):
        pool.collect(60)
    assert time.monotonic() - begin < 30


def test_a_worker_joins_when_it_has_scored_the_canary_right(make_pool: MakePool, tmp_path: Path) -> None:
    canary = Canary(MemoryStore(), "study", candidate(4))
    run(make_pool(count=1, canary=canary, protocol_digest="p"), [candidate(0)])
    assert [span.number for span in spans(tmp_path)] == [4, 0]
    run(make_pool(count=1, canary=canary, protocol_digest="q", bias=1e-9), [candidate(1)])
    pool = make_pool(count=1, canary=canary, protocol_digest="p", bias=1e-9)
    pool.submit([candidate(2)])
    message = r"the canary 0{15}4 has miou 0\.200000001 on cpu, and it had 0\.2 on cpu: they must be equal to the bit"
    with pytest.raises(PoolExhausted, match=message):
        pool.collect(60)


def test_a_worker_with_other_code_or_weights_is_refused_in_a_sentence() -> None:
    here = versions(WEIGHTS)
    assert mismatch(here, versions({name: array.copy() for name, array in WEIGHTS.items()}), VERSIONS) == ""
    there = versions({**WEIGHTS, "head": WEIGHTS["head"].T})
    words = r"weights is \w{64} there and \w{64} here: they must be equal on all machines of a study"
    assert re.fullmatch(words, mismatch(here, there, VERSIONS))
    assert mismatch(here, {**here, "code": "ab"}, VERSIONS).startswith("code is ab there and ")
    assert mismatch(here, {**here, "torch": "1"}, ("code", "weights")) == "", "a device that only times"


def test_latency_never_runs_beside_accuracy_work(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=2, block=4, duration_s=0.03)
    found = results(run(pool, [candidate(number) for number in range(22)]))
    for number, result in found.items():
        assert metrics(result)["latency_ms"] == 1.0 + number
        assert metrics(result)["miou"] == 1 / (1 + number)
        assert isinstance(result, Measurement)
        assert result.timings_s.keys() == {"score", "latency"}
    ran = spans(tmp_path)
    timed = [span for span in ran if span.kind == "latency"]
    assert len(ran) == 44
    assert len({span.pid for span in timed}) == 1
    for timing in timed:
        beside = [span for span in ran if span is not timing and span.overlaps(timing)]
        assert beside == [], f"while {timing.number} was timed, these ran: {beside}"
    kinds = "".join(span.kind[0] for span in sorted(ran, key=lambda span: span.begin_s))
    blocks = [len(block) for block in kinds.replace("s", " ").split()]
    assert len(blocks) <= 5, f"timed in blocks of about 4 and more, not {blocks}"


def test_what_waits_to_be_timed_does_not_keep_new_work_out(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=1, block=100)
    for number in range(10):
        while not pool.free_slots():
            assert list(pool.collect(1)) == []
        pool.submit([candidate(number)])
    outcomes: list[Outcome] = []
    while len(outcomes) < 10:
        outcomes += pool.collect(5)
    assert len(results(outcomes)) == 10
    kinds = "".join(span.kind[0] for span in spans(tmp_path))
    assert kinds == "s" * 10 + "l" * 10, "timed when the caller had nothing more to give"


def test_batches_are_full_and_of_one_island_while_there_is_enough(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=2, batch=4, duration_s=0.03)
    mixed = [candidate(number, island=("reef", "atoll")[number % 2]) for number in range(40)]
    results(run(pool, mixed))
    batches = [line.split() for line in (tmp_path / "batches").read_text().splitlines()]
    assert sum(len(batch) == 4 for batch in batches) >= 7, batches
    assert all(len({name.partition("/")[0] for name in batch}) == 1 for batch in batches)


def test_no_worker_idles_for_anothers_full_batch(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(count=2, batch=8, duration_s=0.1)
    while not all(slot.ready for slot in pool._slots):
        pool.collect(0.1)
    results(run(pool, [candidate(number) for number in range(6)]))
    assert [len(line.split()) for line in (tmp_path / "batches").read_text().splitlines()] == [3, 3]


@pytest.mark.parametrize("block", [0, 2])
def test_what_is_scored_already_is_timed_alone(make_pool: MakePool, tmp_path: Path, block: int) -> None:
    pool = make_pool(count=1, block=block, protocol_digest="p")
    assert pool.protocol_digest is None
    known = Measurement({"miou": 0.75}, {"score": 1.0}, source=Source.MEMO)
    for number in (0, 1, 2):
        pool.submit_scored(candidate(number), known)
    pool.submit([candidate(3)])
    outcomes: list[Outcome] = []
    while len(outcomes) < 4:
        outcomes += pool.collect(5)
    found = results(outcomes)
    assert pool.protocol_digest == "p"
    assert [metrics(found[number])["miou"] for number in range(4)] == [0.75, 0.75, 0.75, 0.25]
    assert [found[number].source for number in range(4)] == [Source.MEMO] * 3 + [Source.WORKER]  # type: ignore[union-attr]
    assert [span.number for span in spans(tmp_path) if span.kind == "score"] == [3]
    timed = [span.number for span in spans(tmp_path) if span.kind == "latency"]
    assert sorted(timed) == (list(range(4)) if block else [])


def test_a_failed_latency_fails_its_candidate_alone(make_pool: MakePool) -> None:
    expected = {
        Fate.LATENCY_RAISES: (FailureKind.EVALUATION, "RuntimeError: no clock"),
        Fate.LATENCY_FAILS: (FailureKind.NON_FINITE, "latency_ms is nan"),
        Fate.LATENCY_KILLS: (FailureKind.INFRASTRUCTURE, "timer died under it"),
        Fate.RAISES: (FailureKind.EVALUATION, "ZeroDivisionError: this network divides by zero"),
    }
    odd = [candidate(int(fate), fate) for fate in expected]
    found = results(run(make_pool(count=1, block=2), [candidate(100), *odd, candidate(101)]))
    for fate, (kind, message) in expected.items():
        failed = failure(found[fate])
        assert failed.kind == kind
        assert failed.message.startswith(message)
    assert metrics(found[100])["latency_ms"] == 101.0
    assert metrics(found[101])["latency_ms"] == 102.0


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_dead_address_is_said(address: str, outside: dict[str, str]) -> None:
    program = f"from infra.ray_cluster import connect; connect('{address}', 1, 0)"
    ended = subprocess.run([sys.executable, "-c", program], env=outside, capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1].startswith(f"ConnectionError: no Ray answers at {address}: ")
    assert ended.stderr.splitlines()[-1].endswith("leave out --address to run on this machine")


DRIVER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from infra.ray_pool import RayPool
from infra.ray_worker import VERSIONS, mismatch, versions
from orchestrator.canary import Canary
from orchestrator.config import LatencySettings, WorkerSettings
from orchestrator.records import Measurement
from tests.doubles import MemoryStore
from tests.infra.evaluators import Fate, ScriptedFactory, candidate

folder, end, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3] or None
signals = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: signals.append(number))
workers, latency = WorkerSettings(count=2), LatencySettings(measure=False)
pool = RayPool(ScriptedFactory(folder), {"w": np.ones(9)}, workers, latency, address)
pool.submit([candidate(0, Fate.SLOW), candidate(1, Fate.SLOW)])
outcomes = []
while len(outcomes) < 2:
    outcomes += pool.collect(0.1)
    if not signals and (folder / "began-0").exists():
        os.killpg(0, signal.SIGINT)  # as a terminal does
        os.kill(os.getpid(), signal.SIGTERM)
assert signals == [signal.SIGINT, signal.SIGTERM], "the caller's handlers are in place"
assert all(isinstance(outcome.result, Measurement) for outcome in outcomes), outcomes
print("evaluated", flush=True)
if end == "close":
    pool.close()
else:
    time.sleep(100)
"""


def start_driver(folder: Path, end: str, address: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A program of its own that has evaluated two candidates and then ends as `end` says."""
    arguments = [sys.executable, "-W", "error", "-c", DRIVER, str(folder), end, address]
    pipe = subprocess.PIPE
    driver = subprocess.Popen(
        arguments, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=os.getcwd()
    )
    assert driver.stdout is not None
    line = driver.stdout.readline()
    if line != "evaluated\n":
        pytest.fail(line + "".join(driver.communicate()))
    return driver


def processes_under(folder: str) -> dict[int, str]:
    """Ids and names of the processes whose environment says that their Ray lives in `folder`."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"RAY_TMPDIR={folder}\0" in (path / "environ").read_text(errors="replace"):
                found[int(path.name)] = (path / "cmdline").read_text(errors="replace").rstrip("\0")
        except OSError:  # it ends while it is looked at
            continue
    return found


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_ray_of_its_own_ends_with_its_driver(tmp_path: Path, outside: dict[str, str], end: str) -> None:
    folder = f"{outside['RAY_TMPDIR']}/{end}"
    os.mkdir(folder)
    driver = start_driver(tmp_path, end, "", {**outside, "RAY_TMPDIR": folder, "RAY_ADDRESS": "127.0.0.1:1"})
    if end == "kill":
        driver.kill()
    said = driver.communicate(timeout=60)
    assert said == ("", ""), "a pool says nothing on its own"
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}  # they see it a minute after a kill, and end
    deadline = time.monotonic() + 30
    while set((left := processes_under(folder)).values()) - agents:
        assert time.monotonic() < deadline, f"these stayed behind: {left}"
        time.sleep(0.2)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def test_a_ray_of_others_is_used_and_left_alone(tmp_path: Path, outside: dict[str, str]) -> None:
    address = ray.get_runtime_context().gcs_address
    variables = {**outside, "RAY_AUTH_MODE": "token"}  # a local Ray makes its token; an address wants to be told
    assert start_driver(tmp_path, "close", address, variables).communicate(timeout=60) == ("", "")
    assert ray.cluster_resources()["CPU"] == 3
