"""A recipe: one frozen model per concern, read at one door, `read_recipe`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from search_spaces.data.settings import DataSettings
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.mistakes import mistakes
from search_spaces.own import OwnSettings
from search_spaces.settings import FRACTIONS, METRICS_OF, BranchSettings, NetworkSettings, Settings, TaskName
from search_spaces.tabular import TabularSettings
from search_spaces.toy import ToySettings
from search_spaces.training.settings import (
    OptimisationSettings,
    RetrainingSettings,
    ShrinkingSettings,
    TrainingSettings,
)

METRICS = (*FRACTIONS, "latency_ms", "macs", "params")
"""What a search may look at; and latency_ms@LANE."""
FOREIGN: Mapping[TaskName, tuple[str, ...]] = {
    "segmentation": ("label_smoothing",),
    "classification": ("loss_stride", "hardest_fraction"),
}
"""Settings of training that mean nothing for a task."""
DEFAULT_LANE = "default"
LaneName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=30)]
Workers = Annotated[int, Field(gt=0, le=10**5)]
STUDY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SpaceSettings = Annotated[
    HyctasSettings | HrnasSettings | OwnSettings | TabularSettings | ToySettings, Field(discriminator="name")
]


def lane_of(metric: str) -> str | None:
    """The lane that measures the metric; None: it is no latency."""
    name, _, lane = metric.partition("@")
    return (lane or DEFAULT_LANE) if name == "latency_ms" else None


class RecipeError(ValueError):
    """A recipe that cannot be run; one line per mistake: where, what was given, what is allowed."""


class ObjectiveSettings(Settings):
    """One objective of the search."""

    name: str
    """A metric of `METRICS`, or latency_ms@LANE for a lane of `latency.lanes` that has another name than default."""
    at_most: float | None = None
    """Largest value that a candidate may have, in the metric's unit; null: no limit."""
    at_least: float | None = None
    """Smallest value that a candidate may have."""
    reference: float | None = None
    """The metric's coordinate of the hypervolume's reference point; null: see `orchestrator.objectives`."""

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        if name not in METRICS and lane_of(name) in (None, DEFAULT_LANE):
            allowed = ", ".join(f"'{metric}'" for metric in (*METRICS, "latency_ms@LANE"))
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": allowed})
        return name


class SamplerSettings(Settings):
    """How candidates are proposed."""

    name: Literal["nsga2", "optuna-nsga2", "optuna-nsga3", "optuna-tpe", "random"] = "nsga2"
    mode: Literal["generational", "steady-state"] = "generational"
    """`generational`: the paper's NSGA-II; `steady-state`: (mu + 1) survival, no barrier. For nsga2 alone.

    Take generational where evaluations are what counts: however many workers there are, it learns as from one, but no
    more of them than `population_size` have work, and all wait for the last of a generation. Take steady-state where
    time counts, or workers are few: it keeps all of them busy, but at least `workers.window` + 1 candidates are
    random, and each later one knows nothing of the `workers.window` before it. With 64 workers, a window of 128 and
    durations that vary by a quarter it evaluates two and a half times as many candidates in the same time as
    generational at a population of 40, and has found more by then; but less after as many evaluations."""
    population_size: int = Field(default=40, ge=2, le=10**6)
    """Candidates in a generation; the first generation is random, and so is all of a budget that is no larger."""
    crossover_probability: float = Field(default=0.9, ge=0, le=1)
    """Probability that an offspring mixes two parents, gene by gene."""
    mutation_probability: float = Field(default=0.02, ge=0, le=1)
    """Probability, per gene, that an offspring's gene is drawn anew. At least one gene changes if nothing else did."""
    tournament_size: int = Field(default=8, ge=1, le=10**6)
    """Survivors of which the one of the best rank becomes a parent; more: closer to the front. For nsga2 alone."""

    @model_validator(mode="after")
    def _mode_fits(self) -> Self:
        if self.mode == "steady-state" and self.name != "nsga2":
            raise ValueError(f"mode steady-state is for nsga2 alone, got name {self.name}: leave mode out")
        return self


