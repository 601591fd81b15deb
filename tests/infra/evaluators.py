"""Evaluators without networks, whose candidates say in their first gene what is to happen to them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.protocols import CandidateEvaluator
from orchestrator.records import Candidate, Failure, FailureKind, Hardware, Measurement, Result
from search_spaces.toy import ToySettings


class Fate(IntEnum):
    """What evaluating a candidate does."""

    GOOD = 0
    RAISES = 1
    KILLS_ITS_WORKER = 2
    KILLS_THE_FIRST_WORKER = 3
    EXITS = 4
    LATENCY_RAISES = 5
    LATENCY_FAILS = 6
    LATENCY_KILLS = 7
    TOO_MANY_RESULTS = 8
    RAISES_WHAT_CANNOT_TRAVEL = 9
    SLOW = 10
    STUCK = 11
    EATS_MEMORY = 12


def candidate(number: int, fate: Fate = Fate.GOOD, island: str = "island") -> Candidate:
    return Candidate(island, number, (int(fate), number), f"{number:016x}")


@dataclass(frozen=True)
class Span:
    """When something ran, read from the log of a `ScriptedEvaluator`."""

    kind: str
    number: int
    pid: int
    begin_s: float
    end_s: float

    def overlaps(self, other: Span) -> bool:
        return self.begin_s < other.end_s and other.begin_s < self.end_s


def spans(folder: Path) -> list[Span]:
    """What has run to its end, in the order of the ends."""
    lines = (folder / "log").read_text().splitlines()
    split = (line.split() for line in lines)
    return [Span(kind, int(number), int(pid), float(begin), float(end)) for kind, number, pid, begin, end in split]


@dataclass(frozen=True)
class ScriptedFactory:
    """Builds evaluators that log into `folder`; or none, when `broken`."""

    folder: Path
    duration_s: float = 0.01
    broken: bool = False
    protocol_digest: str = ""
    bias: float = 0.0
    """Added to each mIoU."""

    def __call__(self, weights: Mapping[str, np.ndarray]) -> CandidateEvaluator:
        if self.broken:
            raise FileNotFoundError("data/street: no such folder")
        return ScriptedEvaluator(self, weights)


@dataclass(frozen=True)
class StormyFactory:
    """Builds evaluators of the toy space that do as `fate` says under some candidates of the second island."""

    folder: Path
    fate: Fate
    numbers: tuple[int, ...] = ()
    always: bool = False
    """Whether it happens each time, and not just once for each candidate."""
    delay_s: float = 0.02

    def __call__(self, weights: Mapping[str, np.ndarray]) -> StormyEvaluator:
        return StormyEvaluator(self)


class StormyEvaluator(ToyEvaluator):
    def __init__(self, storm: StormyFactory) -> None:
        super().__init__(ToySettings(delay_s=storm.delay_s))
        self._storm = storm

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        for one in candidates:
            if one.island == "atoll" and one.number in self._storm.numbers and self._strikes(one):
                self._strike()
        return [replace(result, worker=str(os.getpid())) for result in super().score(candidates)]

    def _strikes(self, candidate: Candidate) -> bool:
        try:
            (self._storm.folder / f"struck-{candidate.number}").touch(exist_ok=self._storm.always)
        except FileExistsError:
            return False
        return True

    def _strike(self) -> None:
        match self._storm.fate:
            case Fate.KILLS_ITS_WORKER:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fate.EXITS:
                sys.exit(3)
            case Fate.STUCK:
                time.sleep(1000)
            case Fate.EATS_MEMORY:
                eaten = [np.ones(2**24) for _ in range(32)]  # 4 GiB
                time.sleep(1000)
                del eaten


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot travel")
        self.reader = open(os.devnull)  # noqa: SIM115  a file is what does not pickle


class ScriptedEvaluator:
    def __init__(self, settings: ScriptedFactory, weights: Mapping[str, np.ndarray]) -> None:
        self._settings = settings
        self._weights = weights

    @property
    def protocol_digest(self) -> str:
        return self._settings.protocol_digest

    @property
    def hardware(self) -> Hardware:
        return Hardware("cpu", 2**30)

    def score(self, candidates: Sequence[Candidate]) -> Sequence[Result]:
        with open(self._settings.folder / "batches", "a") as file:
            file.write(" ".join(f"{one.island}/{one.number}" for one in candidates) + "\n")
        results = [self._score(candidate) for candidate in candidates]
        return results * 2 if candidates[0].genotype[0] == Fate.TOO_MANY_RESULTS else results

    def latency(self, candidate: Candidate) -> Result:
        begin_s = time.time()
        match candidate.genotype[0]:
            case Fate.LATENCY_RAISES:
                raise RuntimeError("no clock")
            case Fate.LATENCY_FAILS:
                return Failure(FailureKind.NON_FINITE, "latency_ms is nan")
            case Fate.LATENCY_KILLS:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._settings.duration_s)
        self._log("latency", candidate, begin_s)
        return Measurement({"latency_ms": 1.0 + candidate.number}, {"latency": self._settings.duration_s})

    def _score(self, candidate: Candidate) -> Result:
        begin_s = time.time()
        match candidate.genotype[0]:
            case Fate.RAISES:
                raise ZeroDivisionError("this network divides by zero")
            case Fate.RAISES_WHAT_CANNOT_TRAVEL:
                raise Unpicklable
            case Fate.KILLS_ITS_WORKER:
                time.sleep(0.1)  # the answer before this one has to leave the process first
                os.kill(os.getpid(), signal.SIGKILL)
            case Fate.EXITS:
                sys.exit(3)
            case Fate.STUCK:
                time.sleep(1000)
            case Fate.KILLS_THE_FIRST_WORKER:
                marker = self._settings.folder / f"killed-{candidate.number}"
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case Fate.SLOW:
                (self._settings.folder / f"began-{candidate.number}").write_text(str(os.getpid()))
                time.sleep(100 * self._settings.duration_s)
        time.sleep(self._settings.duration_s)
        self._log("score", candidate, begin_s)
        figures = {f"weights/{name}": _describe(array) for name, array in self._weights.items()}
        threads = float(os.environ.get("OMP_NUM_THREADS", "0"))
        miou = 1 / (1 + candidate.number) + self._settings.bias
        return Measurement({"miou": miou, "threads": threads, **figures}, {"score": 0.01}, "cpu")

    def _log(self, kind: str, candidate: Candidate, begin_s: float) -> None:
        with open(self._settings.folder / "log", "a") as file:
            file.write(f"{kind} {candidate.number} {os.getpid()} {begin_s!r} {time.time()!r}\n")


def _describe(array: np.ndarray) -> float:
    """1 if the array is read-only and lies in the object store's shared memory, else 0."""
    place = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= place < end:
            return float("plasma" in line and not array.flags.writeable)
    return 0.0
