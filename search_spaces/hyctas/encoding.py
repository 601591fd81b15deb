"""Genotypes of the HyCTAS space: an island per branch count, genes for ends, descents, operators and widths.

    genotype = (combination of ends, then per branch: first descent, second descent, n operators, n - 1 widths)

The genes of descents that a branch does not make cannot matter: decoding drops them, encoding writes 0. The two
descents of a branch that ends at stride 32 may come in either order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from search_spaces.base import Genotype, InvalidGenotype
from search_spaces.checks import check_genotype
from search_spaces.hyctas.architecture import Branch, HyctasArchitecture
from search_spaces.hyctas.operators import OPERATORS
from search_spaces.hyctas.settings import WIDTHS
from search_spaces.settings import ISLAND


def combinations_of_ends(count: int) -> tuple[tuple[int, ...], ...]:
    """The ways in which `count` branches can end at different scales."""
    return tuple(combinations(range(3), count))


def cardinalities(layers: int, count: int) -> tuple[int, ...]:
    """Values of each gene for `count` branches of `layers` cells."""
    branch = (layers - 1, layers - 1) + (len(OPERATORS),) * layers + (len(WIDTHS),) * (layers - 1)
    return (len(combinations_of_ends(count)), *branch * count)


def decode(layers: int, count: int, genotype: Genotype) -> HyctasArchitecture:
    """The canonical architecture of a genotype.

    A branch whose two descents fall on one layer keeps that one layer twice, which the space's constraints
    refuse.

    Raises:
        InvalidGenotype: wrong length, or a gene outside its cardinality.
    """
    check_genotype(genotype, cardinalities(layers, count), f"{ISLAND}{count}")
    genes = iter(genotype)
    ends = combinations_of_ends(count)[next(genes)]
    return HyctasArchitecture(tuple(_decode_branch(layers, end, genes) for end in ends))


def _decode_branch(layers: int, end: int, genes: Iterator[int]) -> Branch:
    descents = (next(genes), next(genes))
    operators = tuple(OPERATORS[next(genes)] for _ in range(layers))
    widths = tuple(WIDTHS[next(genes)] for _ in range(layers - 1))
    return Branch(tuple(sorted(descents[:end])), operators, widths)


def encode(layers: int, architecture: HyctasArchitecture) -> Genotype:
    """The canonical genotype of an architecture.

    Raises:
        InvalidGenotype: a branch has another number of cells than the space.
    """
    genotype = [combinations_of_ends(len(architecture.branches)).index(architecture.ends)]
    for index, branch in enumerate(architecture.branches):
        if len(branch.operators) != layers:
            raise InvalidGenotype(f"branch {index} has {len(branch.operators)} cells, the space has {layers}")
        genotype += [*branch.downs, 0, 0][:2]
        genotype += [OPERATORS.index(name) for name in branch.operators]
        genotype += [WIDTHS.index(width) for width in branch.widths]
    return tuple(genotype)
