"""What every search space promises, on each of them: genotypes for all, programs for those with networks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.evaluation.executor import Executor
from orchestrator.evaluation.modules import StepModules
from search_spaces.alone import AloneSpace
from search_spaces.apart import ApartSpace
from search_spaces.base import IMAGE, Genotype, InvalidGenotype, NetworkSpace, SearchSpace, architecture_id
from search_spaces.complexity import ComplexityCounter
from search_spaces.hrnas.snapshots import SnapshotSpace
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.own import OwnSettings
from search_spaces.subnet import materialise
from search_spaces.supernet import Supernet, shared_name
from search_spaces.tabular import TabularSpace
from search_spaces.toy import ToySpace
from search_spaces.training.settings import ShrinkingSettings
from tests.networks import apart, awake, by_ends, scenes, small_hrnas, small_space, small_weights
from tests.tables import written_table

HYCTAS: dict[str, dict[str, Any]] = {
    "searching": {},
    "searching-published-depth": {"layers": 10, "filters": 8},
    "searching-type-1": {"model_type": 1, "stem_width": 8},
    "searching-type-2-two-branches": {"model_type": 2, "branches": (2,)},
    "searching-one-and-three": {"branches": (1, 3), "layers": 3, "filters": 1, "head_width": 4},
    "published": {"family": "published"},
    "published-type-1": {"family": "published", "model_type": 1, "branches": (3, 1), "head_width": 10},
    "published-type-2": {"family": "published", "model_type": 2, "layers": 3, "filters": 3, "stem_width": 6},
}
HRNAS: dict[str, dict[str, Any]] = {
    "hrnas": {},
    "hrnas-published": {"family": "published", "head_channels": 6, "transformer": {"form": "published"}},
    "hrnas-convolutions": {"kernels": (3,), "branches": (2, 1, 3), "transformer": {"tokens": 0}},
    "hrnas-any-number": {"parts": None, "branches": (3,), "transformer": {"positions_in": "both"}},
    "hrnas-learned-positions": {"transformer": {"positions": "learned"}},
    "hrnas-of-images": {"task": "classification"},
    "hrnas-of-images-with-a-head": {"task": "classification", "head_channels": 6, "branches": (3, 2)},
}
OWN = OwnSettings(of="docs.own_space:ChainSpace", options={"layers": 6, "channels": 6})
APART: dict[str, Callable[[], NetworkSpace[Any]]] = {
    "searching-apart": lambda: apart(small_space, (1, 2, 3), layers=3),
    "hrnas-apart": lambda: apart(small_hrnas, (1, 3)),
}


def snapshots() -> SnapshotSpace:
    shrinking = ShrinkingSettings(penalties=(0, 0.1), every_steps=10)
    return SnapshotSpace(small_hrnas(parts=None, branches=(3,)), shrinking, steps=10)


NETWORKS: dict[str, Callable[[], NetworkSpace[Any]]] = {
    "own": lambda: OWN.make(scenes().n_classes, (2, 3, 32, 64)),
    **{name: lambda settings=settings: small_space(**settings) for name, settings in HYCTAS.items()},  # type: ignore[misc]
    **{name: lambda settings=settings: small_hrnas(**settings) for name, settings in HRNAS.items()},  # type: ignore[misc]
    **APART,
    "hrnas-snapshots": snapshots,
}
SMALL = [name for name in NETWORKS if name != "searching-published-depth"]


def alone() -> AloneSpace:
    space = small_space()
    return AloneSpace(space, by_ends(space)[0, 2])


SPACES: dict[str, Callable[[], SearchSpace[Any]]] = {
    "toy": ToySpace,
    "table-complete": lambda: TabularSpace(written_table(share=1.0)),
    "table-sparse": lambda: TabularSpace(written_table(share=0.3)),
    **NETWORKS,
}


def shallow(name: str) -> NetworkSpace[Any]:
    """The space with as few cells as its kind allows, so that random networks reach all of it soon."""
    return small_space(**{**HYCTAS[name], "layers": 3}) if name in HYCTAS else NETWORKS[name]()


def whole(space: NetworkSpace[Any]) -> Any:
    """The space in which islands share their weights, or that networks are snapshots in."""
    return space.space if isinstance(space, ApartSpace | SnapshotSpace) else space


def is_hyctas(space: NetworkSpace[Any]) -> bool:
    return isinstance(whole(space), HyctasSpace)


def subjects(space: NetworkSpace[Any]) -> list[Any]:
    """Networks of all kinds that the space has."""
    if is_hyctas(space):
        return list(by_ends(space).values())
    nothing = [space.decode(island, (0,) * len(space.cardinalities(island))) for island in space.islands]
    return [*samples(space, 2 * len(space.islands)), *nothing, space.largest(np.random.default_rng(0))]


def random_genotypes(space: SearchSpace[Any], island: str, count: int) -> list[Genotype]:
    """Uniform over all genotypes, feasible or not."""
    rng, high = np.random.default_rng(0), space.cardinalities(island)
    return [tuple(map(int, rng.integers(0, high))) for _ in range(count)]


def samples(space: SearchSpace[Any], count: int, seed: int = 0) -> list[Any]:
    """Feasible architectures of all islands in turn."""
    rng = np.random.default_rng(seed)
    return [
        space.decode(island, space.sample(island, rng))
        for _ in range(count // len(space.islands))
        for island in space.islands
    ]


def full(space: NetworkSpace[Any]) -> list[Any]:
    """Of each island the network with the last value of every gene, where that is the largest."""
    if is_hyctas(space):
        return []
    return [space.decode(name, tuple(values - 1 for values in space.cardinalities(name))) for name in space.islands]


# ---- genotypes and architectures


@pytest.mark.parametrize("name", SPACES)
def test_it_is_a_search_space_with_islands(name: str) -> None:
    space = SPACES[name]()
    assert isinstance(space, SearchSpace)
    assert isinstance(space, NetworkSpace) == (name in NETWORKS)
    assert len(set(space.islands)) == len(space.islands) > 0
    for island in space.islands:
        assert all(values >= 1 for values in space.cardinalities(island))
    with pytest.raises(InvalidGenotype, match=r"island must be one of .*, got 'elsewhere'"):
        space.cardinalities("elsewhere")


@pytest.mark.parametrize("name", SPACES)
def test_decoding_is_total_and_encoding_is_canonical(name: str) -> None:
    space = SPACES[name]()
    named: dict[str, Any] = {}
    for island in space.islands:
        for genotype in random_genotypes(space, island, 1500):
            architecture = space.decode(island, genotype)
            home, canonical = space.encode(architecture)
            assert home == island
            assert space.decode(island, canonical) == architecture
            assert space.encode(space.decode(island, canonical)) == (island, canonical)
            assert named.setdefault(architecture_id(architecture), architecture) == architecture
    assert len(named) == len(set(named.values()))  # different ids, different architectures


@pytest.mark.parametrize("name", SPACES)
def test_samples_break_no_constraint_and_come_back_from_json(name: str) -> None:
    space = SPACES[name]()
    rng = np.random.default_rng(0)
    for island in space.islands:
        for _ in range(300):
            genotype = space.sample(island, rng)
            architecture = space.decode(island, genotype)
            assert not space.violations(architecture)
            assert all(type(gene) is int for gene in genotype)
            assert space.encode(architecture)[0] == island
            again = space.architecture_from_json(json.loads(json.dumps(architecture.to_json())))
            assert again == architecture
            assert hash(again) == hash(architecture)
            assert architecture_id(again) == architecture_id(architecture)


@pytest.mark.parametrize("name", SPACES)
def test_samples_follow_from_the_generator_and_differ(name: str) -> None:
    space = SPACES[name]()
    for island in space.islands:
        first, again = np.random.default_rng(5), np.random.default_rng(5)
        drawn = [space.sample(island, first) for _ in range(50)]
        assert drawn == [space.sample(island, again) for _ in range(50)]
        assert len(set(drawn)) > 25


@pytest.mark.parametrize("name", SPACES)
def test_violations_are_amounts_with_words(name: str) -> None:
    space = SPACES[name]()
    for island in space.islands:
        for genotype in random_genotypes(space, island, 200):
            for violation in space.violations(space.decode(island, genotype)):
                assert violation.amount > 0
                assert len(violation.words.split()) > 3


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("wrong", ["short", "long", "negative", "beyond", "real", "array"])
def test_what_does_not_decode_is_said(name: str, wrong: str) -> None:
    space = SPACES[name]()
    island = space.islands[-1]
    genes: list[Any] = list(space.sample(island, np.random.default_rng(0)))
    last, values = len(genes) - 1, space.cardinalities(island)[-1]
    match wrong:
        case "short":
            changed, words = genes[:-1], f"{last + 1} genes, got {last}"
        case "long":
            changed, words = [*genes, 0], f"{last + 1} genes, got {last + 2}"
        case "negative":
            changed, words = [*genes[:-1], -1], rf"gene {last} must be .*{values - 1}, got -1"
        case "beyond":
            changed, words = [*genes[:-1], values], rf"gene {last} must be .*{values - 1}, got {values}"
        case "real":
            changed, words = [*genes[:-1], 0.0], rf"gene {last} must be .*, got 0\.0"
        case _:  # a number that JSON cannot write
            changed, words = [*genes[:-1], np.int64(0)], rf"gene {last} must be .*, got np\.int64\(0\)"
    with pytest.raises(InvalidGenotype, match=words):
        space.decode(island, tuple(changed))


@pytest.mark.parametrize("name", SPACES)
def test_descriptions_with_missing_or_unknown_fields_are_refused(name: str) -> None:
    space = SPACES[name]()
    description = samples(space, len(space.islands))[0].to_json()
    field = next(iter(description))
    with pytest.raises(InvalidGenotype, match="the fields"):
        space.architecture_from_json({key: value for key, value in description.items() if key != field})
    with pytest.raises(InvalidGenotype, match="colour"):
        space.architecture_from_json({**description, "colour": 1})


# ---- networks


@pytest.mark.parametrize("name", NETWORKS)
def test_programs_begin_at_the_image_and_end_in_class_logits(name: str) -> None:
    space = NETWORKS[name]()
    for architecture in samples(space, 30):
        searched, trained = space.lower(architecture), space.lower(architecture, training=True)
        assert space.lower(architecture) == searched
        assert searched.steps[0].inputs == (IMAGE,)
        assert not searched.auxiliary
        assert len(trained.auxiliary) == (max(architecture.ends) if is_hyctas(space) else 0)
        assert trained.output == searched.output
        assert {step.id for step in searched.steps} <= {step.id for step in trained.steps}
        read = {source for step in trained.steps for source in step.inputs}
        made = {step.id for step in trained.steps}
        assert made - read == {trained.output, *trained.auxiliary}, "a step that nobody reads"


@pytest.mark.parametrize("size", [(64, 96), (75, 101)], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_macs_and_params_are_what_torch_counts(name: str, size: tuple[int, int]) -> None:
    space = NETWORKS[name]()
    weights, counter = small_weights(space), ComplexityCounter(space.build)
    architectures = subjects(space)
    hyctas = whole(space).settings if is_hyctas(space) else None
    if hyctas is not None:
        assert len(architectures) == sum({1: 3, 2: 3, 3: 1}[count] for count in hyctas.branches)
    for architecture in architectures:
        network = materialise(space, architecture, weights).eval()
        # Of the fused kernels torch does not count the one for CPUs: the plain one multiplies the same matrices.
        with FlopCounterMode(display=False) as flops, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            logits = network(torch.zeros(1, 3, *size))
        program = space.lower(architecture)
        cost = counter.count(program, (1, 3, *size))
        assert 2 * cost.macs == flops.get_total_flops()
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())
        assert counter.costs(program, (1, 3, *size))[program.output].shape == logits.shape
        stride = 8 if hyctas is not None and hyctas.model_type == 0 else 4
        pixels = () if "of-images" in name else tuple(-(-length // stride) for length in size)
        assert logits.shape == (1, whole(space).classes, *pixels)


@pytest.mark.parametrize("name", SMALL)
def test_macs_of_a_batch_are_as_many_times_those_of_an_image(name: str) -> None:
    space = NETWORKS[name]()
    program, counter = space.lower(samples(space, len(space.islands))[0]), ComplexityCounter(space.build)
    one, five = (counter.count(program, (batch, 3, 64, 64)) for batch in (1, 5))
    assert (five.macs, five.activation_elements) == (5 * one.macs, 5 * one.activation_elements)
    assert five.params == one.params


def recalibrated(network: nn.Module, batches: list[torch.Tensor]) -> nn.Module:
    """The network with statistics as the evaluation takes them, by torch's own cumulative average."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    network.train()
    with torch.inference_mode():
        for batch in batches:
            network(batch)
    return network.eval()


