"""`archipelago`: what a person types. What is wrong with the input is said in one sentence, with exit code 2."""

from __future__ import annotations

import os
import sys

import typer

from jobs.cli.checks import doctor, plan
from jobs.cli.networks import export, report, retrain, trust
from jobs.cli.studies import resume, search, submit, sync, ui
from jobs.cli.tables import candidates, complexity, front, select, status

HELP = """Search neural architectures for dense prediction.

A study trains a supernet, searches every island of its space and keeps the Pareto front of each. It lies in a folder
of the store, and can be resumed after anything: `archipelago search demo` runs a small one in a few minutes.
"""
app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=HELP
)
for command in (
    search,
    resume,
    submit,
    status,
    front,
    candidates,
    sync,
    select,
    retrain,
    export,
    report,
    trust,
    complexity,
    doctor,
    plan,
    ui,
):
    app.command()(command)


def main() -> None:
    """The console script. What lies in the current folder can be imported, as by `python -m`: a space of your own."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    app()
