"""The settings of supernet training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from search_spaces.settings import Settings


class TrainingSettings(Settings):
    """`training:` of a recipe."""

    steps: PositiveInt
    """Optimiser steps."""
    batch_size: PositiveInt = 16
    """Images of a step. The paper: 16."""
    learning_rate: PositiveFloat = 0.02
    """Peak learning rate of SGD. The paper: 0.02."""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["exponential", "cosine", "poly"] = "exponential"
    """`exponential`: the paper's, 0.992 per epoch."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly."""
    branch_probabilities: dict[Literal[1, 2, 3], float] = {1: 0.2, 2: 0.3, 3: 0.5}
    """Probability with which a subnet of so many branches is drawn. Source: HyCTAS eq. 2."""
    subnets_per_step: PositiveInt = 1
    """Random subnets whose gradients are added up in a step."""
