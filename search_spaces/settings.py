"""The base of every settings model: frozen, with no unknown keys, so that a typing error is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

ISLAND = "branches-"
"""What an island's name begins with, before the number of branches."""
TaskName = Literal["segmentation", "classification"]
"""What networks are for."""
METRICS_OF: Mapping[TaskName, tuple[str, ...]] = {"segmentation": ("miou",), "classification": ("accuracy", "top5")}
"""What can be sought in a task's networks, fractions all of them; they are compared by the first."""
FRACTIONS = tuple(metric for metrics in METRICS_OF.values() for metric in metrics)
"""All metrics that say how often networks are right."""


def score_of(metrics: Mapping[str, float]) -> float | None:
    """The metric among them by which networks are compared; None: it was not measured."""
    return next((metrics[first] for first, *_ in METRICS_OF.values() if first in metrics), None)


class Settings(BaseModel):
    """One concern of a recipe. Field docstrings give meaning and unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, document: Any) -> Any:
        """Pydantic would read YAML's `on` and `yes` as 1."""
        for name, field in cls.model_fields.items() if isinstance(document, dict) else ():
            if isinstance(document.get(name), bool) and field.annotation is not bool:
                raise ValueError(f"{name} must not be true or false (so YAML reads on, off, yes, no): quote a word")
        return document


class NetworkSettings(Settings):
    """What the settings of every space with networks have."""

    tasks: ClassVar[tuple[TaskName, ...]] = ("segmentation",)
    """What the space has heads for."""
    name: str
    memory_limit_bytes: PositiveInt | None = None
    """Most memory that a subnet may take in training, by `training_memory_bytes`; null: no limit."""

    @property
    def islands(self) -> tuple[str, ...]:
        """The names of the space's islands, in order."""
        raise NotImplementedError


class BranchSettings(NetworkSettings):
    """Those of spaces that have an island for each number of branches."""

    branches: tuple[int, ...]
    """Branch counts to search, an island each."""

    @property
    def islands(self) -> tuple[str, ...]:
        return tuple(f"{ISLAND}{count}" for count in self.branches)

    @model_validator(mode="after")
    def _distinct_branches(self) -> Self:
        if not self.branches or len(set(self.branches)) != len(self.branches):
            raise ValueError(f"branches must be distinct and not empty, got {list(self.branches)}")
        return self
