"""What commands have in common: options, consoles, and how what goes wrong is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from infra.stores import STUDIES
from orchestrator.loop import EndReason
from orchestrator.protocols import StoreError

if TYPE_CHECKING:
    from jobs.study import Study

BAD_INPUT = 2
EXIT_CODES = {EndReason.FINISHED: 0, EndReason.STOPPED: 130, EndReason.NO_WORKERS: 1}

out, err = Console(emoji=False), Console(stderr=True, emoji=False)  # else 10.0.0.1:100: has a picture in it

StoreOption = Annotated[
    str, typer.Option("--store", metavar="STORE", help="What holds the studies: a folder, or s3://bucket/prefix.")
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's name in the store, its folder, or s3://bucket/prefix/study.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides one value of the recipe; repeatable.")
]
AddressOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster's address; without it a local Ray is started.")
]
RetrainingOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides a value of retraining, or data.root; repeatable."),
]
AtOnceOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Train no more than N at a time.")]
LimitOption = Annotated[
    list[str] | None, typer.Option(metavar="METRIC<=NUMBER", help="What selected candidates keep to; repeatable.")
]
InProcessOption = Annotated[
    bool, typer.Option("--in-process", help="Evaluate in this process, without Ray: for debugging.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def sentences() -> Iterator[None]:
    """Turns what a user can mend into one sentence on stderr and exit code 2, a training's ending into its own code."""
    from orchestrator.journal import JournalCorrupt
    from orchestrator.replay import ReplayMismatch
    from search_spaces.training.endings import TrainingFailed, TrainingStopped

    try:
        yield
    except (ValueError, StoreError, JournalCorrupt, ReplayMismatch, ConnectionError) as error:
        _say(error, BAD_INPUT)
    except TrainingStopped as stopped:
        _say(stopped, EXIT_CODES[EndReason.STOPPED])
    except TrainingFailed as failed:
        _say(failed, EXIT_CODES[EndReason.NO_WORKERS])


def _say(error: Exception, code: int) -> NoReturn:
    for line in str(error).splitlines():
        err.print(f"archipelago: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code) from None


def opened(name: str, store: str) -> Study:
    from jobs.study import Study

    return Study.at(name, store)


def typed(study: Study) -> str:
    """The study as a person types it here."""
    here = study.store.where == os.path.abspath(STUDIES)
    return study.name if here else f"{study.name} --store {study.store.where}"
