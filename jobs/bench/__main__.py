"""`python -m jobs.bench …`: what this project claims, measured. Numbers in the README come from here."""

from __future__ import annotations

import typer

from jobs.bench.chaos import chaos
from jobs.bench.cluster import cluster
from jobs.bench.evaluation import evaluation
from jobs.bench.export import export
from jobs.bench.sampler import sampler
from jobs.bench.store import store
from jobs.bench.supernet import supernet

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
app.command()(supernet)
app.command()(evaluation)
app.command()(cluster)
app.command()(sampler)
app.command()(export)
app.command()(chaos)
app.command()(store)


@app.callback()
def _benches() -> None:
    """What this project claims, measured."""


if __name__ == "__main__":
    app()
