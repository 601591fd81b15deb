"""What every sampler promises, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.objectives import Scores
from orchestrator.samplers.base import Sampler
from search_spaces.base import Genotype
from search_spaces.toy import CARDINALITIES, ToySpace

MakeSampler = Callable[[int], Sampler]
"""Makes a sampler of the island `reef` of the toy space, for miou and latency_ms, from a seed."""


def scores(genotype: Genotype) -> Scores:
    metrics = ToySpace().decode("reef", genotype).metrics()
    return Scores((-metrics["miou"], metrics["latency_ms"]), max(0.0, metrics["latency_ms"] / 8.0 - 1.0))


def drive(
    sampler: Sampler, count: int, window: int, fails: Callable[[int], bool] = lambda number: False
) -> list[Genotype]:
    """What it asks for, when it is told as the scheduler tells."""
    asked: list[Genotype] = []
    told = 0
    for number in range(count):
        due = max(number - window, sampler.prerequisite(number), told)
        for earlier in range(told, due):
            sampler.tell(earlier, asked[earlier], None if fails(earlier) else scores(asked[earlier]))
        told = due
        asked.append(sampler.ask(number))
    return asked


class SamplerContract:
    """Inherit, and give the fixture `make`."""

    @pytest.fixture
    def make(self) -> MakeSampler:
        raise NotImplementedError

    def test_proposals_are_genotypes_of_the_island(self, make: MakeSampler) -> None:
        for genotype in drive(make(0), 40, window=5):
            assert isinstance(genotype, tuple)
            assert all(type(gene) is int for gene in genotype)
            assert all(0 <= gene < cardinality for gene, cardinality in zip(genotype, CARDINALITIES, strict=True))

    @pytest.mark.parametrize("window", [1, 7, 64])
    def test_the_same_seed_asks_for_the_same(self, make: MakeSampler, window: int) -> None:
        assert drive(make(3), 40, window) == drive(make(3), 40, window)

    def test_another_seed_asks_for_something_else(self, make: MakeSampler) -> None:
        assert drive(make(3), 40, window=5) != drive(make(4), 40, window=5)

    def test_what_must_be_told_first_was_asked_before(self, make: MakeSampler) -> None:
        sampler = make(0)
        needs = [sampler.prerequisite(number) for number in range(100)]
        assert all(0 <= need <= number for number, need in enumerate(needs))
        assert needs == sorted(needs)

    def test_failures_are_survived(self, make: MakeSampler) -> None:
        assert len(drive(make(0), 40, window=5, fails=lambda number: number % 3 == 0)) == 40

    def test_nothing_but_failures_is_survived(self, make: MakeSampler) -> None:
        assert len(drive(make(0), 40, window=5, fails=lambda number: True)) == 40

    def test_a_refused_proposal_is_followed_by_another(self, make: MakeSampler) -> None:
        sampler = make(0)
        assert len({sampler.ask(0) for _ in range(20)}) > 1

    def test_results_of_genotypes_from_elsewhere_are_taken(self, make: MakeSampler) -> None:
        sampler, elsewhere = make(0), (7, 2, 0, 1, 1)
        for number in range(30):
            for earlier in range(number - 1, number):
                if earlier >= 0:
                    sampler.tell(earlier, elsewhere, scores(elsewhere))
            sampler.ask(number)
