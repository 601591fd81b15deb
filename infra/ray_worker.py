"""A worker on Ray: the actor that guards an evaluator, and the place that one actor after another may hold."""

from __future__ import annotations

import math
import platform
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from infra.weights import content_digest
from orchestrator.evaluation.protocol import code_digest
from orchestrator.protocols import CandidateEvaluator, EvaluatorFactory
from orchestrator.records import Candidate, Failure, FailureKind, Hardware, Result

DEATHS_IN_A_ROW = 4
"""After so many, a worker is not replaced any more."""


@dataclass(frozen=True)
class Demand:
    """What an actor takes of a node while it lives, in Ray's units."""

    cpus: float = 0
    gpus: float = 0
    resources: Mapping[str, float] = field(default_factory=dict)

    def fits(self, node: Mapping[str, float]) -> int:
        """How many such actors an empty node with these resources holds."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        shares = [(node.get(name, 0.0) + 1e-9) / amount for name, amount in wanted.items() if amount > 0]
        return math.floor(min(shares, default=0.0))

    def __str__(self) -> str:
        parts = {"CPUs": self.cpus, "GPUs": self.gpus, **self.resources}
        return ", ".join(f"{amount:g} {name}" for name, amount in parts.items() if amount) or "a place"


@dataclass(frozen=True)
class Workplace:
    """What every worker of a pool is started with."""

    factory: EvaluatorFactory
    weights: Any
    """Reference to the weights in Ray's object store: a dict of arrays that workers read in place."""
    threads: int


VERSIONS = ("python", "torch", "code", "weights")
"""What must be the same wherever candidates are scored."""


@dataclass(frozen=True)
class Report:
    """What a worker says of itself before it gets work."""

    broken: str = ""
    """Why it cannot evaluate; empty: it can."""
    node: str = ""
    """Id of its Ray node."""
    hardware: Hardware | None = None
    protocol_digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of `VERSIONS`: what is installed there, and the digests of our code and of the weights that it holds."""


def mismatch(here: Mapping[str, str], there: Mapping[str, str], names: Sequence[str]) -> str:
    """Which of these versions differs, in a sentence; empty: none."""
    for name in names:
        if there[name] != here[name]:
            return f"{name} is {there[name]} there and {here[name]} here: they must be equal on all machines of a study"
    return ""


def versions(weights: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The versions of this process, which holds these weights."""
    return {
        "python": platform.python_version(),
        "torch": metadata.version("torch").partition("+")[0],  # the rest says for which device it was built
        "code": code_digest(),
        "weights": content_digest(weights),
    }


@dataclass(eq=False)
class Slot:
    """A worker's place: the actor that holds it now, and what became of those before."""

    name: str
    demand: Demand
    actor: Any = None
    ready: bool = False
    leaving: bool = False
    """Whether the actor gets nothing new, because its node is to go."""
    report: Report | None = None
    """What the actor said; None: nothing yet."""
    protocol_digest: str | None = None
    """What the newest actor's evaluator said; None: none has been ready."""
    deaths: int = 0
    """In a row: a finished call sets it back."""
    cause: str = ""
    """What the last one died of."""
    since_s: float = 0.0
    """When the actor was asked for, on the monotonic clock."""
    in_flight: int = 0
    """Batches, or candidates to be timed, that the actor has been given."""
    busy_since_s: float = 0.0
    """When the actor began what it works on."""
    took_s: float = math.inf
    """How long the last answer of an actor here took; unknown is long."""

    @property
    def alive(self) -> bool:
        return self.deaths < DEATHS_IN_A_ROW

    @property
    def open(self) -> bool:
        """Whether it may be given work."""
        return self.ready and not self.leaving

    @property
    def node(self) -> str | None:
        """Where the actor is; None: nowhere yet."""
        return self.report.node if self.report else None

    def start(self, workplace: Workplace) -> Any:
        """The call that gives the fresh actor's `Report`. It waits for as long as no node has room for it."""
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {"env_vars": dict.fromkeys(variables, str(workplace.threads))}
        started = ray.remote(
            num_cpus=self.demand.cpus,
            num_gpus=self.demand.gpus,
            resources=dict(self.demand.resources),
            max_restarts=0,
            max_task_retries=0,
            runtime_env=environment,
        )(EvaluationWorker)
        self.actor = started.remote(self.name, workplace.factory, workplace.weights)
        self.since_s = time.monotonic()
        return self.actor.report.remote()

    def end(self, cause: str, *, counts: bool = True) -> None:
        """Counts a death, if the place may be to blame for it, and makes sure of it."""
        self.deaths, self.cause = self.deaths + counts, cause
        self.kill()

    def kill(self) -> None:
        """Ends the actor, if there is one."""
        self.ready, self.leaving, self.report, self.in_flight = False, False, None, 0
        if self.actor is not None:
            with suppress(RayError, ValueError):  # it is gone already, or Ray is
                ray.kill(self.actor)
            self.actor = None


class EvaluationWorker:
    """One evaluator in a process of its own. The pool makes it an actor and learns from `report` how it began."""

    def __init__(self, name: str, factory: EvaluatorFactory, weights: Mapping[str, np.ndarray]) -> None:
        self._name = f"{name}@{socket.gethostname()}"
        self._versions = versions(weights)
        self._evaluator: CandidateEvaluator | None = None
        self._broken = ""
        try:
            self._evaluator = factory(weights)
        except Exception as error:  # told in words by `report`: what Ray would say is buried in its own
            self._broken = f"{type(error).__name__}: {error}"

    def report(self) -> Report:
        """How this worker began."""
        node = ray.get_runtime_context().get_node_id()
        if self._evaluator is None:
            return Report(self._broken, node)
        evaluator = self._evaluator
        return Report("", node, evaluator.hardware, evaluator.protocol_digest, self._versions)

    def score(self, candidates: Sequence[Candidate]) -> list[Result]:
        """One result for each candidate, in order."""
        assert self._evaluator is not None, "the pool gives work to ready workers only"
        evaluator = self._evaluator

        def run() -> list[Result]:
            results = list(evaluator.score(candidates))
            if len(results) != len(candidates):
                raise ValueError(f"the evaluator gave {len(results)} results for {len(candidates)} candidates")
            return [self._signed(result) for result in results]

        return _guarded(run, len(candidates))

    def latency(self, candidate: Candidate) -> Result:
        """The candidate's latency metrics, taken while this worker has the machine to itself."""
        assert self._evaluator is not None, "the pool gives work to ready workers only"
        evaluator = self._evaluator
        return _guarded(lambda: [self._signed(evaluator.latency(candidate))], 1)[0]

    def _signed(self, result: Result) -> Result:
        """The result, which says on what it was measured and by whom."""
        if isinstance(result, Failure) or self._evaluator is None:
            return result
        return replace(result, worker=f"{result.worker or self._evaluator.hardware.kind} {self._name}")


def _guarded(run: Callable[[], list[Result]], count: int) -> list[Result]:
    """What `run` gives; if it raises, one failure for each of `count` candidates."""
    try:
        return run()
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return [Failure(FailureKind.EVALUATION, message, traceback.format_exc())] * count
