"""The authors' lightweight transformers: every count that their code gives, to the integer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces.hrnas.published import NetworkFileError, lists_transformers, read_transformers

FIGURES = json.loads((Path(__file__).parents[2] / "data" / "hrnas_transformers.json").read_text())


def formula(n: int, s: int, c: int, c_out: int) -> tuple[int, int]:
    """Parameters and multiply-adds in closed form."""
    d = s * s
    params = n * (c + 2) + 2 * n + 2 * (6 * d * d + 4 * d) + n * d + n * c_out + 2 * c_out
    macs = d * n * (c + 2) + 2 * (4 * n * d * d + 2 * n * n * d + 2 * n * d * d) + d * n * c_out
    return params, macs


def test_authors_transformers_have_the_authors_counts() -> None:
    found = read_transformers(FIGURES, "figures.json")
    assert [(one.params, one.macs) for one in found] == [(one["params"], one["macs"]) for one in FIGURES["transformer"]]
    assert [one.c_out for one in found] == [one["c_out"] for one in FIGURES["transformer"]]


@pytest.mark.parametrize("n", [1, 3, 17, 200])
@pytest.mark.parametrize(("s", "c", "c_out", "stride"), [(2, 1, 1, 1), (5, 18, 36, 2), (16, 3, 7, 1), (32, 9, 2, 2)])
def test_counts_follow_the_closed_form(n: int, s: int, c: int, c_out: int, stride: int) -> None:
    one = {"n": n, "s": s, "c": c, "h": 7, "w": 30, "c_out": c_out, "downsampling": stride == 2}
    (found,) = read_transformers({"transformer": [one]}, "f")
    assert (found.params, found.macs) == formula(n, s, c, c_out)


def test_output_is_like_the_input_unless_the_file_says_otherwise() -> None:
    (found,) = read_transformers({"transformer": [{"n": 8, "s": 8, "c": 18, "h": 128, "w": 256}]}, "f")
    assert (found.c_out, found.downsampling, found.params, found.macs) == (18, False, 50532, 429056)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, r"f\.json: transformer\.0\.n must be >= 1, got 0"),
        ({"s": 1}, r"f\.json: transformer\.0\.s must be >= 2, got 1"),
        ({"c": "many"}, r"f\.json: transformer\.0\.c must be an integer, got 'many'"),
        ({"downsampling": "maybe"}, r"f\.json: transformer\.0\.downsampling must be true or false, got 'maybe'"),
    ],
)
def test_mistakes_are_said(change: dict[str, Any], words: str) -> None:
    one = {**FIGURES["transformer"][0], **change}
    with pytest.raises(NetworkFileError, match=words):
        read_transformers({"transformer": [one]}, "f.json")


def test_format_is_known_by_its_key() -> None:
    assert lists_transformers(FIGURES)
    assert not lists_transformers({"networks": []})
    assert not lists_transformers([FIGURES])
