from itertools import product

import numpy as np
import pytest

from orchestrator.pareto import ranks
from search_spaces.base import InvalidGenotype, SearchSpace, architecture_id
from search_spaces.toy import CARDINALITIES, ISLANDS, ToyArchitecture, ToySpace

GENOTYPES = list(product(*map(range, CARDINALITIES)))


@pytest.fixture
def space() -> ToySpace:
    return ToySpace()


def test_it_is_a_search_space(space: ToySpace) -> None:
    assert isinstance(space, SearchSpace)
    assert space.islands == ISLANDS


@pytest.mark.parametrize("island", ISLANDS)
def test_every_genotype_decodes_and_its_architecture_comes_back(space: ToySpace, island: str) -> None:
    for genotype in GENOTYPES:
        architecture = space.decode(island, genotype)
        assert space.decode(*space.encode(architecture)) == architecture
        assert space.architecture_from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize("island", ISLANDS)
def test_there_are_a_thousand_genotypes_640_architectures_550_feasible(space: ToySpace, island: str) -> None:
    architectures = {space.decode(island, genotype) for genotype in GENOTYPES}
    assert len(GENOTYPES) == 1024
    assert len({architecture_id(architecture) for architecture in architectures}) == len(architectures) == 640
    assert sum(not space.violations(architecture) for architecture in architectures) == 550


def test_tokens_do_not_matter_without_attention(space: ToySpace) -> None:
    assert space.decode("reef", (3, 1, 0, 0, 0)) == space.decode("reef", (3, 1, 0, 0, 3))
    assert space.decode("reef", (3, 1, 0, 1, 0)) != space.decode("reef", (3, 1, 0, 1, 3))


@pytest.mark.parametrize("cost", ["macs", "params", "latency_ms"])
@pytest.mark.parametrize("island", ISLANDS)
def test_the_front_is_what_the_closed_form_says(space: ToySpace, island: str, cost: str) -> None:
    feasible = [
        architecture
        for architecture in dict.fromkeys(space.decode(island, genotype) for genotype in GENOTYPES)
        if not space.violations(architecture)
    ]
    F = [(-one.metrics()["miou"], one.metrics()[cost]) for one in feasible]
    found = {one for one, rank in zip(feasible, ranks(F), strict=True) if rank == 0}
    assert found == set(space.front(island))


def test_samples_break_no_constraint(space: ToySpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert not space.violations(space.decode("atoll", space.sample("atoll", rng)))


def test_a_violation_says_how_far_and_what_to_do(space: ToySpace) -> None:
    (violation,) = space.violations(space.decode("shoal", (15, 3, 0, 0, 0)))
    assert (violation.constraint, violation.amount) == ("memory", 24.0)
    assert "narrower or shallower" in violation.words


@pytest.mark.parametrize(
    ("island", "genotype", "words"),
    [
        ("shoal", (0, 0, 0, 0), "has 5 genes, got 4"),
        ("shoal", (16, 0, 0, 0, 0), r"gene 0 must be an integer in 0\.\.15, got 16"),
        ("shoal", (0, -1, 0, 0, 0), r"gene 1 must be an integer in 0\.\.3, got -1"),
        ("deep", (0, 0, 0, 0, 0), "island must be one of"),
    ],
)
def test_what_does_not_decode_is_said(space: ToySpace, island: str, genotype: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidGenotype, match=words):
        space.decode(island, genotype)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"colour": 1}, "has the fields"), ({"depth": "deep"}, "must hold integers"), ({"depth": 99}, "gene 0")],
)
def test_what_is_no_description_is_said(space: ToySpace, changes: dict[str, object], words: str) -> None:
    description = ToyArchitecture("reef", 1, 1, 0, None).to_json()
    with pytest.raises(InvalidGenotype, match=words):
        space.architecture_from_json({**description, **changes})  # type: ignore[dict-item]
