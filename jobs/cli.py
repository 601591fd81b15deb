"""`archipelago`: what a person types. What is wrong with the input is said in one sentence, with exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from infra.stores import STUDIES, make_store
from orchestrator.loop import Ending, EndReason
from orchestrator.protocols import StoreError

if TYPE_CHECKING:
    from jobs.study import Study

BAD_INPUT = 2
EXIT_CODES = {EndReason.FINISHED: 0, EndReason.STOPPED: 130, EndReason.NO_WORKERS: 1}

HELP = """Search neural architectures for dense prediction.

A study trains a supernet, searches every island of its space and keeps the Pareto front of each. It lies in a folder
of the store, and can be resumed after anything: `archipelago search demo` runs a small one in a few minutes.
"""
app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=HELP
)
out, err = Console(), Console(stderr=True)

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


class ExportFormat(Enum):
    """What `export` writes."""

    ONNX = "onnx"
    TORCH = "torch"


class ExportOutput(Enum):
    """What an exported network gives."""

    LOGITS = "logits"
    CLASSES = "classes"
    COARSE_LOGITS = "coarse-logits"


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


@app.command()
def search(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's file, or the name of one that ships.")],
    store: StoreOption = STUDIES,
    overrides: SetOption = None,
    address: AddressOption = None,
    in_process: InProcessOption = False,
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
        _finish(study, job.search(loaded, study, Display(out), address, in_process))


@app.command()
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

        place = _study(study, store)
        ending = job.resume(
            place, Display(out), address, in_process, more=more, mend=repair, accept_changes=accept_changes
        )
        _finish(place, ending)


@app.command()
def status(study: StudyArgument, store: StoreOption = STUDIES, as_json: JsonOption = False) -> None:
    """Show how far a study is."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(_study(study, store))
        if as_json:
            print(json.dumps(report.status_rows()))
        else:
            out.print(report.status_table())


@app.command()
def front(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    as_json: JsonOption = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the fronts into a PNG file.")] = None,
) -> None:
    """Show the Pareto front of each island."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(_study(study, store))
        if picture is not None:
            from orchestrator.report.fronts import fronts_png

            picture.write_bytes(fronts_png(report.recipe.study, report.objectives, report.events))
        if as_json:
            print(json.dumps(report.front_rows()))
        else:
            for table in report.front_tables():
                out.print(table)


@app.command()
def candidates(study: StudyArgument, store: StoreOption = STUDIES, as_json: JsonOption = False) -> None:
    """Show every candidate, failed ones too."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(_study(study, store))
        if as_json:
            print(json.dumps(report.candidate_rows()))
        else:
            for table in report.candidate_tables():
                out.print(table)


