"""Layout, genes and counts of the HR-NAS space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from search_spaces.base import InvalidGenotype
from search_spaces.hrnas.architecture import HrnasArchitecture
from search_spaces.hrnas.layout import layout
from search_spaces.hrnas.settings import HrnasSettings, TransformerSettings
from search_spaces.hrnas.space import HrnasSpace, choices
from tests.networks import small_hrnas

CITYSCAPES = (1, 3, 512, 1024)


def authors(tokens: int) -> HrnasSpace:
    """The authors' supernet for Cityscapes."""
    transformer = TransformerSettings(form="published", tokens=tokens)
    return HrnasSpace(HrnasSettings(family="published", head_channels=90, transformer=transformer), classes=19)


@pytest.mark.parametrize(("tokens", "params", "macs"), [(0, 10_200_091, 61.837e9), (64, 12_931_695, 62.044e9)])
def test_authors_supernet_has_the_authors_counts(tokens: int, params: int, macs: float) -> None:
    """Their modules have a second BatchNorm for each hidden channel, which nothing reads unless it distils."""
    space = authors(tokens)
    places = space.layout("branches-4").places
    units = sum(len(space.settings.kernels) * place.channels for place in places)
    assert (len(places), units) == (61, 44_928)
    assert sum(place.tokens for place in places) == 44 * tokens
    cost = space.counter.count(space.lower(space.largest(np.random.default_rng(0))), CITYSCAPES)
    assert cost.params + 2 * units == params
    assert round(cost.macs, -6) == macs


def test_papers_supernet_has_a_transformer_in_every_block() -> None:
    places = layout(HrnasSettings(), 4).places
    kinds = Counter(place.name.split("-")[0] for place in places)
    assert kinds == {"module": 1 + 4 + 7 + 11 + 11, "fusion": 2 + 5 + 8 + 10}
    assert {place.tokens for place in places} == {64}
    assert all(place.channels == 4 * place.inputs for place in places)


def test_neighbours_are_fused_and_a_new_branch_comes_from_the_lowest() -> None:
    fusions = [place.name.split("/")[1] for place in layout(HrnasSettings(), 4).places if place.name[:8] == "fusion-3"]
    assert fusions == ["0-0", "1-0", "0-1", "1-1", "2-1", "1-2", "2-2", "2-3"]


def test_one_branch_is_a_path_from_stride_4_down() -> None:
    plan = layout(HrnasSettings(), 1)
    assert [place.branch for place in plan.places if place.name.startswith("module")] == [0, 1, 1, 2, 2, 2, *[3] * 8]
    assert list(plan.features) == [3]
    assert sum(place.stride == 2 for place in plan.places) == 3


def test_islands_share_the_blocks_that_they_have_in_common() -> None:
    """But for heads with a block, which reads what the island keeps."""
    places = {count: {p.name: p for p in layout(HrnasSettings(), count).places} for count in (1, 2, 3, 4)}
    for fewer in (1, 2, 3):
        assert places[fewer].items() <= places[fewer + 1].items()


@pytest.mark.parametrize(
    ("most", "parts", "numbers"),
    [(96, 4, (0, 24, 48, 72, 96)), (3, 4, (0, 1, 2, 3)), (5, 2, (0, 3, 5)), (3, None, (0, 1, 2, 3)), (7, 1, (0, 7))],
)
def test_choices_are_parts_of_the_most(most: int, parts: int | None, numbers: tuple[int, ...]) -> None:
    assert choices(most, parts) == numbers


def test_the_largest_has_every_unit_and_the_smallest_none() -> None:
    space = small_hrnas()
    largest = space.largest(np.random.default_rng(0))
    assert largest.branches == 3
    assert str(largest) == "196+196+196, 70 tokens"
    nothing = space.decode("branches-1", (0,) * len(space.cardinalities("branches-1")))
    assert str(nothing) == "0+0+0, 0 tokens, 8 empty"
    cost = space.counter.count(space.lower(nothing), (1, 3, 64, 64))
    assert cost.macs < 0.1 * space.counter.count(space.lower(largest), (1, 3, 64, 64)).macs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": [9] * 8}, "block module-0/0/0 has 0, 1, 3, 4, 5 channels or tokens, got 9"),
        ({"tokens": [0] * 7}, "channels and tokens must list the same blocks, got 8, 7"),
        ({"tokens": "none"}, "tokens must be a list, got 'none'"),
        ({"tokens": [True] * 8}, "tokens must be whole numbers, got"),
        ({"channels": [[0, 0]] * 8}, "block module-0/0/0 has no Units"),
        ({"channels": [0] * 8}, "channels.0 must be whole numbers, got 0"),
        ({"branches": 2}, "island must be one of branches-1, branches-3, got 'branches-2'"),
        ({"branches": 3}, "branches-3 has 14 blocks, got 8"),
    ],
)
def test_descriptions_that_the_space_does_not_hold(change: dict[str, object], words: str) -> None:
    space = small_hrnas()
    nothing = space.decode("branches-1", (0,) * len(space.cardinalities("branches-1")))
    with pytest.raises(InvalidGenotype, match=words):
        space.architecture_from_json({**nothing.to_json(), **change})


def test_memory_is_limited() -> None:
    space = small_hrnas()
    largest = space.largest(np.random.default_rng(0))
    need = HrnasSpace(space.settings, 5, (4, 3, 64, 64)).training_memory_bytes(largest)
    settings = space.settings.model_copy(update={"memory_limit_bytes": need // 2})
    limited = HrnasSpace(settings, 5, (4, 3, 64, 64))
    (violation,) = limited.violations(largest)
    assert violation.constraint == "memory"
    assert violation.amount == pytest.approx(1, abs=1e-3)
    architecture = limited.decode("branches-3", limited.sample("branches-3", np.random.default_rng(0)))
    assert limited.training_memory_bytes(architecture) <= need // 2
    few = small_hrnas(kernels=(3,), parts=1, memory_limit_bytes=1, transformer={"tokens": 0})
    with pytest.raises(ValueError, match=r"space\.memory_limit_bytes: none of 1000 random architectures of branches-1"):
        few.sample("branches-1", np.random.default_rng(0))


def test_architectures_that_begin_alike_have_the_same_first_steps() -> None:
    space = small_hrnas()
    largest = space.largest(np.random.default_rng(0))
    last = HrnasArchitecture(3, (*largest.blocks[:-1], type(largest.blocks[0])((0, 0, 0), 0)))
    one, other = (space.lower(architecture).steps for architecture in (largest, last))
    assert one[:-2] == other[:-2]
    assert one[-2:] != other[-2:]
