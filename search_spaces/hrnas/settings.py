"""The settings of the HR-NAS space: its transformers, and what the supernet holds."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from search_spaces.settings import BranchSettings, Settings, TaskName

Form = Literal["paper", "published"]
"""`paper`: as HR-NAS is written; `published`: as the authors' code has it."""
Positions = Literal["none", "map", "sine", "learned"]


class TransformerSettings(Settings):
    """The lightweight transformers of a network."""

    form: Form = "paper"
    """`paper`: tokens are projected at full size and then resized, the feed-forward is four times as wide as a token
    and has a bias, queries are added to what they attend to; `published`: the feature is resized first, the
    feed-forward is as wide as a token, the encoder's output is added."""
    tokens: NonNegativeInt = 64
    """Most tokens of a transformer; 0: there are no transformers."""
    size: int = Field(default=8, ge=2, le=64)
    """A token has size x size pixels, and as many dimensions."""
    width: PositiveInt | None = None
    """Dimensions in which attention compares tokens; null: as many as a token has."""
    positions: Positions = "map"
    """What tells pixels apart: nothing, a map of two channels (row and column), sines and cosines of both, or learned
    channels."""
    positions_in: Literal["encoder", "both"] = "encoder"
    """Where: in the projector alone, or as tokens beside the decoder's queries and its memory too."""


class ModuleSettings(Settings):
    """A parallel module: branches from the highest resolution down, each at half that of the one before."""

    blocks: tuple[PositiveInt, ...] = Field(min_length=1, max_length=4)
    """Searching blocks in each branch."""
    channels: tuple[PositiveInt, ...] = Field(min_length=1, max_length=4)
    """Channels of each branch."""

    @model_validator(mode="after")
    def _same_branches(self) -> Self:
        if len(self.blocks) != len(self.channels):
            raise ValueError(f"blocks and channels must have an entry for each branch, got {len(self.blocks)} and "
                             f"{len(self.channels)}")  # fmt: skip
        return self


def _modules(blocks: tuple[int, ...], channels: tuple[int, ...]) -> tuple[ModuleSettings, ...]:
    """The paper's five: 1, 2, 3, 4 and 4 branches."""
    first = ModuleSettings(blocks=(1,), channels=(24,))
    return first, *(ModuleSettings(blocks=blocks[:count], channels=channels[:count]) for count in (2, 3, 4, 4))


class HrnasSettings(BranchSettings):
    """`space:` of a recipe that searches the multi-branch space of HR-NAS."""

    tasks: ClassVar[tuple[TaskName, ...]] = ("segmentation", "classification")
    name: Literal["hrnas"] = "hrnas"
    branches: tuple[Literal[1, 2, 3, 4], ...] = (4,)
    """Most branches that run beside each other, an island each: of every module those of the lowest resolutions are
    kept, so that 1 is a single path from stride 4 down."""
    family: Form = "paper"
    """`paper`: every searching block may have a transformer, fusions lie between modules; `published`: transformers in
    blocks with an identity path alone, and a fusion before the first module too."""
    stem: tuple[PositiveInt, PositiveInt] = (24, 24)
    """Channels of the two convolutions of stride 2 before the first module."""
    modules: tuple[ModuleSettings, ...] = Field(default=_modules((2, 2, 3, 4), (18, 36, 72, 144)), min_length=1)
    """The parallel modules; the first has one branch, at stride 4, each further one as many as the one before or one
    more."""
    expansion: PositiveInt = 4
    """Most hidden channels of a block for each kernel size, times its input channels."""
    kernels: tuple[Literal[3, 5, 7, 9], ...] = Field(default=(3, 5, 7), min_length=1)
    """Kernel sizes of a block's depthwise convolutions."""
    transformer: TransformerSettings = TransformerSettings()
    parts: PositiveInt | None = 4
    """Channels and tokens of a block are chosen in so many parts: none, 1/4, 1/2, 3/4 or all of the most with 4; null:
    any number of them."""
    head_channels: PositiveInt | None = None
    """null: the branches' features, resized and concatenated, are classified; else they go through a searching block
    with so many output channels first, as in the authors' code (90)."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        counts = [len(module.channels) for module in self.modules]
        if (
            any(next_ - count not in (0, 1) for count, next_ in zip([0, *counts], counts, strict=False))
            or not counts[0]
        ):
            raise ValueError(f"modules must begin with one branch, and go on with as many or one more, got {counts}")
        if max(self.branches) > counts[-1]:
            raise ValueError(f"branches must be <= {counts[-1]}, as the last of modules has, got {list(self.branches)}")
        if len(set(self.kernels)) != len(self.kernels):
            raise ValueError(f"kernels must be distinct, got {list(self.kernels)}")
        first = self.modules[0].channels[0]
        if self.family == "paper" and first != self.stem[1]:
            raise ValueError(f"modules.0.channels must be [{self.stem[1]}], as the stem gives, got [{first}]")
        return self
