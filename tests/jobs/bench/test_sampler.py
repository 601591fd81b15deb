from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.bench.contestants import Problem, Run, completions
from jobs.bench.surrogate import GridSpace, Surrogate
from orchestrator.config import SamplerSettings
from orchestrator.objectives import OBJECTIVES, Objectives
from search_spaces.tabular import TabularSpace
from tests.jobs.bench.test_benches import bench
from tests.tables import rows, table_settings, written_table

TWO = Objectives((OBJECTIVES["accuracy"], OBJECTIVES["macs"]))


def written_recipe(folder: Path, share: float) -> str:
    """The recipe of a small table with this share of its rows."""
    table, recipe = folder / f"{share}.csv", folder / f"{share}.yaml"
    table.write_text("\n".join(rows(share)))
    document = {
        "study": f"rows-{share}",
        "space": table_settings(table).model_dump(mode="json"),
        "objectives": [{"name": "accuracy"}, {"name": "macs", "reference": 2e9}],
        "sampler": {"population_size": 20},
    }
    recipe.write_text(yaml.safe_dump(document))
    return str(recipe)


@pytest.mark.slow
def test_every_contestant_is_measured_on_tables_with_and_without_gaps(tmp_path: Path) -> None:
    tables = [part for share in (1.0, 0.5) for part in ("--table", written_recipe(tmp_path, share))]
    figures = bench("sampler", *tables, "--seeds", "1", "--workers", "1", "--workers", "4")
    complete, sparse = figures["tables"]  # type: ignore[misc]
    assert (complete["share_of"], sparse["share_of"]) == ("true", "best known")
    assert complete["surrogate"] is None
    assert all(0.5 < of["r2"] <= 1 for of in sparse["surrogate"].values())
    for table in (complete, sparse):
        assert len(table["rows"]) == 5 * 2 + 1
        for row in table["rows"]:
            assert row["mean"] == sorted(row["mean"]), "hypervolume grows"
            assert 0 < row["mean"][0] <= row["mean"][-1] <= 1 + 1e-12
    ours = {row["sampler"]: row["mean"][-1] for row in complete["rows"] if row["workers"] == 4}
    assert ours["nsga2 generational"] == pytest.approx(1), "800 evaluations are enough for 240 rows"


def test_a_table_is_what_the_bench_needs() -> None:
    with pytest.raises(AssertionError, match="give one with space tabular"):
        bench("sampler", "--table", "demo")


def test_virtual_workers_are_busy_and_told_in_order_of_completion() -> None:
    problem = Problem(TabularSpace(written_table(share=1.0)), TWO, lambda genotype: {}, SamplerSettings())
    numbers, under_way, most = iter(range(100)), set[int](), 0

    def ask() -> int | None:
        nonlocal most
        number = next(numbers, None)
        if number is not None:
            under_way.add(number)
            most = max(most, len(under_way))
        return number

    done = list(completions(Run(problem, 8, 0, 100), ask, under_way.remove))
    assert sorted(done) == list(range(100))
    assert done != sorted(done)
    assert most == 8
    assert list(completions(Run(problem, 1, 0, 5), iter([0, 1, 2, None, None]).__next__, lambda number: None)) == [
        0,
        1,
        2,
    ]


def test_a_surrogate_knows_its_table_and_stays_within_it() -> None:
    table = written_table(share=0.5)
    surrogate, space = Surrogate(table, TWO.each), GridSpace(table)
    for name in TWO.names:
        known = np.array([row[name] for row in table.rows.values()])
        fitted = np.array([surrogate(genotype)[name] for genotype in table.rows])
        assert np.corrcoef(known, fitted)[0, 1] > 0.95
        rng = np.random.default_rng(0)
        drawn = [surrogate(space.sample("table", rng))[name] for _ in range(100)]
        assert known.min() <= min(drawn) <= max(drawn) <= known.max()
