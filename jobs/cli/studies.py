"""Commands that run a study, and that show its runs in MLflow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.stores import STUDIES, make_store
from jobs.cli.options import (
    EXIT_CODES,
    AddressOption,
    InProcessOption,
    SetOption,
    StoreOption,
    StudyArgument,
    err,
    opened,
    out,
    sentences,
    typed,
)
from orchestrator.loop import Ending, EndReason

if TYPE_CHECKING:
    from jobs.study import Study


def search(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's file, or the name of one that ships; -: from stdin.")
    ],
    store: StoreOption = STUDIES,
    overrides: SetOption = None,
    address: AddressOption = None,
    in_process: InProcessOption = False,
    again: Annotated[
        bool, typer.Option("--resume", help="Go on with the study if it is there: for what is started again and again.")
    ] = False,
) -> None:
    """Begin a study and run it to its end.

    Trains the supernet, searches every island and prints the fronts. Ctrl-C stops it; `archipelago resume` goes on.
    """
    with sentences():
        from jobs.recipe_file import load_recipe

        loaded = load_recipe(recipe, overrides or [])
        from jobs import search as job
        from jobs.progress import Display
        from jobs.study import Study

        study = Study(make_store(store), loaded.study)
        run = job.search_or_resume if again else job.search
        _finish(study, run(loaded, study, Display(out), address, in_process))


def resume(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    address: AddressOption = None,
    in_process: InProcessOption = False,
    more: Annotated[
        int, typer.Option("--more", metavar="N", min=0, help="Give each island of a finished study N candidates more.")
    ] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Cut a damaged journal before the damage.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although code, data or libraries have changed.")
    ] = False,
) -> None:
    """Go on with a study that was stopped or killed, on any machine.

    Training goes on from its last checkpoint; nothing that the journal holds is evaluated again. The study ends as it
    would have without the interruption.
    """
    with sentences():
        from jobs import search as job
        from jobs.progress import Display

        place = opened(study, store)
        ending = job.resume(
            place, Display(out), address, in_process, more=more, mend=repair, accept_changes=accept_changes
        )
        _finish(place, ending)


def submit(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's file, or the name of one that ships.")],
    address: Annotated[
        str, typer.Option(metavar="URL", help="The cluster's dashboard, such as http://127.0.0.1:8265.")
    ],
    store: Annotated[
        str,
        typer.Option("--store", metavar="STORE", help="s3://bucket/prefix, or a folder that the cluster shares."),
    ],
    overrides: SetOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow what the study prints, to its end.")] = True,
) -> None:
    """Begin a study on a Ray cluster, or go on with it there.

    Its driver runs on the cluster's head and needs this machine no more: Ctrl-C ends the following, not the study.
    RAY_AUTH_MODE=token and RAY_AUTH_TOKEN open a cluster that wants a token.
    """
    with sentences():
        from jobs import submit as job
        from jobs.recipe_file import load_recipe

        done = job.submit(load_recipe(recipe, overrides or []), address, store)
        place = f"{done.study} --store {done.store}"
        lines = [f"job {done.job} at {done.cluster.address}; from here it is seen by"]
        lines += [f"  archipelago status {place}", f"  archipelago front {place}"]
        for line in lines:
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        if not wait:
            return
        try:
            code = done.follow(lambda text: out.out(text, end="", highlight=False))
        except KeyboardInterrupt:
            err.print("archipelago: not followed any more; the study goes on", style="red", highlight=False)
            code = EXIT_CODES[EndReason.STOPPED]
        raise typer.Exit(code)


def sync(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    tracking_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Another MLflow than the recipe's: a server, or sqlite:///FILE."),
    ] = None,
) -> None:
    """Bring MLflow to where the study's journal is.

    Every candidate has one run afterwards, whatever MLflow missed, and however often a sync was interrupted; runs that
    are whole are left alone.
    """
    with sentences():
        from jobs import sync as job
        from jobs.progress import Display

        done = job.sync(opened(study, store), Display(out), tracking_uri)
        tally = done.tally
        counts = [f"{tally.there} were there", f"{tally.completed} completed", f"{tally.new} new"]
        counts += [f"{tally.removed} removed that were there twice"] if tally.removed else []
        line = f"MLflow at {done.uri} has all {tally.candidates} candidates: {', '.join(counts)}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def ui(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="A study; without it, the store's runs.")
    ] = None,
    store: StoreOption = STUDIES,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Compare candidates in the MLflow UI.

    Serves the runs of a study, or of all studies in the store, to this machine alone.
    """
    with sentences():
        from infra.mlflow_ui import sqlite_uri, ui_command, ui_environment

        if study is None:
            from jobs.study import tracking_folder

            database = tracking_folder(make_store(store)) / "mlflow.db"
            uri = sqlite_uri(database)
        else:
            from orchestrator.study import read_study

            place = opened(study, store)
            uri = place.tracking_uri(read_study(place.store, place.name).recipe)
            database = place.tracking_folder / "mlflow.db"
        if uri == sqlite_uri(database) and not database.is_file():
            raise ValueError(f"there are no runs yet: {database} is missing; run `archipelago search` first")
        out.print(f"MLflow UI at http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
        raise typer.Exit(subprocess.call(ui_command(uri, port), env=ui_environment()))


def _finish(study: Study, ending: Ending) -> None:
    """Prints the fronts and what to type next; ends with the exit code of the ending."""
    from jobs.tables import StudyReport

    where = typed(study)
    program = "archipelago" if shutil.which("archipelago") else sys.argv[0]
    if ending.reason is EndReason.FINISHED:
        for table in StudyReport.read(study).front_tables():
            out.print(table)
        lines = [f"{program} report {where}", f"{program} candidates {where} --json", f"{program} ui {where}"]
        out.print("\nOpen a report of it, get every candidate, or compare them in the MLflow UI:", highlight=False)
    else:
        err.print(f"archipelago: {ending.message}", style="red", highlight=False, markup=False, soft_wrap=True)
        lines = [f"{program} resume {where}"]
        out.print("\nNothing is lost. To go on:", highlight=False)
    if not ending.tracked:
        lines.append(f"{program} sync {where}   # MLflow has missed something")
    for line in lines:
        out.print(f"  {line}", highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_CODES[ending.reason])
