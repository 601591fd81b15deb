"""Two drivers of one study in a bucket: started at once, and one that sleeps past its lease and wakes up again.

What a driver without the lease writes is counted by what the bucket holds, every object of it, before and after.
"""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from infra.stores import StudyStore, make_store
from jobs.bench.journals import records, undisturbed
from jobs.bench.kills import FORMULAS, STUDY, Phase, Watch
from jobs.bench.programs import Program
from orchestrator.config import Recipe, read_recipe
from orchestrator.journal import read_epoch

TTL_S = 2.0
DOCUMENT: Mapping[str, Any] = {
    **FORMULAS,
    "study": STUDY,
    "space": {"name": "toy", "delay_s": 0.03},
    "budget": {"evaluations_per_island": 40},
    "lease": {"ttl_s": TTL_S},
}
BAD_INPUT = 2
HELD = f"study {STUDY} is held by "


def rival_drivers(address: str, stops: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of two pairs of drivers that start at once, and of so many drivers that sleep."""
    recipe = read_recipe(DOCUMENT, "the bench's recipe")
    arena = Arena(recipe, undisturbed(recipe), np.random.default_rng(seed))
    writes = 0
    with tempfile.TemporaryDirectory(prefix="archipelago-bench-") as folder:
        arena.file = Path(folder) / "recipe.yaml"
        arena.file.write_text(json.dumps(DOCUMENT))
        sleeps = (arena.sleeps_while_it_is_finished, arena.sleeps_and_meets_the_other)
        for number, trial in enumerate([arena.at_once, *islice(cycle(sleeps), stops)]):
            try:
                writes += trial(f"{address}/{number}", say)
            finally:
                arena.clear()
    return {
        "split_brain_writes": writes,
        "stops": stops,
        "rivals_identical": arena.different == 0,
        "losers_that_said_who": sum(arena.said),
        "losers": len(arena.said),
    }


class Arena:
    """Where drivers meet."""

    def __init__(self, recipe: Recipe, expected: list[Any], rng: np.random.Generator) -> None:
        self._recipe, self._expected, self._rng = recipe, expected, rng
        self.file = Path()
        self.said: list[bool] = []
        """For each driver that lost: whether it ended with exit code 2 and a sentence that says who has the study."""
        self.different = 0
        """Studies whose journal is not that of an undisturbed run."""
        self._programs: list[Program] = []

    def clear(self) -> None:
        """Ends what still runs, or sleeps."""
        for program in self._programs:
            program.kill()
            program.forget()
        self._programs.clear()

    def at_once(self, address: str, say: Callable[[str], None]) -> int:
        """Epochs that losers wrote, where two begin a study at once, and where two go on with it after a kill."""
        store = make_store(address)
        pair = [self._program("search", str(self.file), "--store", address) for _ in range(2)]
        while all(program.runs for program in pair):
            time.sleep(0.05)
        first, loser = sorted(pair, key=lambda program: program.runs, reverse=True)
        self.said.append(loser.end() == BAD_INPUT and (HELD in loser.said or "exists already" in loser.said))
        watch = Watch(store, self._recipe, first)
        first.wait_until(lambda: watch.phase() is Phase.SEARCH)
        first.kill()
        epoch = read_epoch(store, STUDY)
        pair = [self._program("resume", f"{address}/{STUDY}") for _ in range(2)]
        codes = sorted((program.end(), program.said) for program in pair)
        self.said.append(codes[1][0] == BAD_INPUT and HELD in codes[1][1])
        self._judge(store, codes[0][0])
        writes = read_epoch(store, STUDY) - epoch - 1
        say(f"two at once, twice: {writes} writes of the losers")
        return writes

    def sleeps_while_it_is_finished(self, address: str, say: Callable[[str], None]) -> int:
        """Objects that a driver changes which is stopped in the search and wakes up when another has finished it."""
        store, sleeper = self._stopped(address)
        other = self._program("resume", f"{address}/{STUDY}")
        code = other.end()
        before = content(store)
        sleeper.send(signal.SIGCONT)
        self.said.append(sleeper.end() == BAD_INPUT and HELD in sleeper.said)
        after = content(store)
        self._judge(store, code)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        say(f"stopped until another had finished: {len(changed)} writes {' '.join(sorted(changed))}")
        return len(changed)

    def sleeps_and_meets_the_other(self, address: str, say: Callable[[str], None]) -> int:
        """The same, where it wakes up as soon as the other one searches: heads of the journal that are not the other's.

        Whoever writes a head under the other's feet ends the other.
        """
        store, sleeper = self._stopped(address)
        other = self._program("resume", f"{address}/{STUDY}")
        watch = Watch(store, self._recipe, other)
        other.wait_until(lambda: watch.phase() is Phase.SEARCH)
        sleeper.send(signal.SIGCONT)
        named = f"process {other.pid}, since"
        self.said.append(sleeper.end() == BAD_INPUT and HELD in sleeper.said and named in sleeper.said)
        awake = other.runs
        code = other.end()
        self._judge(store, code)
        say(f"stopped until another searched: it {'goes on' if awake else 'had ended'}, and ends with {code}")
        return int(code != 0)

    def _stopped(self, address: str) -> tuple[StudyStore, Program]:
        """A driver that was stopped somewhere in its search."""
        store = make_store(address)
        sleeper = self._program("search", str(self.file), "--store", address)
        watch = Watch(store, self._recipe, sleeper)
        sleeper.wait_until(lambda: watch.phase() is Phase.SEARCH)
        time.sleep(self._rng.uniform(0, 1.0))
        sleeper.send(signal.SIGSTOP)
        return store, sleeper

    def _judge(self, store: StudyStore, code: int) -> None:
        self.different += code != 0 or records(store, STUDY) != self._expected

    def _program(self, *arguments: str) -> Program:
        self._programs.append(Program(*arguments, "--in-process"))
        return self._programs[-1]


def content(store: StudyStore) -> dict[str, str]:
    """The hash of every object in a store."""
    return {key: sha256(store.read(key)).hexdigest() for key in store.list("")}
