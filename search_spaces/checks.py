"""What every space asks of genotypes and descriptions before it decodes them, and how it says no."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from search_spaces.base import InvalidGenotype, Json


def check_island(island: str, islands: Sequence[str]) -> None:
    """Raises InvalidGenotype where the island is none of the space's."""
    if island not in islands:
        raise InvalidGenotype(f"island must be one of {', '.join(islands)}, got {island!r}")


def check_genotype(genotype: Sequence[object], cardinalities: Sequence[int], island: str) -> None:
    """Raises InvalidGenotype unless there is an int for each gene, from 0 to its cardinality less 1."""
    if len(genotype) != len(cardinalities):
        raise InvalidGenotype(f"a genotype of {island} has {len(cardinalities)} genes, got {len(genotype)}")
    for place, (gene, values) in enumerate(zip(genotype, cardinalities, strict=True)):
        if type(gene) is not int or not 0 <= gene < values:
            raise InvalidGenotype(f"{island}: gene {place} must be an integer in 0..{values - 1}, got {gene!r}")


def check_fields(description: Mapping[str, Json], fields: Collection[str]) -> None:
    """Raises InvalidGenotype where a description lacks a field, or has one that is not known."""
    if unknown := sorted(set(description) ^ set(fields)):
        raise InvalidGenotype(f"an architecture has the fields {', '.join(fields)}: check {', '.join(unknown)}")
