"""What a long journal costs: appending, bytes in the store, and going on with it in a fresh process.

A search whose evaluations take no time fills the journal, results a few at a time as workers bring them. Then a
process that knows nothing opens the journal, replays it through sampler and scheduler, and sweeps, as `archipelago
resume` does; its clock begins when all modules are there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from infra.stores import make_store
from jobs.bench.bucket import bucket
from jobs.bench.driver import InstantPool
from jobs.bench.searches import ISLAND, STUDY, bench_recipe, bench_search
from jobs.composition import make_space
from orchestrator.config import Recipe
from orchestrator.island import make_islands
from orchestrator.journal import Journal
from orchestrator.objectives import Objectives
from orchestrator.records import Event

WORKERS = 16
MIB = 2**20


def store(
    candidates: Annotated[str, typer.Option(metavar="N,…", help="Candidates of each journal.")] = "10000,100000",
    at_once: Annotated[int, typer.Option(min=1, help="Results that come at once.")] = 8,
    s3: Annotated[bool, typer.Option("--s3", help="Keep the journals in a bucket instead of a folder.")] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An S3 server; else AWS_ENDPOINT_URL_S3, else SeaweedFS is started."),
    ] = None,
    bucket_name: Annotated[str, typer.Option("--bucket", help="A bucket of that server.")] = "archipelago",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What a long journal costs: appending, bytes, replay, memory."""
    notes = Console(stderr=True)
    result: dict[str, Any] = {"store": "s3" if s3 else "folder", "at_once": at_once, "load_before": os.getloadavg()[0]}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="archipelago-bench-"))
        address = stack.enter_context(bucket(endpoint, bucket_name)) if s3 else folder
        result["sizes"] = {}
        for size in map(int, candidates.split(",")):
            result["sizes"][str(size)] = found = measure(f"{address}/{size}", size, at_once)
            words = f"appended in {found['append_s']:.1f} s, resumed in {found['resume_s']:.1f} s"
            notes.print(f"{size} candidates: {words}, {found['bytes'] / MIB:.1f} MiB", highlight=False)
    result["load_after"] = os.getloadavg()[0]
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, Console())


class TimedJournal(Journal):
    """A journal that knows how long its appends took."""

    spent_s: list[float]

    def append(self, events: Sequence[Event]) -> None:
        began_s = time.perf_counter()
        super().append(events)
        if events:
            self.spent_s.append(time.perf_counter() - began_s)


def measure(address: str, candidates: int, at_once: int) -> dict[str, Any]:
    """The figures of one journal."""
    recipe = bench_recipe(candidates, workers=WORKERS, window=2 * WORKERS)
    place = make_store(address)
    place.probe()
    journal = TimedJournal.create(place, STUDY, (ISLAND,))
    assert isinstance(journal, TimedJournal)
    journal.spent_s = []
    bench_search(recipe, InstantPool(2 * WORKERS, at_once), journal).run()
    journal.events(ISLAND)
    journal.sweep()
    half = len(journal.spent_s) // 2
    keys = place.list(f"{STUDY}/")
    return {
        "append_s": sum(journal.spent_s),
        "append_per_s": candidates / sum(journal.spent_s),
        "append_growth": _mean(journal.spent_s[half:]) / _mean(journal.spent_s[:half]),
        "objects": len(keys),
        "bytes": sum(len(place.read(key)) for key in keys),
        **_in_a_fresh_process(address, recipe),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _in_a_fresh_process(address: str, recipe: Recipe) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(resume, (address, recipe.model_dump(mode="json")))


class Beginning(Journal):
    """The first half of a journal."""

    def events(self, island: str) -> tuple[Event, ...]:
        return super().events(island)[: self.count(island) // 2]


def resume(address: str, document: dict[str, Any]) -> dict[str, float]:
    """How long it takes to go on with a journal, and what memory; for a process that has done nothing before."""
    recipe, place = Recipe.model_validate(document), make_store(address)
    space, objectives = make_space(recipe), Objectives.from_settings(recipe.objectives)
    Path("/proc/self/clear_refs").write_text("5")  # what was loaded counts for the peak no more
    before, began_s, began_cpu_s = _memory_bytes("VmRSS"), time.perf_counter(), time.process_time()
    journal = Journal.take(place, STUDY, space.islands, 1)
    make_islands(recipe, space, objectives, journal)
    replayed_s = time.perf_counter()
    journal.sweep()
    ended_s, cpu_s, peak = time.perf_counter(), time.process_time() - began_cpu_s, _memory_bytes("VmHWM")
    journal.events(ISLAND)
    read_s = time.perf_counter() - ended_s
    half_began_s = time.perf_counter()
    make_islands(recipe, space, objectives, Beginning.open(place, STUDY))
    half_s = time.perf_counter() - half_began_s - read_s
    all_s = replayed_s - began_s - read_s
    return {
        "resume_s": ended_s - began_s,
        "resume_cpu_s": cpu_s,
        "read_s": read_s,
        "replay_per_s": journal.count(ISLAND) / all_s,
        "replay_growth": (all_s - half_s) / half_s,
        "resume_peak_bytes": peak,
        "resume_own_bytes": peak - before,
    }


def _memory_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


ROWS = {
    "append_per_s": ("appended, a second", 1.0),
    "append_growth": ("second half over first half, append", 1.0),
    "objects": ("objects", 1.0),
    "bytes": ("MiB in the store", 1 / MIB),
    "resume_s": ("resumed in, s", 1.0),
    "resume_cpu_s": ("of the processor, s", 1.0),
    "read_s": ("reading alone, s", 1.0),
    "replay_per_s": ("replayed, a second", 1.0),
    "replay_growth": ("second half over first half, replay", 1.0),
    "resume_peak_bytes": ("peak of the process, MiB", 1 / MIB),
    "resume_own_bytes": ("of which for the journal, MiB", 1 / MIB),
}
"""What the table shows, and in which unit."""


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"a journal in a {result['store']}, {result['at_once']} results at once")
    table.add_column("candidates")
    for size in result["sizes"]:
        table.add_column(size, justify="right")
    for name, (words, unit) in ROWS.items():
        table.add_row(words, *(f"{unit * of[name]:,.4g}" for of in result["sizes"].values()))
    console.print(table)
    console.print(f"load of the machine: {result['load_before']:.1f} before, {result['load_after']:.1f} after")
