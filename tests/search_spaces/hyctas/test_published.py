"""The authors' networks and random ones: every count that their code gives, to the integer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search_spaces.hyctas.architecture import HyctasArchitecture
from search_spaces.hyctas.published import NetworkFileError, read_networks
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace

FIGURES = json.loads((Path(__file__).parents[2] / "data" / "hyctas_networks.json").read_text())["networks"]
NAMES = [figures["name"] for figures in FIGURES]


def description(figures: dict[str, Any]) -> dict[str, Any]:
    """The authors' encoding of a network."""
    branches = figures["branches"]
    downs = [[int(layer in b["downs"]) for layer in range(len(b["ops"]))] for b in branches]
    return {
        "ops": [list(map(int, b["ops"])) for b in branches],
        "downs": downs,
        "paths": [[sum(bits[:layer]) for layer in range(len(bits))] for bits in downs],
        "widths": [[width / 12 for width in b["twelfths"]] for b in branches],
        "lasts": [sum(bits) for bits in downs],
    }


def network(figures: dict[str, Any]) -> dict[str, Any]:
    """A network of the authors' file format."""
    settings = {
        "Fch": figures["filters"],
        "stem_head_width": [width / 12 for width in figures["stem_head"]],
        "model_type": figures["model_type"],
        "num_classes": 19,
        "input": [1, 3, 512, 1024],
    }
    return {"name": figures["name"], "arch": description(figures), "settings": settings}


def published_space(figures: dict[str, Any]) -> HyctasSpace:
    stem, head = figures["stem_head"]
    settings = HyctasSettings(
        family="published",
        filters=figures["filters"],
        stem_width=stem,
        head_width=head,
        model_type=figures["model_type"],
    )
    return HyctasSpace(settings, classes=19)


@pytest.mark.parametrize("figures", FIGURES, ids=NAMES)
def test_params_and_macs_are_the_authors(figures: dict[str, Any]) -> None:
    (found,) = read_networks({"networks": [network(figures)]}, "networks.json")
    assert found.name == figures["name"]
    assert found.params_total == figures["params_total"]
    assert found.params_backbone == figures["params_backbone"]
    assert found.macs == figures["macs"]


@pytest.mark.parametrize("figures", FIGURES, ids=NAMES)
def test_cells_are_shared_as_the_authors_share_them(figures: dict[str, Any]) -> None:
    program = published_space(figures).lower(HyctasArchitecture.from_json(description(figures)))
    assert sum(step.operation.name == "cell" for step in program.steps) == figures["cells"]


@pytest.mark.parametrize("figures", FIGURES, ids=NAMES)
def test_params_of_the_auxiliary_heads_are_the_authors(figures: dict[str, Any]) -> None:
    space = published_space(figures)
    program = space.lower(HyctasArchitecture.from_json(description(figures)), training=True)
    assert space.counter.count(program, (1, 3, 64, 64)).params == figures["params_with_auxiliary"]


def test_all_networks_of_a_file_are_counted_in_order() -> None:
    document = {"description": "two", "networks": [network(FIGURES[3]), network(FIGURES[0])]}
    assert [one.name for one in read_networks(document, "x")] == [NAMES[3], NAMES[0]]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("arch", "ops", 0, 0), 5, r"networks.json: network \w+: branch 0: an op is 0 to 4, got 5"),
        (("arch", "ops", 0, 0), 3.0, r"branch 0: an op is 0 to 4, got 3\.0"),
        (("arch", "downs", 0, 0), 2, r"branch 0: downs are 0 or 1, got 2"),
        (("arch", "widths", 0, 0), 0.7, r"branch 0: a width is 4, 6, 8, 10 or 12 twelfths, got 0\.7"),
        (("arch", "paths", 0, 0), 1, r"branch 0: paths .* do not follow from downs"),
        (("arch", "lasts", 0), 0, r"branch 0: lasts says 0, its downs lead to 2"),
        (("arch", "ops", 0), "3221", r"ops\[0\] must be a list, got '3221'"),
        (("arch", "ops"), [], r"must list the same branches"),
        (("settings", "Fch"), 0, r"networks.json: networks\.0\.settings\.Fch must be .*, got 0"),
        (("settings", "stem_head_width"), [1, 0.7], r"stem_head_width is 4, 6, 8, 10 or 12 twelfths, got 0\.7"),
        (("settings", "norm"), "IN", r"settings\.norm must be .*BN.*, got 'IN'"),
        (("settings",), None, r"networks\.0\.settings"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(path: tuple[Any, ...], value: Any, words: str) -> None:
    changed = network(FIGURES[0])
    *way, last = path
    at: Any = changed
    for key in way:
        at = at[key]
    at[last] = value
    with pytest.raises(NetworkFileError, match=words):
        read_networks({"networks": [changed]}, "networks.json")


def test_a_skip_that_goes_down_is_refused() -> None:
    changed = network(FIGURES[0])
    changed["arch"]["ops"][0][1] = 0
    with pytest.raises(NetworkFileError, match=r"branch 0 goes down by a skip at layer 1"):
        read_networks({"networks": [changed]}, "networks.json")
