"""Commands that make networks of candidates, and that judge them."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from infra.stores import STUDIES
from jobs.cli.options import (
    EXIT_CODES,
    AddressOption,
    AtOnceOption,
    JsonOption,
    LimitOption,
    RetrainingOption,
    StoreOption,
    StudyArgument,
    err,
    opened,
    out,
    sentences,
    typed,
)
from orchestrator.loop import EndReason


class ExportFormat(Enum):
    """What `export` writes."""

    ONNX = "onnx"
    TORCH = "torch"


class ExportOutput(Enum):
    """What an exported network gives."""

    LOGITS = "logits"
    CLASSES = "classes"
    COARSE_LOGITS = "coarse-logits"


def retrain(
    study: StudyArgument,
    candidates: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ISLAND/NUMBER]...", help="Candidates; without any, what `select` selects."),
    ] = None,
    store: StoreOption = STUDIES,
    limit: LimitOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Train each N times, from other weights.")] = 1,
    random: Annotated[
        int, typer.Option(metavar="N", min=0, help="Train N random networks of the size of each, too: for shrinking.")
    ] = 0,
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

        place, display = opened(study, store), Display(err if as_json else out)
        chosen = selection.chosen(place, candidates or [], limit or [])
        if random:
            from jobs.shrink import random_rivals

            chosen = [*chosen, *random_rivals(place, chosen, random, overrides or [])]
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
            opened(study, store),
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

        place = opened(study, store)
        page = study_page(place, typed(place), datetime.now(UTC))
        try:
            file.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"--out {file} cannot be written: {error.strerror}") from None
        out.print(f"{file} ({len(page) / 1e6:.1f} MB): open it in a browser", highlight=False, soft_wrap=True)


def trust(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    sampled: Annotated[int, typer.Option(metavar="N", min=0, help="Random networks of each island.")] = 10,
    random: Annotated[int, typer.Option(metavar="N", min=0, help="Random ones as large as the best found one.")] = 5,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Train each N times, from other weights.")] = 1,
    fine_tune: Annotated[
        int, typer.Option(metavar="STEPS", min=0, help="Try the supernet fine-tuned for each island, too.")
    ] = 0,
    distort_all: Annotated[
        bool, typer.Option("--distort-all", help="Distort the found network of every island.")
    ] = False,
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

        plan = job.Plan(sampled, random, seeds, fine_tune, distort_all, tuple(also or ()))
        display = Display(err if as_json else out)
        evidence = job.gather(
            opened(study, store),
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
