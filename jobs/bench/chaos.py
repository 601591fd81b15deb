"""Whether anything is lost: drivers and workers are killed, drivers compete, objects are damaged. In three parts.

kills     drivers of studies in a bucket are killed by SIGKILL at random moments, some workers too; each study must end
          as an undisturbed one
rivals    two drivers of one study at once; a driver that sleeps past its lease and wakes up, and must write nothing
damage    every object of a finished study flipped or deleted, one at a time, which must be noticed
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.bench.bucket import bucket
from jobs.bench.corruption import damage_everything
from jobs.bench.kills import kill_drivers
from jobs.bench.rivals import rival_drivers

Say = Callable[[str], None]


def chaos(
    only: Annotated[str, typer.Option(metavar="PART,…", help="Parts to run.")] = "kills,rivals,damage",
    kills: Annotated[int, typer.Option(min=1, help="Drivers that are killed.")] = 50,
    stops: Annotated[int, typer.Option(min=0, help="Drivers that sleep past their lease.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 0,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An S3 server; else AWS_ENDPOINT_URL_S3, else SeaweedFS is started."),
    ] = None,
    bucket_name: Annotated[str, typer.Option("--bucket", help="A bucket of that server.")] = "archipelago",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What is lost when drivers and workers are killed, drivers compete and objects are damaged."""
    chosen = only.split(",")
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise typer.BadParameter(f"--only takes {', '.join(PARTS)}, separated by commas, got {', '.join(unknown)}")
    notes, began_s = Console(stderr=True), time.monotonic()
    result: dict[str, Any] = {"seed": seed, "load_before": os.getloadavg()[0]}
    with bucket(endpoint, bucket_name) as address:
        for part in chosen:
            found = PARTS[part](f"{address}/{part}", kills, stops, seed, _saying(notes))
            notes.print_json(data=found)
            result |= found
    result |= {"seconds": time.monotonic() - began_s, "load_after": os.getloadavg()[0]}
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, Console())


def _saying(notes: Console) -> Say:
    return lambda line: notes.print(line, highlight=False, markup=False, soft_wrap=True)


def _kills(address: str, kills: int, stops: int, seed: int, say: Say) -> dict[str, Any]:
    return kill_drivers(address, kills, seed, say)


def _rivals(address: str, kills: int, stops: int, seed: int, say: Say) -> dict[str, Any]:
    return rival_drivers(address, stops, seed, say)


def _damage(address: str, kills: int, stops: int, seed: int, say: Say) -> dict[str, Any]:
    return damage_everything(address, say)


PARTS: dict[str, Callable[[str, int, int, int, Say], dict[str, Any]]] = {
    "kills": _kills,
    "rivals": _rivals,
    "damage": _damage,
}


def _show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="chaos")
    table.add_column("what")
    table.add_column("found", justify="right")
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{one} {count}" for one, count in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value)) or "none"
        elif isinstance(value, float):
            value = f"{value:.3g}"
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)
