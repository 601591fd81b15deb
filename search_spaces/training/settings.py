"""The settings of training: of a supernet, and of one architecture from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from search_spaces.data.settings import AugmentationSettings
from search_spaces.settings import Settings


class OptimisationSettings(Settings):
    """How weights are trained, whosever they are."""

    steps: int = Field(gt=0, le=10**9)
    """Optimiser steps."""
    batch_size: int = Field(default=16, ge=2, le=2**16)
    """Images of a step. The paper: 16, and 32 in retraining."""
    augmentation: AugmentationSettings = AugmentationSettings()
    threads: int = Field(default=1, gt=0, le=4096)
    """CPU threads of each process. Small crops are many small operations: at 144x192 two threads take as long as one,
    and several times as long where something else wants a core too."""
    optimiser: Literal["sgd", "adamw"] = "sgd"
    """`sgd`: with momentum, the paper's; `adamw`: for short budgets, where a weight is seldom sampled."""
    learning_rate: PositiveFloat = 0.02
    """Peak learning rate. The paper: 0.02 with SGD, and 0.005 in retraining."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD, and the first of AdamW's two."""
    weight_decay: NonNegativeFloat = 1e-4
    """Of convolution weights; scales and biases do not decay."""
    schedule: Literal["exponential", "cosine", "poly"] = "exponential"
    """`exponential`: the paper's, times 0.992 an epoch; `cosine` and `poly` (power 0.9) end at 0."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly."""
    auxiliary_weight: NonNegativeFloat = 0.2
    """Weight of the auxiliary heads' loss. The paper: 0.2."""
    loss_stride: Literal[1, 2, 4, 8] = 1
    """Every how many-th pixel, down and across, the loss looks at: logits are upsampled to those only. At stride 8
    outputs and small images the full-resolution loss costs as much as all convolutions."""
    hardest_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the pixels, the hardest, whose loss counts; null: all. The authors' retraining: 0.2."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of an image's label that all classes have alike; in classification alone."""
    gradient_norm: PositiveFloat | None = None
    """Largest norm of a step's gradient; null: not clipped."""
    checkpoint_s: PositiveFloat = 60.0
    """Seconds between checkpoints: what a killed training loses at most. Changes no result."""
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the weights, which is what is searched; null: the last weights are."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability, at the last step, that a cell with an identity path leaves out its operator for an image; it rises
    linearly from 0. The paper: 0.2 in retraining."""


class TrainingSettings(OptimisationSettings):
    """`training:` of a recipe: how the supernet is trained."""

    workers: int = Field(default=1, gt=0, le=10**4)
    """Processes that share every step, each with an equal part of its images and a GPU of its own where the cluster
    has any. Batches and subnets are those of one process; so is the loss up to rounding, with `batch_norm:
    synchronised` and without `hardest_fraction`, which is of each process's own pixels. It pays where a step is large:
    with half of 8 images of 144x192 a process still computes 0.8 (local) or 1.3 times (synchronised) what one does
    with all of them, because so small a step is mostly what does not depend on the number of images."""
    batch_norm: Literal["synchronised", "local"] = "synchronised"
    """Whose images BatchNorm takes its statistics from, where workers > 1. `synchronised`: all of a step's, for two
    messages a layer; `local`: those of the process alone, which is faster and the noisier the fewer they are."""
    island_probabilities: tuple[PositiveFloat, ...] | None = None
    """Probability of each island's subnets, in the islands' order; null: 0.2, 0.3, 0.5 of HyCTAS (eq. 2) for three
    islands, else equal."""
    subnets_per_step: PositiveInt = 1
    """Random subnets whose gradients are added up in a step."""
    sandwich: bool = True
    """Whether each step also trains the largest subnet. Source: Yu and Huang, ICCV 2019."""
    distillation: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss of random subnets that is the divergence from the largest one's prediction; needs sandwich."""
    warmup_largest_steps: NonNegativeInt = 0
    """First steps, in which the largest subnet is trained alone."""
    island_steps: NonNegativeInt = 0
    """Steps for which each island's copy of the weights is then trained further, with its subnets only, before it is
    searched with that. 0: all islands share one supernet. Source: few-shot NAS (Zhao et al., ICML 2021)."""
    island_learning_rate_share: PositiveFloat = 0.3
    """Peak learning rate of those steps, as a share of `learning_rate`; they have no warm-up."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.distillation > 0 and not self.sandwich:
            raise ValueError(f"distillation needs sandwich: true, got distillation {self.distillation}")
        if self.batch_size % self.workers or self.batch_size < 2 * self.workers:
            raise ValueError(
                f"batch_size must be a multiple of workers, and at least twice as large, got batch_size "
                f"{self.batch_size} and workers {self.workers}"
            )
        return self

    def for_island(self, steps: int) -> TrainingSettings:
        """What trains weights that are trained already for so many steps more, with one island's subnets."""
        return self.model_copy(
            update={
                "steps": steps,
                "warmup_steps": 0,
                "warmup_largest_steps": 0,
                "island_probabilities": None,
                "learning_rate": self.learning_rate * self.island_learning_rate_share,
            }
        )


