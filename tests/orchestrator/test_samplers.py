import statistics

import numpy as np
import pytest

from infra.local import InProcessPool
from orchestrator.config import RecipeError
from orchestrator.evaluation.toy import ToyEvaluator
from orchestrator.objectives import Scores
from orchestrator.randomness import generator
from orchestrator.samplers.base import Sampler
from orchestrator.samplers.nsga2 import Nsga2Sampler
from orchestrator.samplers.registry import SAMPLERS, make_sampler
from orchestrator.samplers.variation import crossed, mutated, nudged
from search_spaces.toy import CARDINALITIES, ToySpace
from tests.contracts.sampler_contract import MakeSampler, SamplerContract
from tests.doubles import run_toy, toy_recipe

KINDS = [
    ("nsga2", "generational"),
    ("nsga2", "steady-state"),
    *((name, "generational") for name in SAMPLERS if name != "nsga2"),
]


def toy_sampler(name: str, mode: str, seed: int) -> Sampler:
    return make_sampler(toy_recipe(name, mode=mode).sampler, ToySpace(), "reef", 2, seed)


@pytest.mark.parametrize(("name", "mode"), KINDS)
class TestEverySampler(SamplerContract):
    @pytest.fixture
    def make(self, name: str, mode: str) -> MakeSampler:
        return lambda seed: toy_sampler(name, mode, seed)


@pytest.mark.parametrize("mode", ["generational", "steady-state"])
def test_nsga2_finds_more_than_random_search_with_the_same_budget(mode: str) -> None:
    def found(name: str, seed: int) -> float:
        recipe = toy_recipe(name, mode=mode if name == "nsga2" else "generational", budget=100, seed=seed)
        study = run_toy(recipe, InProcessPool(ToyEvaluator()))
        return statistics.mean(island.archive.hypervolume for island in study.islands)

    gains = [found("nsga2", seed) - found("random", seed) for seed in range(3)]
    assert statistics.mean(gains) > 0
    assert sum(gain > 0 for gain in gains) >= 2, gains


@pytest.mark.parametrize("name", ["nsga2", "optuna-nsga2", "optuna-nsga3"])
def test_a_generation_waits_for_all_of_the_one_before(name: str) -> None:
    sampler = toy_sampler(name, "generational", 0)
    assert [sampler.prerequisite(number) for number in (0, 9, 10, 19, 20)] == [0, 0, 10, 10, 20]


@pytest.mark.parametrize(("name", "mode"), [("nsga2", "steady-state"), ("optuna-tpe", "generational")])
def test_no_barrier_where_none_is_needed(name: str, mode: str) -> None:
    assert toy_sampler(name, mode, 0).prerequisite(999) == 0


def test_what_is_not_finite_is_not_ranked() -> None:
    with pytest.raises(AssertionError, match="it would rank first"):
        toy_sampler("nsga2", "generational", 0).tell(0, (0, 0, 0, 0, 0), Scores((np.nan, 1.0), 0.0))


@pytest.mark.parametrize("mode", ["generational", "steady-state"])
def test_parents_are_the_feasible_and_the_best(mode: str) -> None:
    """With neither crossover nor mutation an offspring is a survivor with one gene changed."""
    settings = toy_recipe("nsga2", mode=mode, population=2).sampler
    still = settings.model_copy(update={"crossover_probability": 0.0, "mutation_probability": 0.0})
    sampler = Nsga2Sampler(still, CARDINALITIES, lambda rng: (0,) * 5, np.random.default_rng(0))
    told = [
        ((1, 0, 0, 0, 0), Scores((0.0, 0.0), 0.5)),  # best of all, beyond a limit
        ((2, 0, 0, 0, 0), Scores((2.0, 2.0), 0.0)),  # dominated by the next two
        ((3, 0, 0, 0, 0), Scores((1.0, 0.5), 0.0)),
        ((4, 0, 0, 0, 0), Scores((0.5, 1.0), 0.0)),
    ]
    for number, (genotype, scores) in enumerate(told):
        sampler.tell(number, genotype, scores)
    survivors = [(3, 0, 0, 0, 0), (4, 0, 0, 0, 0)]
    for _ in range(50):
        child = sampler.ask(4)
        assert 1 in {sum(a != b for a, b in zip(child, parent, strict=True)) for parent in survivors}


@pytest.mark.parametrize(("size", "share"), [(1, 0.5), (8, 1 - 0.5**8)])
def test_a_larger_tournament_is_closer_to_the_front(size: int, share: float) -> None:
    settings = toy_recipe("nsga2", mode="steady-state", population=20).sampler
    still = {"crossover_probability": 0.0, "mutation_probability": 0.0, "tournament_size": size}
    space = (100, 100)  # the first gene tells who the parent was, unless it is the one that changed
    sampler = Nsga2Sampler(settings.model_copy(update=still), space, lambda rng: (0, 0), np.random.default_rng(0))
    for number in range(20):
        on_front = number < 10
        sampler.tell(number, (number, 50), Scores((float(number), -float(number) + (0 if on_front else 100)), 0.0))
    parents = [child[0] for child in (sampler.ask(20) for _ in range(2000)) if child[1] != 50]
    assert statistics.mean(parent < 10 for parent in parents) == pytest.approx(share, abs=0.05)
    assert len(set(parents)) >= 10, "ties are even: crowding has no say"


def test_crossover_takes_every_gene_from_a_parent() -> None:
    rng = np.random.default_rng(0)
    children = {crossed((0, 0, 0), (1, 1, 1), rng) for _ in range(200)}
    assert len(children) == 8


def test_mutation_sets_a_gene_to_another_value() -> None:
    rng = np.random.default_rng(0)
    assert mutated((0, 1, 2), (3, 3, 3), 0.0, rng) == (0, 1, 2)
    for _ in range(50):
        child = mutated((0, 1, 2), (3, 3, 3), 1.0, rng)
        assert all(a != b and 0 <= a < 3 for a, b in zip(child, (0, 1, 2), strict=True))


def test_a_nudge_changes_exactly_one_gene_that_can_change() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        child = nudged((0, 0, 0), (1, 3, 2), rng)
        assert child[0] == 0
        assert sum(gene != 0 for gene in child) == 1
    assert nudged((0, 0), (1, 1), rng) == (0, 0)


def test_random_numbers_are_keyed_by_purpose() -> None:
    draws = [generator(seed, *purpose).random() for seed in (0, 1) for purpose in (("a", "b"), ("b", "a"), ("ab",))]
    assert len(set(draws)) == 6
    assert generator(0, "a", "b").random() == draws[0]


def test_steady_state_is_for_nsga2_alone() -> None:
    with pytest.raises(RecipeError, match="sampler: mode steady-state is for nsga2 alone, got name random"):
        toy_recipe("random", mode="steady-state")
