"""Studies in a bucket whose drivers are killed, one after the other, until each study is finished.

Three kinds take turns: a space of formulas and a space of networks, which are trained first, in the driver's process;
and formulas on a local Ray, whose workers are killed too. Each driver runs in a folder of its own, so that it knows of
the ones before it what the bucket knows. A kill aims at a phase of the driver's life and strikes some moment later,
both drawn from a seed.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from infra.stores import StudyStore, make_store
from jobs.bench.journals import Record, records, strays, undisturbed
from jobs.bench.programs import Program, below, outlive
from orchestrator.config import Recipe, read_recipe
from orchestrator.protocols import ObjectMissing
from orchestrator.sealed import unseal
from orchestrator.study import StudyMissing, read_study, read_weights

STUDY = "chaos"
OUTLIVE_S = 20.0
"""How long what a killed driver has started may take to end."""

FORMULAS: Mapping[str, Any] = {
    "space": {"name": "toy", "delay_s": 0.004},
    "objectives": [{"name": "miou"}, {"name": "macs", "reference": 1e8}],
    "latency": {"measure": False},
    "sampler": {"population_size": 8, "mutation_probability": 0.1},
    "budget": {"evaluations_per_island": 80},
    "workers": {"batch": 2, "window": 8},
    "tracking": {"enabled": False},
}
NETWORKS: Mapping[str, Any] = {
    "space": {"name": "hyctas", "layers": 4, "filters": 1},
    "data": {
        "name": "synthetic",
        "height_px": 32,
        "width_px": 64,
        "train_images": 8,
        "validation_images": 4,
        "test_images": 1,
    },
    "training": {"steps": 30, "batch_size": 2, "checkpoint_s": 0.2},
    "evaluation": {"recalibration_images": 8, "batch_size": 4},
    "objectives": [{"name": "miou"}, {"name": "macs", "reference": 1e7}],
    "latency": {"measure": False},
    "sampler": {"population_size": 4},
    "budget": {"evaluations_per_island": 8},
    "workers": {"batch": 2, "window": 8},
    "tracking": {"enabled": False},
}


class Phase(StrEnum):
    """Where a driver is, as the bucket shows it."""

    START = "start"
    """Before it writes to the journal, and not in training."""
    TRAINING = "training"
    SEARCH = "search"
    ENDING = "ending"
    """Everything is in the journal."""


ORDER = tuple(Phase)


@dataclass(frozen=True)
class Kind:
    """A kind of study."""

    name: str
    document: Mapping[str, Any]
    in_process: bool
    aims: tuple[Phase, ...]
    """Phases at which the kills aim, one after the other; then the study is let go."""
    spans_s: Mapping[Phase, float]
    """Within which a kill strikes after the driver has come to the phase."""


START, TRAINING, SEARCH, ENDING = ORDER
SPANS_S = {START: 4.0, TRAINING: 1.5, SEARCH: 1.0, ENDING: 0.2}
IN_PROCESS = Kind("formulas", FORMULAS, True, (START, SEARCH, SEARCH, START, SEARCH, SEARCH, ENDING), SPANS_S)
TRAINED = Kind("networks", NETWORKS, True, (START, TRAINING, TRAINING, TRAINING, SEARCH, START, ENDING), SPANS_S)
ON_RAY = Kind(
    "formulas on Ray",
    {**FORMULAS, "space": {"name": "toy", "delay_s": 0.03}},
    False,
    (START, SEARCH, SEARCH, ENDING),
    {START: 8.0, SEARCH: 3.0, ENDING: 1.0},
)
KINDS = (IN_PROCESS, TRAINED, ON_RAY)


@dataclass
class Tally:
    """What came of it."""

    kills: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    """Kills, by the phase in which they struck."""
    workers_killed: int = 0
    studies: Counter[str] = field(default_factory=Counter)
    """By kind."""
    lost: int = 0
    duplicates: int = 0
    different: int = 0
    """Studies whose journal is not that of an undisturbed run."""
    repeated: dict[str, list[int]] = field(default_factory=dict)
    """By kind, for each driver after a kill: evaluations that had been begun before, by another driver or worker."""
    left_over: list[str] = field(default_factory=list)
    """Objects of finished studies that nothing leads to, and workers that outlived their driver."""
    to_lease_s: list[float] = field(default_factory=list)
    """From the start of a program to its lease, after a kill."""

    def figures(self) -> dict[str, Any]:
        """As they are printed with --json."""
        repeated = [count for counts in self.repeated.values() for count in counts]
        return {
            "kills": self.kills,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "identical": self.different == 0,
            "reevaluated_per_kill": sum(repeated) / max(1, len(repeated)),
            "reevaluated_most": {kind: max(counts, default=0) for kind, counts in self.repeated.items()},
            "kills_by_phase": dict(self.phases),
            "workers_killed": self.workers_killed,
            "studies": dict(self.studies),
            "left_over": self.left_over,
            "resume_s": median(self.to_lease_s) if self.to_lease_s else None,
        }


def kill_drivers(address: str, kills: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of so many kills."""
    tally, number = Tally(), 0
    while tally.kills < kills:
        kind = KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
            log = Path(folder) / "evaluations"
            log.touch()
            life = Life(kind, f"{address}/{number}", seed + number, log, tally)
            life.run(kills, np.random.default_rng([seed, number]))
        number += 1
        say(f"{kind.name}: {tally.kills} of {kills} kills; {tally.lost} lost, {tally.duplicates} twice")
    return tally.figures()


