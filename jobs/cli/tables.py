"""Commands that print what is known: of a study, or of networks in a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.stores import STUDIES
from jobs.cli.options import JsonOption, LimitOption, StoreOption, StudyArgument, opened, out, sentences

if TYPE_CHECKING:
    from jobs.tables import StudyReport


def status(study: StudyArgument, store: StoreOption = STUDIES, as_json: JsonOption = False) -> None:
    """Show how far a study is."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(opened(study, store))
        if as_json:
            print(json.dumps(report.status_rows()))
        else:
            out.print(report.status_table())


def front(
    study: StudyArgument,
    store: StoreOption = STUDIES,
    as_json: JsonOption = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the fronts into a .png or .svg file.")
    ] = None,
) -> None:
    """Show the Pareto front of each island."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(opened(study, store))
        if picture is not None:
            _draw(report, picture)
        if as_json:
            print(json.dumps(report.front_rows()))
        else:
            for table in report.front_tables():
                out.print(table)


def _draw(report: StudyReport, picture: Path) -> None:
    from orchestrator.report.fronts import fronts_picture

    form = picture.suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise ValueError(f"--picture {picture}: its name must end in .png or .svg")
    drawn = fronts_picture(report.recipe.study, report.objectives, report.events, "svg" if form == "svg" else "png")
    try:
        picture.write_bytes(drawn)
    except OSError as error:
        raise ValueError(f"--picture {picture} cannot be written: {error.strerror}") from None


def candidates(study: StudyArgument, store: StoreOption = STUDIES, as_json: JsonOption = False) -> None:
    """Show every candidate, failed ones too."""
    with sentences():
        from jobs import tables

        report = tables.StudyReport.read(opened(study, store))
        if as_json:
            print(json.dumps(report.candidate_rows()))
        else:
            for table in report.candidate_tables():
                out.print(table)


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

        chosen = selection.Selection.of(opened(study, store), limit or [], spread)
        if as_json:
            print(json.dumps(chosen.rows()))
        else:
            for table in chosen.tables():
                out.print(table)


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


def _json_document(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    except RecursionError:
        raise ValueError(f"{file} is not JSON of this kind: it is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
