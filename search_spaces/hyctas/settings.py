"""The settings of the HyCTAS space: what the supernet holds and which operators its cells choose from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from search_spaces.settings import BranchSettings

WIDTHS = (4, 6, 8, 10, 12)
"""Width multipliers of a cell's output, in twelfths. Source: HyCTAS, the authors' encoding."""

Width = Literal[4, 6, 8, 10, 12]


class HyctasSettings(BranchSettings):
    """`space:` of a recipe that searches the multi-branch space of HyCTAS."""

    name: Literal["hyctas"] = "hyctas"
    layers: int = Field(default=10, ge=3, le=64)
    """Cells in a branch."""
    filters: int = Field(default=8, ge=1, le=128)
    """Filter multiplier: a full-width feature has 8 x filters channels at stride 8, doubled at each stride."""
    branches: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    """Branch counts to search, an island each."""
    family: Literal["searching", "published"] = "searching"
    """`searching`: memory-efficient attention, identity paths and shared kernels; `published`: the operators of the
    authors' retraining code, attention quadratic in the pixels at full width."""
    stem_width: Width = 12
    """Width of stem features, in twelfths."""
    head_width: Width = 12
    """Width of the last cells and of the aggregation, in twelfths."""
    model_type: Literal[0, 1, 2] = 0
    """0: classes are predicted at stride 8; 1: at stride 4, with the stem's stride-4 feature merged in; 2: likewise,
    with the stride-8 feature merged in before."""