class ShrinkingSettings(Settings):
    """`shrinking:` of a recipe that searches by training: the network with all units is trained once for each penalty,
    and loses units as it goes. What is left after each removal is a candidate."""

    penalties: tuple[NonNegativeFloat, ...] = Field(min_length=1, max_length=100)
    """Weights of the penalty on units, a training and an island each; 0: nothing pulls at the units. The paper, for
    trainings far longer than a quarter of an hour: 1.4e-4 for segmentation, 1.8e-4 for classification."""
    every_steps: int = Field(gt=0, le=10**9)
    """Steps from one removal to the next; the last one is at the end. The paper: a few epochs."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the penalty rises linearly. The authors: 25 epochs."""
    threshold: PositiveFloat = 0.001
    """Importance, the absolute scale of a BatchNorm, under which a unit is removed. The authors: 0.001."""

    @model_validator(mode="after")
    def _distinct_penalties(self) -> Self:
        if len({f"{penalty:g}" for penalty in self.penalties}) != len(self.penalties):
            raise ValueError(f"penalties must be distinct, got {list(self.penalties)}")
        return self

    def snapshot_steps(self, steps: int) -> tuple[int, ...]:
        """After which of so many steps a network becomes a candidate: none, those with a removal, all."""
        return (*range(0, steps, self.every_steps), steps)


class RetrainingSettings(OptimisationSettings):
    """`retraining:` of a recipe: how an architecture is trained from scratch, with weights of its own."""

    filters: int | None = Field(default=None, ge=1, le=128)
    """Filter multiplier; null: the search's. The paper: 12 for HyCTAS-S, 16 for HyCTAS-L."""
    model_type: Literal[0, 1, 2] | None = None
    """As in `space`: 0 predicts at stride 8, 1 and 2 at stride 4; null: the search's. The paper: stride 8 for S, 4 for
    the larger ones."""

    @classmethod
    def like(cls, training: TrainingSettings) -> RetrainingSettings:
        """As the supernet was trained, for as many steps."""
        return cls(**{name: getattr(training, name) for name in OptimisationSettings.model_fields})

    def alone(self) -> TrainingSettings:
        """What trains a supernet of one architecture in this way."""
        common = {name: getattr(self, name) for name in OptimisationSettings.model_fields}
        return TrainingSettings(**common, sandwich=False, distillation=0.0, subnets_per_step=1)


@dataclass(frozen=True)
class TrainingProgress:
    """How far training is."""

    step: int
    steps: int
    loss: float
    """Of the random subnets, a running mean."""
    left_s: float | None
    island: str = ""
    """The island for which alone a supernet is trained further; empty: it is trained for all."""


@dataclass(frozen=True)
class TrialProgress:
    """How far one of several trainings is."""

    trial: int
    """Its place among them."""
    training: TrainingProgress
