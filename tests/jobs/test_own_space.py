"""A study of a search space that somebody else wrote."""

from __future__ import annotations

from tests.jobs.conftest import TINY, CommandLine


def test_a_study_of_it_runs_to_a_front(archipelago: CommandLine) -> None:
    recipe = archipelago.recipe(
        TINY,
        space={"name": "own", "of": "docs.own_space:ChainSpace", "options": {"layers": 4, "channels": 4}},
        sampler={"population_size": 2},
    )
    result = archipelago("search", recipe, "--in-process")
    assert result.exit_code == 0, result.output
    rows = archipelago.rows("candidates", "tiny")
    assert {row["island"] for row in rows} == {"short", "long"}
    assert all(row["status"] == "measured" for row in rows)
    assert archipelago("report", "tiny", "--out", str(archipelago.store / "page.html")).exit_code == 0
