"""Commands that look before anything is spent."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infra.stores import STUDIES, make_store
from jobs.cli.options import (
    AddressOption,
    InProcessOption,
    JsonOption,
    SetOption,
    StoreOption,
    err,
    out,
    sentences,
)

COLOURS = {"ok": "green", "look": "yellow", "wrong": "red"}


def doctor(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe; without one, what needs none is checked.")
    ] = None,
    store: StoreOption = STUDIES,
    overrides: SetOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a study can run here, and say what to do where it cannot.

    Python, libraries, device, memory, ports, store, Ray; with a recipe also its data set, limits and MLflow. The exit
    code is 1 where something is wrong.
    """
    with sentences():
        from jobs.doctor import examine
        from jobs.recipe_file import load_recipe

        loaded = None if recipe is None else load_recipe(recipe, overrides or [])
        place, findings = make_store(store), []
        for one in examine(loaded, place, address):
            findings.append(one)
            if not as_json:
                out.print(f"[{COLOURS[one.state]}]{one.state:6}[/]{one.subject:10}", end="")
                out.print(one.words, highlight=False, markup=False, soft_wrap=True)
        if as_json:
            print(json.dumps([one.row() for one in findings]))
        if any(one.state == "wrong" for one in findings):
            raise typer.Exit(1)


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's file, or the name of one that ships.")],
    store: StoreOption = STUDIES,
    overrides: SetOption = None,
    address: AddressOption = None,
    in_process: InProcessOption = False,
    as_json: JsonOption = False,
) -> None:
    """Foretell what a study will take: time, device-hours, memory and storage.

    Measured where the study would run, on a few steps of its training and a handful of its candidates: about a minute.
    The report says afterwards how far off it was.
    """
    with sentences():
        from jobs.foretold import foresight_sheet, workers_sheet
        from jobs.plan import foresee
        from jobs.progress import Display
        from jobs.recipe_file import load_recipe
        from jobs.tables import sheet_table
        from orchestrator.foresight import write_foresight

        loaded, place = load_recipe(recipe, overrides or []), make_store(store)
        place.probe()
        foresight = foresee(loaded, Display(err if as_json else out), address, in_process)
        write_foresight(place, loaded.study, foresight)
        if as_json:
            print(json.dumps(foresight.row()))
        else:
            for sheet in (foresight_sheet(foresight), workers_sheet(foresight)):
                out.print(sheet_table(sheet))
