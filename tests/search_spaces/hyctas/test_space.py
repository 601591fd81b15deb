"""Constraints, encoding and lowering of the HyCTAS space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from search_spaces.base import InvalidGenotype, Program
from search_spaces.hyctas.architecture import Branch, HyctasArchitecture
from search_spaces.hyctas.encoding import cardinalities
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from tests.networks import small_space

MIB = 2**20


def branch(*downs: int, operators: str = "cccc", widths: tuple[int, ...] = (12, 12, 12)) -> Branch:
    """Operators by letter: s skip, c conv, l light, a attention."""
    words = {"s": "skip", "c": "conv", "l": "light", "a": "attention"}
    return Branch(downs, tuple(words[letter] for letter in operators), widths)


def found(space: HyctasSpace, *branches: Branch) -> list[tuple[str, float, str]]:
    return [(v.constraint, v.amount, v.words) for v in space.violations(HyctasArchitecture(branches))]


def operations(program: Program) -> Counter[str]:
    return Counter(step.operation.name for step in program.steps)


def test_a_network_needs_a_path() -> None:
    assert found(small_space()) == [("paths", 1, "there is no path")]


def test_descents_differ() -> None:
    space = small_space()
    assert found(space, branch(), branch(1), branch(0, 2)) == []
    assert found(space, branch(), branch(1, 1)) == [("descents", 1, "branch 1 goes down twice at layer 1")]
    twice = [("descents", 1, "branch 1 goes down where another does, at (1,)")]
    assert found(space, branch(1), branch(1, operators="aaaa")) == twice


def test_no_skip_goes_down() -> None:
    space = small_space()
    assert found(space, branch(1, operators="scss")) == []
    words = "branch 0 goes down by a skip at layer 0"
    assert found(space, branch(0, 2, operators="scsc")) == [("skips", 2, words)]


def test_training_fits_into_memory() -> None:
    architecture = HyctasArchitecture((branch(), branch(1)))
    settings = HyctasSettings(layers=4, filters=2)
    need = HyctasSpace(settings, 5, (4, 3, 64, 64)).training_memory_bytes(architecture)
    for share, violated in ((1.0, False), (0.5, True)):
        limited = settings.model_copy(update={"memory_limit_bytes": int(need * share)})
        violations = HyctasSpace(limited, 5, (4, 3, 64, 64)).violations(architecture)
        assert bool(violations) == violated
        for violation in violations:
            assert violation.constraint == "memory"
            assert violation.amount == pytest.approx(1, abs=1e-3)
            assert "training takes" in violation.words


def test_memory_grows_with_the_batch_and_holds_weights_gradients_and_momentum() -> None:
    architecture = HyctasArchitecture((branch(),))
    settings = HyctasSettings(layers=4, filters=2)
    one, two, three = (
        HyctasSpace(settings, 5, (batch, 3, 64, 64)).training_memory_bytes(architecture) for batch in (1, 2, 3)
    )
    space = HyctasSpace(settings, 5)
    params = space.counter.count(space.lower(architecture, training=True), (1, 3, 64, 64)).params
    assert two - one == three - two > 0
    assert one - (two - one) == 4 * 3 * params


def test_a_memory_limit_is_kept_by_samples() -> None:
    free = HyctasSpace(HyctasSettings(layers=4, filters=2), 5, (4, 3, 64, 64))
    rng = np.random.default_rng(0)
    needs = [free.training_memory_bytes(free.decode("branches-1", free.sample("branches-1", rng))) for _ in range(40)]
    limit = sorted(needs)[10]
    tight = HyctasSpace(HyctasSettings(layers=4, filters=2, memory_limit_bytes=limit), 5, (4, 3, 64, 64))
    for _ in range(10):
        genotype = tight.sample("branches-1", rng)
        assert tight.training_memory_bytes(tight.decode("branches-1", genotype)) <= limit


def test_a_memory_limit_that_nothing_fits_is_said() -> None:
    space = HyctasSpace(HyctasSettings(layers=3, filters=1, branches=(1,), memory_limit_bytes=1), 5, (1, 3, 32, 32))
    with pytest.raises(
        ValueError, match=r"space\.memory_limit_bytes: none of \d+ random architectures of branches-1 fits"
    ):
        space.sample("branches-1", np.random.default_rng(0))


def test_genes_are_ends_then_descents_operators_and_widths_of_each_branch() -> None:
    assert cardinalities(4, 1) == (3, 3, 3, 5, 5, 5, 5, 5, 5, 5)
    assert cardinalities(4, 3) == (1, *(3, 3, 5, 5, 5, 5, 5, 5, 5) * 3)
    space = small_space()
    architecture = space.decode("branches-2", (1, *(2, 0, 0, 1, 2, 4, 0, 1, 4), *(2, 1, 1, 1, 1, 1, 4, 4, 4)))
    first, second = architecture.branches
    assert first == Branch((), ("skip", "conv", "light", "attention"), (4, 6, 12))
    assert second == Branch((1, 2), ("conv",) * 4, (12, 12, 12))
    assert space.encode(architecture) == (
        "branches-2",
        (1, *(0, 0, 0, 1, 2, 4, 0, 1, 4), *(1, 2, 1, 1, 1, 1, 4, 4, 4)),
    )


def test_what_cannot_matter_is_removed() -> None:
    space = small_space()
    rest = (1, 2, 3, 4, 0, 0, 0)
    assert space.decode("branches-1", (0, 1, 2, *rest)) == space.decode("branches-1", (0, 0, 0, *rest))
    assert space.decode("branches-1", (1, 1, 2, *rest)) == space.decode("branches-1", (1, 1, 0, *rest))
    assert space.decode("branches-1", (2, 1, 2, *rest)) == space.decode("branches-1", (2, 2, 1, *rest))
    assert space.decode("branches-1", (2, 1, 2, *rest)) != space.decode("branches-1", (2, 0, 1, *rest))


def test_branches_come_in_any_order_in_a_description() -> None:
    architecture = HyctasArchitecture((branch(), branch(0, 2)))
    turned = {name: list(reversed(value)) for name, value in architecture.to_json().items()}  # type: ignore[arg-type]
    assert small_space().architecture_from_json(turned) == architecture


def test_a_description_of_what_the_space_does_not_hold_is_refused() -> None:
    description = HyctasArchitecture((branch(), branch(1))).to_json()
    with pytest.raises(InvalidGenotype, match="branch 0 has 4 cells, the space has 3"):
        small_space(layers=3).architecture_from_json(description)
    with pytest.raises(InvalidGenotype, match="island must be one of branches-1, branches-3, got 'branches-2'"):
        small_space(branches=(1, 3)).architecture_from_json(description)


def test_branches_are_one_chain_until_they_part() -> None:
    space = small_space()

    def cells(*branches: Branch) -> int:
        return operations(space.lower(HyctasArchitecture(branches)))["cell"]

    assert cells(branch(), branch(2)) == 2 + 2 + 2  # equal up to layer 1, different scales from layer 2 on
    assert cells(branch(2), branch(0, 2)) == 4 + 4
    assert cells(branch(operators="lccc"), branch(2, operators="accc")) == 8
    assert cells(branch(widths=(12, 8, 12)), branch(2, widths=(12, 6, 12))) == 1 + 3 + 3


def test_aggregation_fusion_and_auxiliary_heads_follow_from_the_ends() -> None:
    space = small_space()
    three = HyctasArchitecture((branch(), branch(1), branch(0, 2)))
    assert operations(space.lower(three)) == Counter(stem4=1, stem8=1, cell=11, merge=3, fusion=1, head=1)
    trained = operations(space.lower(three, training=True))
    assert (trained["fusion"], trained["auxiliary"]) == (3, 2)
    shallow = space.lower(HyctasArchitecture((branch(),)), training=True)
    assert operations(shallow) == Counter(stem4=1, stem8=1, cell=4, fusion=1, head=1)


def test_channels_round_half_to_even() -> None:
    space = small_space(filters=3)
    assert [space.channels(8, width) for width in (4, 6, 8, 10, 12)] == [8, 12, 16, 20, 24]
    narrow = small_space(filters=1)
    assert [narrow.channels(2, width) for width in (4, 6, 8, 10, 12)] == [1, 1, 1, 2, 2]
    assert HyctasSpace(HyctasSettings(filters=1), 5).channels(1, 6) == 0  # 0.5, to the even


def test_operators_of_a_searching_cell_share_their_first_kernels() -> None:
    def shared(family: str) -> set[str]:
        space = small_space(family=family)
        architectures = [HyctasArchitecture((branch(operators=letter * 4),)) for letter in "scla"]
        cells = [space.lower(one).steps[2].operation for one in architectures]
        return {space.shared_names(cell)(f"body.kernel{k}.conv.weight") for cell in cells for k in (1, 3)}

    assert shared("searching") == {"cell/0/8/kernel1", "cell/0/8/kernel3"}
    assert len(shared("published")) == 8