@app.command()
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

        done = job.sync(_study(study, store), Display(out), tracking_uri)
        tally = done.tally
        counts = [f"{tally.there} were there", f"{tally.completed} completed", f"{tally.new} new"]
        counts += [f"{tally.removed} removed that were there twice"] if tally.removed else []
        line = f"MLflow at {done.uri} has all {tally.candidates} candidates: {', '.join(counts)}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def select(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    limit: LimitOption = None,
    spread: Annotated[int, typer.Option(metavar="K", min=0, help="K more of each front, evenly spread.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Choose candidates to go on with: the best of each island's front, its knee, and K more.

    `--limit latency_ms<=8` keeps to the candidates that hold it; repeatable.
    """
    with sentences():
        from jobs import selection

        chosen = selection.Selection.of(_study(study, store), limit or [], spread)
        if as_json:
            print(json.dumps(chosen.rows()))
        else:
            for table in chosen.tables():
                out.print(table)


@app.command()
def retrain(
    study: StudyArgument,
    candidates: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ISLAND/NUMBER]...", help="Candidates; without any, what `select` selects."),
    ] = None,
    store: StoreOption = STUDIES,
    limit: LimitOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Train each N times, from other weights.")] = 1,
    overrides: RetrainingOption = None,
    address: AddressOption = None,
    at_once: AtOnceOption = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="Train in this process, without Ray.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train chosen candidates from scratch, by the recipe's `retraining`.

    Several at once, with Ray Tune. Ctrl-C stops it, and the same command goes on; nothing is trained twice.
    """
    with sentences():
        from jobs import retrain as job
        from jobs import selection
        from jobs.progress import Display
        from jobs.tables import sheet_table

        place, display = _study(study, store), Display(err if as_json else out)
        chosen = selection.chosen(place, candidates or [], limit or [])
        ending = job.retrain_candidates(
            place, chosen, display, seeds, overrides or [], address=address, in_process=in_process, at_once=at_once
        )
        if as_json:
            print(json.dumps(ending.rows()))
        else:
            out.print(sheet_table(ending.sheet()))
        if ending.left:
            display.say(f"stopped with {ending.left} trials left: the same command goes on")
            raise typer.Exit(EXIT_CODES[EndReason.STOPPED])


@app.command()
def export(
    study: StudyArgument,
    candidate: Annotated[str, typer.Argument(metavar="ISLAND/NUMBER", help="The candidate, as `select` prints it.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="ONNX, or safetensors for `jobs.load_network`.")],
    file: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write, or to replace.")],
    output: Annotated[
        ExportOutput, typer.Option(help="Logits or classes at the image's size, or logits at the network's stride.")
    ] = ExportOutput.LOGITS,
    retrained: Annotated[
        bool, typer.Option("--retrained", help="With weights that were trained from scratch.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(metavar="K", help="Of the training from scratch; without it, the best one.")
    ] = None,
    store: StoreOption = STUDIES,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="data.root=FOLDER", help="Where the data set lies.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a candidate's network as a file that needs no study.

    It takes RGB images as uint8 of any size and normalises them itself; BatchNorm is recalibrated as the study scored
    it, and folded. The file is compared with the module on real images before it takes its place.
    """
    with sentences():
        from jobs import export as job

        done = job.export(
            _study(study, store),
            candidate,
            form.value,
            file,
            output.value,
            retrained=retrained,
            seed=seed,
            overrides=overrides or [],
        )
        if as_json:
            print(json.dumps(done.row()))
        else:
            for line in done.sentences():
                out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def report(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    file: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write everything that a study has found into one HTML page.

    Fronts, candidates, their evolution, drawings of the networks on the fronts, device time, failures and the recipe.
    The file needs no network and nothing beside it.
    """
    with sentences():
        from datetime import UTC, datetime

        from jobs.report import study_page

        place = _study(study, store)
        page = study_page(place, _name(place), datetime.now(UTC))
        try:
            file.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"--out {file} cannot be written: {error.strerror}") from None
        out.print(f"{file} ({len(page) / 1e6:.1f} MB): open it in a browser", highlight=False, soft_wrap=True)


@app.command()
def trust(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    sampled: Annotated[int, typer.Option(metavar="N", min=0, help="Random networks of each island.")] = 10,
    random: Annotated[int, typer.Option(metavar="N", min=0, help="Random ones as large as the best found one.")] = 5,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Train each N times, from other weights.")] = 1,
    fine_tune: Annotated[
        int, typer.Option(metavar="STEPS", min=0, help="Try the supernet fine-tuned for each island, too.")
    ] = 0,
    also: Annotated[
        list[str] | None, typer.Option(metavar="STUDY", help="Try another study's weights, too; repeatable.")
    ] = None,
    overrides: RetrainingOption = None,
    address: AddressOption = None,
    at_once: AtOnceOption = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="Train in this process, without Ray.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find out how far the scores of a study can be believed.

    Trains random, found and distorted networks from scratch, and compares: rank correlation with the scores that the
    search saw, found against random networks of their size, the noise of a score. Trainings are kept, and shared with
    `retrain`: Ctrl-C stops it, the same command goes on, a larger one adds to it.
    """
    with sentences():
        from jobs import trust as job
        from jobs.progress import Display
        from jobs.tables import sheet_table
        from jobs.trust_tables import sheets, summary

        plan = job.Plan(sampled, random, seeds, fine_tune, tuple(also or ()))
        display = Display(err if as_json else out)
        evidence = job.gather(
            _study(study, store),
            plan,
            overrides or [],
            display,
            address=address,
            in_process=in_process,
            at_once=at_once,
        )
        if as_json:
            print(json.dumps(summary(evidence)))
        else:
            for sheet in sheets(evidence):
                out.print(sheet_table(sheet))
        if evidence.left:
            display.say(f"stopped with {evidence.left} trainings left: the same command goes on")
            raise typer.Exit(EXIT_CODES[EndReason.STOPPED])


@app.command()
def complexity(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Networks of HyCTAS or transformers of HR-NAS, as JSON.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Count parameters and multiply-adds of networks, or of lightweight transformers.

    Networks in the format of the HyCTAS authors: semantic head only, without auxiliary heads. Multiply-adds are those
    of convolutions and matrix products over one input of the size that the file states, fusions at strides 16 and 32
    included. Lightweight transformers of HR-NAS, listed under `transformer`: in the form of the authors' code.
    """
    with sentences():
        from jobs.tables import complexity_table, transformers_table
        from search_spaces.hrnas.published import lists_transformers, read_transformers
        from search_spaces.hyctas.published import read_networks

        document = _json_document(file)
        if lists_transformers(document):
            transformers = read_transformers(document, str(file))
            rows, table = [asdict(one) for one in transformers], transformers_table(transformers)
        else:
            networks = read_networks(document, str(file))
            rows, table = [asdict(one) for one in networks], complexity_table(networks)
        if as_json:
            print(json.dumps(rows))
        else:
            out.print(table)


@app.command()
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

            place = _study(study, store)
            uri = place.tracking_uri(read_study(place.store, place.name).recipe)
            database = place.tracking_folder / "mlflow.db"
        if uri == sqlite_uri(database) and not database.is_file():
            raise ValueError(f"there are no runs yet: {database} is missing; run `archipelago search` first")
        out.print(f"MLflow UI at http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
        raise typer.Exit(subprocess.call(ui_command(uri, port), env=ui_environment()))


def _study(name: str, store: str) -> Study:
    from jobs.study import Study

    return Study.at(name, store)


def _name(study: Study) -> str:
    """The study as a person types it here."""
    here = study.store.where == os.path.abspath(STUDIES)
    return study.name if here else f"{study.name} --store {study.store.where}"


def _json_document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def _finish(study: Study, ending: Ending) -> None:
    """Prints the fronts and what to type next; ends with the exit code of the ending."""
    from jobs.tables import StudyReport

    where = _name(study)
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


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