@pytest.mark.parametrize("name", [*SMALL, "alone"])
def test_the_materialised_subnet_gives_what_the_program_gives(name: str) -> None:
    data = scenes()
    batches = [data.normalise(data.train.images[first : first + 8]) for first in (0, 8)]
    images = data.normalise(data.validation.images[:3])
    space: Any = alone() if name == "alone" else NETWORKS[name]()
    weights = awake(Supernet(space, torch.Generator().manual_seed(0))).to_numpy()
    architectures = [space.architecture] if name == "alone" else subjects(space)
    executor = Executor(StepModules(space, weights), [space.lower(architecture) for architecture in architectures])
    executor.recalibrate(batches)
    logits: dict[int, torch.Tensor] = {}
    executor.run(images, logits.__setitem__)
    for index, architecture in enumerate(architectures):
        network = recalibrated(materialise(space, architecture, weights), list(map(channels_last, batches)))
        with torch.inference_mode():
            assert torch.equal(network(channels_last(images)), logits[index])
            torch.testing.assert_close(network(images), logits[index], atol=1e-5 * logits[index].abs().max(), rtol=0)


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """The executor's layout. Torch sums up statistics in another order in each one."""
    return images.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["own", "searching", "published-type-2", *HRNAS, *APART])
def test_every_parameter_gets_a_gradient_under_sampling(name: str) -> None:
    """Checked with open gates: what gates of attention that start at 0 let through has no gradient before a step."""
    space = shallow(name)
    supernet = awake(Supernet(space, torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(0)
    waiting = {
        name for name in map(shared_name, supernet.weights) if not name.endswith("key.bias")
    }  # softmax cancels it
    for architecture in samples(space, 900):
        program = space.lower(architecture, training=True)
        mine = {
            space.shared_names(step.operation)(parameter)
            for step in program.steps
            for parameter in names(space, step.operation)
        }
        if not waiting & mine:
            continue
        supernet.zero_grad(set_to_none=True)
        ((results,)) = supernet([program], torch.randn(2, 3, 96, 96, generator=generator))
        torch.autograd.backward(
            sum((result * torch.randn(result.shape, generator=generator)).sum() for result in results)
        )
        waiting -= {
            shared_name(key)
            for key, weight in supernet.weights.items()
            if weight.grad is not None and weight.grad.abs().sum() > 1e-6
        }
        if not waiting:
            return
    assert not waiting


def names(space: NetworkSpace[Any], operation: Any) -> list[str]:
    with torch.device("meta"):
        return [name for name, _ in space.build(operation).named_parameters()]


@pytest.mark.parametrize("name", SMALL)
def test_shared_tensors_are_as_large_as_the_largest_that_takes_a_part_of_them(name: str) -> None:
    """No operation of a random network has two parameters of one name, or one that does not fit; none is too large."""
    space = shallow(name)
    supernet = Supernet(space, torch.Generator().manual_seed(0))
    reached: dict[str, tuple[int, ...]] = {}
    architectures = [*samples(space, 2400 if is_hyctas(space) or name == "own" else 6), *full(space)]
    architectures += [space.largest(np.random.default_rng(seed)) for seed in range(20)]
    if isinstance(space, SnapshotSpace):
        places = [(penalty, step) for penalty in space.shrinking.penalties for step in space.steps]
        architectures = [replace(full(space)[0], penalty=penalty, step=step) for penalty, step in places]
    for operation in dict.fromkeys(
        step.operation for one in architectures for step in space.lower(one, training=True).steps
    ):
        with torch.device("meta"):
            parameters = dict(space.build(operation).named_parameters())
        shared = [space.shared_names(operation)(parameter) for parameter in parameters]
        assert len(set(shared)) == len(shared), operation
        parts = supernet.parameters_of(operation)
        assert {key: part.shape for key, part in parts.items()} == {key: p.shape for key, p in parameters.items()}
        for key, parameter in zip(shared, parameters.values(), strict=True):
            reached[key] = tuple(map(max, zip(reached.get(key, parameter.shape), parameter.shape, strict=True)))
    sizes = {shared_name(key): tuple(weight.shape) for key, weight in supernet.weights.items()}
    assert reached.keys() == sizes.keys()
    unreached = {key: (reached[key], sizes[key]) for key in sizes if reached[key] != sizes[key]}
    assert not unreached


@pytest.mark.parametrize("name", [name for name in SMALL if name in HYCTAS])
def test_the_largest_breaks_no_constraint_and_has_full_width(name: str) -> None:
    space = small_space(**HYCTAS[name])
    for seed in range(20):
        largest = space.largest(np.random.default_rng(seed))
        assert not space.violations(largest)
        assert len(largest.branches) == max(space.settings.branches)
        assert {width for branch in largest.branches for width in branch.widths} == {12}


def test_weights_of_another_space_are_refused() -> None:
    supernet = Supernet(small_space(), torch.Generator().manual_seed(0))
    other = Supernet(small_space(filters=3), torch.Generator().manual_seed(0)).to_numpy()
    with pytest.raises(
        ValueError,
        match=re.escape("weights are of another space: auxiliary/16/attention.attention.key.bias is (6,)") + ".*",
    ):
        supernet.load_numpy(other)
    supernet.load_numpy(small_weights(small_space()))


def test_programs_that_are_trained_together_give_what_each_gives() -> None:
    space = small_space()
    supernet = awake(Supernet(space, torch.Generator().manual_seed(0)))
    programs = [space.lower(architecture, training=True) for architecture in by_ends(space).values()]
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    together = supernet(programs, images)
    for program, results in zip(programs, together, strict=True):
        (alone_,) = supernet([program], images)
        assert len(results) == 1 + len(program.auxiliary)
        assert all(torch.equal(one, other) for one, other in zip(results, alone_, strict=True))