class BudgetSettings(Settings):
    """How much is searched."""

    evaluations_per_island: int = Field(default=800, gt=0, le=10**8)
    """Candidates of each island. The paper: 40 x 20."""


class WorkerSettings(Settings):
    """How the work is spread. `count` changes no result; `window` and `order` do."""

    count: Annotated[Workers | None, BeforeValidator(lambda given: None if given == "auto" else given)] = 2
    """Evaluation workers; those that the cluster has no room for join when it has. auto or null: as many as there is
    room for, at any time."""
    threads: int = Field(default=1, gt=0, le=4096)
    """CPU threads of each worker."""
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs of each worker: a whole number, or the share of one that workers have in common."""
    deadline_s: PositiveFloat | None = None
    """Seconds after which a worker that has not answered is taken for stuck, and ended. null: ten times as long as the
    longest answer so far, and 600 at least."""
    batch: int = Field(default=20, gt=0, le=10**6)
    """Most candidates that are submitted at once, to be evaluated together; the window allows no more than itself + 1.
    Changes no result."""
    memory_limit_bytes: PositiveInt = 2**31
    """Bytes of activations and weights that a worker may take for a batch; a batch that needs more is cut. Changes no
    result."""
    window: int = Field(default=40, gt=0, le=10**6)
    """How far the sampler may ask ahead of the results that it has been told, in candidates. Twice as many as all
    workers have in hand keep them busy where durations vary by a quarter; fewer make a steady-state search learn sooner
    and its workers wait (64 workers, `batch` 1: busy 0.999 of their time at 128, 0.84 at 80, 0.76 at 70)."""
    order: Literal["ordered", "unordered"] = "ordered"
    """`ordered`: the sampler is told by number, so that workers change no result; `unordered`: by arrival, for
    durations with a heavy tail, so that nothing waits for a straggler. Either is resumed exactly."""
    memo: bool = True
    """Whether a candidate that was evaluated before, under the same weights and protocol, by any study of the store,
    takes its accuracy from there. Changes no result."""
    max_attempts: PositiveInt = 3
    """How many workers may die with a candidate, each with it alone, before it is recorded as poison."""


class EvaluationSettings(Settings):
    """Everything that a score depends on besides weights and architecture."""

    recalibration_images: int = Field(default=1000, ge=2, le=10**9)
    """Training images over which BatchNorm statistics are taken, a fixed seeded subset; at most all."""
    validation_images: PositiveInt | None = None
    """Images of the search's validation split that are scored, evenly spread; null: all."""
    batch_size: int = Field(default=16, ge=2, le=2**16)
    """Images that go through a program at once."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and activations."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the recalibration subset."""


class LaneSettings(Settings):
    """A kind of device on which candidates are timed: what its actor takes of a Ray cluster while it lives."""

    gpus: NonNegativeFloat = 0
    """GPUs. With 1 the lane has a GPU to itself; with less the workers of its node rest while it measures."""
    resources: Mapping[str, PositiveFloat] = {}
    """Ray's custom resources, by name, as the nodes with such a device were started with."""


class LatencySettings(Settings):
    """How latency is measured: batch 1, BatchNorm folded, nothing else running on the device."""

    measure: bool = True
    """Whether candidates are timed. Must be true when latency_ms is an objective."""
    window_s: PositiveFloat = 6.0
    """Seconds of repeated runs after warm-up. The paper: 6."""
    block: PositiveInt = 40
    """Candidates that are timed in a row where accuracy work has to pause for it: the more, the less often workers wait
    for each other's last batch."""
    lanes: Mapping[LaneName, LaneSettings] = Field(default={DEFAULT_LANE: LaneSettings()}, min_length=1)
    """Kinds of devices by name; every candidate is timed on each. Lane `default` gives latency_ms, lane orin
    latency_ms@orin."""


class LeaseSettings(Settings):
    """How long a study waits for its driver. Changes no result."""

    ttl_s: PositiveFloat = 60.0
    """Seconds without a sign of life from a study's driver after which another machine may take the study over."""


