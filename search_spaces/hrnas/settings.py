"""The settings of the HR-NAS space: its transformers, and what the supernet holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from search_spaces.settings import Settings

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