class Life:
    """A study from its beginning to its end."""

    def __init__(self, kind: Kind, address: str, seed: int, log: Path, tally: Tally) -> None:
        space = {**kind.document["space"], **({} if "training" in kind.document else {"log": str(log)})}
        document = {**kind.document, "study": STUDY, "seed": seed, "space": space}
        self._kind, self._address, self._log, self._tally = kind, address, log, tally
        self._recipe = read_recipe(document, "the bench's recipe")
        self._file = log.with_name("recipe.yaml")
        self._file.write_text(json.dumps(document))  # JSON is YAML
        self._store = make_store(address)
        self._seen: set[Record] = set()
        self._runs, self._aims = True, iter(kind.aims)

    def run(self, kills: int, rng: np.random.Generator) -> None:
        """Kills drivers until the study is finished, or so many have been killed in all."""
        expected = undisturbed(self._recipe)
        found, before = self._drive(kills, rng), self._repeated()
        while self._runs:
            found = self._drive(kills, rng)
            if "training" not in self._kind.document:
                self._tally.repeated.setdefault(self._kind.name, []).append(self._repeated() - before)
            before = self._repeated()
        self._judge(found, expected)

    def _drive(self, kills: int, rng: np.random.Generator) -> list[Record]:
        """What the journal holds after one more driver, which was killed or has finished the study."""
        tally = self._tally
        aim = next(self._aims, None) if tally.kills < kills else None
        program = Program(*self._command(), *(["--in-process"] if self._kind.in_process else []))
        try:
            self._runs = aim is not None and self._strike(program, aim, rng)
            if not self._runs and program.end() != 0:
                raise RuntimeError(f"study {self._address} cannot be resumed: {program.said[-2000:]}")
        finally:
            program.kill()
            program.forget()
        found = records(self._store, STUDY)
        tally.lost += len(self._seen - set(found))
        self._seen = set(found)
        return found

    def _repeated(self) -> int:
        """Evaluations that were begun more than once."""
        begun = self._log.read_text().splitlines()
        return len(begun) - len(set(begun))

    def _judge(self, found: list[Record], expected: list[Record]) -> None:
        tally = self._tally
        tally.studies[self._kind.name] += 1
        tally.lost += len({record[:2] for record in expected} - {record[:2] for record in found})
        tally.duplicates += len(found) - len({record[:2] for record in found})
        tally.different += found != expected
        tally.left_over += strays(self._store, STUDY)

    def _command(self) -> tuple[str, ...]:
        try:
            read_study(self._store, STUDY)
        except StudyMissing:
            return "search", str(self._file), "--store", self._address
        return "resume", f"{self._address}/{STUDY}"

    def _strike(self, program: Program, aim: Phase, rng: np.random.Generator) -> bool:
        """Whether the program was killed; else it came to its end before."""
        watch, delay_s = Watch(self._store, self._recipe, program), rng.uniform(0, self._kind.spans_s[aim])
        resumed = "resume" in program.arguments
        if aim is not START and not program.wait_until(lambda: watch.holds_lease):
            return False
        if aim is not START and resumed:
            self._tally.to_lease_s.append(time.monotonic() - program.began_s)
        if not program.wait_until(lambda: ORDER.index(watch.phase()) >= ORDER.index(aim)):
            return False
        if aim is SEARCH and not self._kind.in_process:
            self._kill_worker(program, rng)
        deadline_s = time.monotonic() + delay_s
        program.wait_until(lambda: time.monotonic() >= deadline_s)
        workers, others = program.workers(), below(program.pid)
        if not program.kill():
            return False
        self._tally.kills += 1
        self._tally.phases[watch.phase()] += 1
        left = outlive({pid: others.pop(pid) for pid in workers if pid in others}, OUTLIVE_S)
        self._tally.left_over += [f"worker {pid}" for pid in left]
        outlive(others, 0)  # agents of Ray's, which take a minute to see that they are alone
        return True

    def _kill_worker(self, program: Program, rng: np.random.Generator) -> None:
        if workers := program.workers():
            os.kill(int(rng.choice(workers)), signal.SIGKILL)
            self._tally.workers_killed += 1


class Watch:
    """Where a driver is."""

    def __init__(self, store: StudyStore, recipe: Recipe, program: Program) -> None:
        self._store, self._recipe, self._program = store, recipe, program
        self._before = self._written()

    @property
    def holds_lease(self) -> bool:
        """Whether the study is this driver's."""
        try:
            process = unseal(self._store.read(f"{self._recipe.study}/lease.json"))["process"]
        except ObjectMissing:
            return False
        return str(process).split(":")[-2] == str(self._program.pid)

    def phase(self) -> Phase:
        """The phase in which it is now."""
        if not self.holds_lease:
            return START
        if self._recipe.training and read_weights(self._store, self._recipe.study) is None:
            return TRAINING
        written = sum(self._written().values())
        if self._written() and written == self._recipe.budget.evaluations_per_island * len(self._written()):
            return ENDING
        return SEARCH if written > sum(self._before.values()) else START

    def _written(self) -> dict[str, int]:
        """How many events each island's journal holds."""
        try:
            head = unseal(self._store.read(f"{self._recipe.study}/HEAD"))
        except ObjectMissing:
            return {}
        return {name: int(entry["events"]) for name, entry in head["islands"].items()}
