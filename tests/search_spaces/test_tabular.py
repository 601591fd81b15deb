from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from jobs.composition import make_space
from jobs.recipe_file import load_recipe
from orchestrator.pareto import ranks
from search_spaces.base import InvalidGenotype
from search_spaces.data.settings import DataError
from search_spaces.tabular import ISLAND, TabularSpace, read_table
from tests.tables import GENES, rows, table_settings, written_table

HEADER = "a,b,top1,mflops\n"
SMALL = {"genes": ["a", "b"]}


def test_genes_are_texts_and_numbers_are_in_order_of_size() -> None:
    table = written_table(share=1.0)
    assert dict(zip(table.genes, table.values, strict=True)) == GENES
    assert table.complete
    assert len(table.rows) == 240


def test_metrics_are_those_of_the_row() -> None:
    space = TabularSpace(written_table(share=1.0))
    architecture = space.decode(ISLAND, (1, 0, 2, 1))
    assert str(architecture) == "kernel 3, kind conv, depth 8, width 16"
    assert architecture.metrics() == pytest.approx({"accuracy": 0.9 * 384 / 484, "macs": 38.4e6}, rel=1e-5)


def test_what_the_table_lacks_stands_for_the_nearest_row() -> None:
    space = TabularSpace(written_table(share=0.3))
    assert not space.table.complete
    rng, distances = np.random.default_rng(0), set()
    for _ in range(300):
        genotype = tuple(map(int, rng.integers(0, space.cardinalities(ISLAND))))
        _, found = space.encode(space.decode(ISLAND, genotype))
        away = [sum(a != b for a, b in zip(genotype, row, strict=True)) for row in space.table.rows]
        assert sum(a != b for a, b in zip(genotype, found, strict=True)) == min(away)
        distances.add(min(away))
    assert {0, 1} <= distances


def test_a_description_of_no_row_is_refused() -> None:
    space = TabularSpace(written_table(share=0.3))
    description = dict(zip(GENES, ("1", "conv", "2", "8"), strict=True))
    with pytest.raises(InvalidGenotype, match="kernel must be one of 1, 3, 5, 11, got '7'"):
        space.architecture_from_json({**description, "kernel": "7"})
    lacking = next(one for one in product(*map(range, (4, 3, 4, 5))) if one not in space.table.rows)
    texts = (values[gene] for values, gene in zip(GENES.values(), lacking, strict=True))
    with pytest.raises(InvalidGenotype, match="has no row with"):
        space.architecture_from_json(dict(zip(GENES, texts, strict=True)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"table\.csv must have a line of column names and at least one row, got 0 lines"),
        (HEADER, "at least one row, got 1 lines"),
        (HEADER + "\n", "at least one row, all 1 lines after the first are empty"),
        ("a,c,top1,mflops\n1,2,3,4\n", r"space\.genes\.1 is b, but .* no such column: its columns are a, c, top1, mf"),
        ("a,b,b,top1,mflops\n1,2,2,3,4\n", r"space\.genes\.1 is b, but .* two columns of that name"),
        ("a,b,mflops\n1,2,3\n", r"space\.metrics\.accuracy\.column is top1, but .* no such column"),
        (HEADER + "1,2,3\n", "line 2: must have 4 cells as the first line, got 3"),
        (HEADER + "1,2,3,4\n1, ,3,4\n", "line 3: gene b is empty"),
        (HEADER + "1,2,3,4\n\n1,3,3,4\n1,2,5,6\n", "line 5: has the genes of line 2: remove one of them"),
        (HEADER + "1,2,good,4\n", "line 2: top1 must be a finite number, got 'good'"),
        (HEADER + "1,2,nan,4\n", "line 2: top1 must be a finite number, got 'nan'"),
        (HEADER + "1,2,3,-4\n", r"line 2: macs must be >= 0, got mflops -4 times space\.metrics\.macs\.scale 1e\+06"),
        (HEADER + "1,2,300,4\n", r"line 2: accuracy must be in 0\.\.1, got top1 300 times .*scale 0\.01"),
        (HEADER + '1,"2,3,4\n', "cannot be read as CSV: unexpected end of data"),
    ],
)
def test_a_broken_table_is_said_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_table(table_settings(path, **SMALL))
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv is missing: mend space\.path"):
        read_table(table_settings(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match=r"cannot be read as CSV: .*directory"):
        read_table(table_settings(tmp_path))
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(DataError, match=r"cannot be read as CSV: .*utf-8"):
        read_table(table_settings(tmp_path / "table.csv"))
    with pytest.raises(DataError, match=r"space\.path .* needs the environment variable NOT_SET"):
        read_table(table_settings(Path("${NOT_SET}/table.csv")))


def test_a_spreadsheets_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows()).encode() + b"\r\n")
    assert read_table(table_settings(tmp_path / "table.csv")).rows == written_table(share=1.0).rows


@pytest.mark.parametrize(
    ("recipe", "folder", "count", "front"),
    [("nasbench201", "nasbench201", 15_625, 13), ("nasbench-mr", "nasbench_mr", 2_507, 27)],
)
def test_the_benchmarks_that_recipes_name(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, folder: str, count: int, front: int
) -> None:
    monkeypatch.setenv("ARCHIPELAGO_DATA", str(shared_data))
    if not (shared_data / folder).is_dir():
        pytest.skip(f"no {folder} at {shared_data}")
    space = make_space(load_recipe(recipe))
    assert isinstance(space, TabularSpace)
    assert len(space.table.rows) == count
    F = np.unique([(-row["accuracy"], row["macs"]) for row in space.table.rows.values()], axis=0)
    assert (ranks(F) == 0).sum() == front