class TrackingSettings(Settings):
    """MLflow."""

    enabled: bool = True
    uri: str | None = None
    """Tracking URI; null: SQLite in the store's folder."""
    experiment: str | None = None
    """Experiment name; null: the study's name."""

    @field_validator("uri")
    @classmethod
    def _uri_has_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and urlsplit(uri).password:
            raise ValueError(
                "a tracking URI must not hold a password, for a study keeps its recipe: set MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class Recipe(Settings):
    """A study: `(recipe, supernet weights, seed)` fix every candidate that it looks at."""

    study: str
    """Name of the study: its folder in the store and its experiment in MLflow."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Root seed; everything random draws from a child of it."""
    space: SpaceSettings
    data: DataSettings | None = None
    training: TrainingSettings | None = None
    shrinking: ShrinkingSettings | None = None
    """null: candidates are sampled from a supernet; else they are what is left of networks that lose units as they
    train, by `training`, which then is of each of them alone."""
    retraining: RetrainingSettings | None = None
    """null: as in training."""
    evaluation: EvaluationSettings = EvaluationSettings()
    latency: LatencySettings = LatencySettings()
    objectives: tuple[ObjectiveSettings, ...] = Field(min_length=1)
    sampler: SamplerSettings = SamplerSettings()
    budget: BudgetSettings = BudgetSettings()
    workers: WorkerSettings = WorkerSettings()
    lease: LeaseSettings = LeaseSettings()
    tracking: TrackingSettings = TrackingSettings()

    @field_validator("study")
    @classmethod
    def _study_is_a_name(cls, study: str) -> str:
        if not STUDY_NAME.fullmatch(study):
            raise ValueError(
                f"a study's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first, got {study!r}"
            )
        return study

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [objective.name for objective in self.objectives]
        if len(set(names)) != len(names):
            raise ValueError(f"objectives must have distinct names, got {names}")
        for name, lane in ((name, lane) for name in names if (lane := lane_of(name))):
            if not self.latency.measure:
                raise ValueError(f"latency.measure must be true when {name} is an objective, got false")
            if lane not in self.latency.lanes:
                raise ValueError(f"latency.lanes must have the lane {lane}, for {name} is an objective, "
                                 f"got {', '.join(self.latency.lanes)}")  # fmt: skip
        if self.workers.gpus_per_worker and self.latency.measure:
            blind = [name for name, lane in self.latency.lanes.items() if not (lane.gpus or lane.resources)]
            if blind:
                raise ValueError(
                    f"latency.lanes.{blind[0]}.gpus must be > 0 when workers.gpus_per_worker is, got 0: without a GPU "
                    "of its own, or a share of one, the lane would time candidates on a CPU"
                )
        networks = isinstance(self.space, NetworkSettings)
        if networks and (self.data is None or self.training is None):
            lacking = [name for name in ("data", "training") if getattr(self, name) is None]
            raise ValueError(f"space {self.space.name} needs the section {' and the section '.join(lacking)}")
        if self.workers.order == "unordered" and (self.sampler.name, self.sampler.mode) == ("nsga2", "generational"):
            raise ValueError(
                "workers.order must be ordered with sampler.mode generational, got unordered: a generation waits for "
                "all of its results anyway; choose sampler.mode steady-state, or leave order out"
            )
        superfluous = [name for name in ("data", "training") if getattr(self, name) is not None]
        if not networks and superfluous:
            sections = " and the section ".join(superfluous)
            raise ValueError(f"space {self.space.name} has no networks: leave out the section {sections}")
        unknown = [name for name in names if isinstance(self.space, TabularSettings) and name not in self.space.metrics]
        if unknown:
            columns = " and which column ".join(unknown)
            raise ValueError(f"space.metrics must say which column {columns} is: it is an objective")
        islands = len(self.space.islands) if isinstance(self.space, NetworkSettings) else 0
        given = self.training.island_probabilities if self.training else None
        if given is not None and len(given) != islands:
            raise ValueError(
                f"training.island_probabilities must have {islands} entries, one for each island of the space, "
                f"got {len(given)}"
            )
        if self.training is not None and self.training.island_steps and not isinstance(self.space, BranchSettings):
            raise ValueError(
                f"training.island_steps must be 0 with space {self.space.name}, whose islands cannot be trained alone, "
                f"got {self.training.island_steps}"
            )
        limited = isinstance(self.space, NetworkSettings) and self.space.memory_limit_bytes is not None
        if limited and self.training is not None and self.training.augmentation.crop is None:
            raise ValueError("space.memory_limit_bytes needs training.augmentation.crop, got null: memory goes with it")
        return self

    @property
    def task(self) -> TaskName | None:
        """What the networks are for; None: there are none."""
        return None if self.data is None else self.data.task

    @property
    def metric(self) -> str:
        """The metric by which networks are compared; miou where there are none."""
        return METRICS_OF[self.task or "segmentation"][0]

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        task = self.task
        if task is None or self.data is None or not isinstance(self.space, NetworkSettings):
            return self
        which = f"{task}, which data {self.data.name} is for"
        if task not in self.space.tasks:
            raise ValueError(f"space {self.space.name} has no networks for {which}: take space hrnas, or other data")
        for name in (objective.name for objective in self.objectives):
            if name in FRACTIONS and name not in METRICS_OF[task]:
                known = " or ".join(METRICS_OF[task])
                raise ValueError(f"objectives.{name} is not measured for {which}: take {known}")
        for section, settings in (("training", self.training), ("retraining", self.retraining)):
            for name in FOREIGN[task] if settings is not None else ():
                if (given := getattr(settings, name)) != OptimisationSettings.model_fields[name].default:
                    raise ValueError(f"{section}.{name} means nothing for {which}, got {given}: leave it out")
        return self

    @model_validator(mode="after")
    def _shrinking_is_alone(self) -> Self:
        if self.shrinking is None:
            return self
        if not isinstance(self.space, HrnasSettings) or self.training is None:
            raise ValueError(f"shrinking is for space hrnas, got space {self.space.name}: leave it out")
        if len(self.space.branches) != 1:
            raise ValueError(f"space.branches must have one entry with shrinking, for one network is what it begins "
                             f"with, got {list(self.space.branches)}")  # fmt: skip
        idle = {
            "sampler": self.sampler != SamplerSettings(),
            "budget": self.budget != BudgetSettings(),
            "space.memory_limit_bytes": self.space.memory_limit_bytes is not None,
        }
        shared = [name for name in TrainingSettings.model_fields if name not in OptimisationSettings.model_fields]
        alone = RetrainingSettings.like(self.training).alone()
        usual = TrainingSettings(steps=self.training.steps)
        for name in shared:
            idle[f"training.{name}"] = getattr(self.training, name) not in (getattr(usual, name), getattr(alone, name))
        if given := [name for name, is_given in idle.items() if is_given]:
            raise ValueError(f"{given[0]} means nothing with shrinking, which trains a network for each penalty and "
                             "samples none: leave it out")  # fmt: skip
        return self

    @property
    def candidates_per_island(self) -> int:
        """How many there will be: the budget, or all snapshots of a training."""
        if self.shrinking is None or self.training is None:
            return self.budget.evaluations_per_island
        return len(self.shrinking.snapshot_steps(self.training.steps))

    @model_validator(mode="after")
    def _sizes_of_retraining_are_the_spaces(self) -> Self:
        given = {name: getattr(self.retraining, name) for name in ("filters", "model_type") if self.retraining}
        for name, size in given.items():
            if size is not None and name not in type(self.space).model_fields:
                raise ValueError(f"retraining.{name} is a size that space {self.space.name} does not have, got {size}: "
                                 "leave it out")  # fmt: skip
        return self


def read_recipe(document: Mapping[str, Any], where: str) -> Recipe:
    """The recipe in a parsed document.

    Raises:
        RecipeError: one line per mistake, each with its path in the document `where`.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{where}: {words}" for words in mistakes(error, Recipe))) from None
