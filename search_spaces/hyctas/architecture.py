"""A HyCTAS network as data: branches of cells, in the encoding of the authors' files.

n cells in a branch; scale 0, 1, 2 = stride 8, 16, 32; widths in twelfths
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.base import InvalidGenotype, Json
from search_spaces.checks import check_fields
from search_spaces.hyctas.operators import OPERATORS
from search_spaces.hyctas.settings import WIDTHS

STRIDES = (8, 16, 32)
"""The stride of each scale."""
MOST_CELLS = 64
"""Of a branch that is described from outside."""
LETTERS = {"skip": "·", "conv": "C", "light": "L", "light2": "2", "attention": "A"}
"""The operators as people see them."""
WORDS = {
    "skip": "skip",
    "conv": "convolution",
    "light": "light-weight convolution",
    "light2": "double light-weight",
    "attention": "self-attention",
}
"""The operators in words."""


@dataclass(frozen=True, order=True)
class Branch:
    """A chain of cells from the stem's stride-8 feature to the branch's end."""

    downs: tuple[int, ...]
    """Layers at which it goes down, ascending: none, one or two."""
    operators: tuple[str, ...]
    """n operators, each one of `OPERATORS`."""
    widths: tuple[int, ...]
    """n - 1 output widths; the last cell has the head's width."""

    @property
    def end(self) -> int:
        """The scale at which it ends."""
        return len(self.downs)

    def scale(self, layer: int) -> int:
        """The scale that the cell at `layer` reads."""
        return sum(down < layer for down in self.downs)


@dataclass(frozen=True)
class HyctasArchitecture:
    """Branches in the order of their ends, all different."""

    branches: tuple[Branch, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(branch.end for branch in self.branches)

    def to_json(self) -> dict[str, Json]:
        """The authors' encoding: per branch ops, paths, downs and widths, and the ends in lasts."""
        layers = [range(len(branch.operators)) for branch in self.branches]
        return {
            "ops": [[OPERATORS.index(name) for name in branch.operators] for branch in self.branches],
            "paths": [[b.scale(layer) for layer in cells] for b, cells in zip(self.branches, layers, strict=True)],
            "downs": [[int(i in b.downs) for i in cells] for b, cells in zip(self.branches, layers, strict=True)],
            "widths": [[width / 12 for width in branch.widths] for branch in self.branches],
            "lasts": list(self.ends),
        }

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> HyctasArchitecture:
        """The inverse of `to_json`; branches may come in any order and differ in length.

        Raises:
            InvalidGenotype: a field is missing, of the wrong length, or says something impossible.
        """
        fields = ("ops", "paths", "downs", "widths", "lasts")
        check_fields(description, fields)
        lengths = {name: len(_list(description[name], name)) for name in fields}
        if len(set(lengths.values())) != 1:
            raise InvalidGenotype(f"ops, paths, downs, widths and lasts must list the same branches, got {lengths}")
        branches = [_branch(description, index) for index in range(lengths["ops"])]
        ends = [branch.end for branch in branches]
        if not branches or len(set(ends)) != len(ends):
            raise InvalidGenotype(f"lasts must be one to three different ends, got {ends}")
        return cls(tuple(sorted(branches, key=lambda branch: branch.end)))

    def __str__(self) -> str:
        """Each branch: its end, and for each cell the letter of its operator, with ↓ after a cell that goes down."""
        return " | ".join(f"1/{STRIDES[branch.end]:<2} {_letters(branch)}" for branch in self.branches)


def _letters(branch: Branch) -> str:
    cells = enumerate(branch.operators)
    return "".join(LETTERS[name] + ("↓" if layer in branch.downs else "") for layer, name in cells)


def _list(value: object, where: str) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidGenotype(f"{where} must be a list, got {value!r:.60}")
    return value


def _branch(description: Mapping[str, Any], index: int) -> Branch:
    """One branch, checked against itself."""
    where = f"branch {index}"
    ops, paths, downs, widths = (
        _list(description[name][index], f"{name}[{index}]") for name in ("ops", "paths", "downs", "widths")
    )
    cells = len(ops)
    if cells > MOST_CELLS:
        raise InvalidGenotype(f"{where}: a branch has at most {MOST_CELLS} cells, got {cells}")
    if cells < 1 or len(paths) != cells or len(downs) != cells or len(widths) != cells - 1:
        got = f"{cells}, {len(paths)}, {len(downs)}, {len(widths)}"
        raise InvalidGenotype(f"{where}: ops, paths, downs, widths must have n, n, n, n-1 entries, got {got}")
    if wrong := [op for op in ops if type(op) is not int or op not in range(len(OPERATORS))]:
        raise InvalidGenotype(f"{where}: an op is 0 to {len(OPERATORS) - 1}, got {wrong[0]!r:.60}")
    if wrong := [down for down in downs if type(down) is not int or down not in (0, 1)]:
        raise InvalidGenotype(f"{where}: downs are 0 or 1, got {wrong[0]!r:.60}")
    twelfths = [width * 12 if isinstance(width, int | float) else float("nan") for width in widths]
    if wrong := [w for w, t in zip(widths, twelfths, strict=True) if not min(abs(t - k) for k in WIDTHS) < 1e-6]:
        raise InvalidGenotype(f"{where}: a width is 4, 6, 8, 10 or 12 twelfths, got {wrong[0]!r:.60}")
    branch = Branch(
        downs=tuple(layer for layer, down in enumerate(downs) if down),
        operators=tuple(OPERATORS[op] for op in ops),
        widths=tuple(round(width) for width in twelfths),
    )
    if downs[-1]:
        raise InvalidGenotype(f"{where}: the last cell must not go down")
    if branch.end >= len(STRIDES):
        raise InvalidGenotype(f"{where}: a branch goes down at most twice, got {branch.end} times")
    if list(paths) != [branch.scale(layer) for layer in range(cells)]:
        raise InvalidGenotype(f"{where}: paths {list(paths)} do not follow from downs {list(downs)}")
    if description["lasts"][index] != branch.end:
        raise InvalidGenotype(f"{where}: lasts says {description['lasts'][index]}, its downs lead to {branch.end}")
    return branch
