"""The settings of the data sets: where their folders lie and at which size images are used.

A `root` may hold `~`, `${NAME}` and `${NAME:-default}`; it is expanded when the data are loaded, not when the recipe
is read, so a study's manifest holds it as written and resumes on a machine that keeps its data elsewhere. A relative
root starts at the working directory. Recipes of this repository say `${ARCHIPELAGO_DATA:-data}/...`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from search_spaces.settings import Settings, TaskName

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")

Pixels = Annotated[int, Field(ge=8, le=8192)]
Size = tuple[Pixels, Pixels]
"""(height, width) in pixels."""


class DataError(ValueError):
    """A data set that cannot be used: which file, what was found, what is allowed, what to do."""


def expand_root(root: str, key: str = "data.root") -> Path:
    """The place that `root`, the recipe's `key`, stands for on this machine.

    Raises:
        DataError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = os.environ.get(name) or default
        if found is None:
            raise DataError(f"{key} {root!r} needs the environment variable {name}, which is not set: set it, "
                            f"or write ${{{name}:-DEFAULT}}")  # fmt: skip
        return found

    return Path(_VARIABLE.sub(value, root)).expanduser()


class SyntheticSettings(Settings):
    """Street scenes drawn by code: no folder, the same pixels on any machine."""

    task: ClassVar[TaskName] = "segmentation"
    name: Literal["synthetic"] = "synthetic"
    height_px: int = Field(default=96, ge=32, le=1024, multiple_of=8)
    """Height of a scene."""
    width_px: int = Field(default=128, ge=32, le=2048, multiple_of=8)
    """Width of a scene."""
    train_images: int = Field(default=300, gt=0, le=10**6)
    validation_images: int = Field(default=60, gt=0, le=10**6)
    test_images: int = Field(default=60, gt=0, le=10**6)
    seed: NonNegativeInt = 0
    """Seed of the scenes; each split and each image draws from a child of its own."""


class CamvidSettings(Settings):
    """CamVid, 11 classes: `train|val|test/images/NAME.jpg`, `.../labels/NAME.png`, `classes.json`."""

    task: ClassVar[TaskName] = "segmentation"
    name: Literal["camvid"] = "camvid"
    root: str = "${ARCHIPELAGO_DATA:-data}/camvid"
    """Folder that holds `classes.json`."""
    validation_sequence: str | None = None
    """Train images whose names begin so become the search's validation instead of `val`, for instance `0006R0`; null:
    the official `val`, a single clip of under 7 seconds."""


class CityscapesSettings(Settings):
    """Cityscapes, 19 classes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine/SPLIT/CITY/*.png`."""

    task: ClassVar[TaskName] = "segmentation"
    name: Literal["cityscapes"] = "cityscapes"
    root: str = "${ARCHIPELAGO_DATA:-data}/cityscapes"
    """Folder that holds `leftImg8bit` and `gtFine`."""
    size: Size | None = None
    """(height, width) to which images and labels are resized; null: as they are, 1024 x 2048."""
    validation_images: PositiveInt = 500
    """Images of `train` that are held out as the search's validation."""
    holdout_seed: NonNegativeInt = 0
    """Which ones."""


class Ade20kSettings(Settings):
    """ADE20K, 150 classes: `images|annotations/training|validation/NAME.jpg|png` of ADEChallengeData2016."""

    task: ClassVar[TaskName] = "segmentation"
    name: Literal["ade20k"] = "ade20k"
    root: str = "${ARCHIPELAGO_DATA:-data}/ADEChallengeData2016"
    """Folder that holds `images` and `annotations`."""
    size: Size = (512, 512)
    """(height, width) into which images are fitted: resized with their proportions kept, then padded."""
    validation_images: PositiveInt = 2000
    """Images of `training` that are held out as the search's validation."""
    holdout_seed: NonNegativeInt = 0
    """Which ones."""


class FolderSettings(Settings):
    """Images in a folder for each class, as ImageNet: `train/CLASS/*.jpg`, `val/CLASS/*.jpg`."""

    task: ClassVar[TaskName] = "classification"
    name: Literal["folder"] = "folder"
    root: str = "${ARCHIPELAGO_DATA:-data}/imagenet"
    """Folder that holds `train` and the other splits."""
    size: Size = (224, 224)
    """(height, width) of the images: each is resized until it covers that, and its middle is taken."""
    validation: str | None = None
    """Sub-folder with the search's validation, if there is one besides `test`; null: a share of `train` is held out."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of each class in `train` that is held out where `validation` is null; one image at least."""
    holdout_seed: NonNegativeInt = 0
    """Which images."""
    test: str = "val"
    """Sub-folder with the images of the final numbers; nothing looks at them before."""

    @model_validator(mode="after")
    def _distinct_splits(self) -> Self:
        splits = [split for split in ("train", self.validation, self.test) if split is not None]
        if len(set(splits)) != len(splits):
            raise ValueError(f"train, validation and test must be distinct folders, got {', '.join(splits)}")
        return self


class Cifar10Settings(Settings):
    """CIFAR-10: images in `train/CLASS` and `test/CLASS`, or else the binary batches of its authors."""

    task: ClassVar[TaskName] = "classification"
    name: Literal["cifar10"] = "cifar10"
    root: str = "${ARCHIPELAGO_DATA:-data}/cifar10"
    """Folder that holds `train` and `test`, or `cifar-10-batches-bin`."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of each class's training images that is held out as the search's validation."""
    holdout_seed: NonNegativeInt = 0
    """Which ones."""


DataSettings = Annotated[
    SyntheticSettings | CamvidSettings | CityscapesSettings | Ade20kSettings | FolderSettings | Cifar10Settings,
    Field(discriminator="name"),
]
"""`data:` of a recipe; `name` says which data set."""


class AugmentationSettings(Settings):
    """What training does to images, in this order: flip, scale, crop, colour."""

    crop: Size | None = None
    """(height, width) of a training crop; null: the size of the images."""
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.75, 1.5)
    """Smallest and largest factor of a uniformly random scale."""
    colour: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of contrast and saturation, and of brightness in standard deviations; 0: none."""

    @model_validator(mode="after")
    def _ordered_scale(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be (smallest, largest), got {list(self.scale)}")
        return self
