"""A network for use outside a study: from the pixels of images to logits or classes, and what is said about it.

B batch, C classes; H x W pixels, of any size; h x w = H x W / stride, rounded up
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from torch import Tensor, nn

from orchestrator.config import EvaluationSettings
from search_spaces.base import NetworkSpace
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.mistakes import mistakes
from search_spaces.settings import METRICS_OF, Settings, TaskName
from search_spaces.subnet import Subnet
from search_spaces.tasks.segmentation import upsample

Output = Literal["logits", "classes", "coarse-logits"]
OUTPUTS: Mapping[TaskName, Mapping[Output, str]] = {
    "segmentation": {
        "logits": "float32 (batch, classes, height, width), at the image's size",
        "classes": "uint8 (batch, height, width): the class of the highest logit, at the image's size",
        "coarse-logits": "float32 (batch, classes, height / stride, width / stride), rounded up",
    },
    "classification": {
        "logits": "float32 (batch, classes)",
        "classes": "int64 (batch,): the class of the highest logit",
    },
}
"""What a network may give, by task."""
INPUT = "uint8 (batch, 3, height, width): red, green, blue, 0 to 255; any batch, height and width"
PREPROCESSING = "none: the network itself computes (image / 255 - mean) / std"
Colour = tuple[float, float, float]
WORDS = ("format", "task", "output", "trained")
"""Fields whose values are one of some words."""


class NetworkDescription(Settings):
    """What an exported file says of its network, besides the weights."""

    format: Literal["archipelago-network/1"] = "archipelago-network/1"
    study: str
    candidate: str
    """ISLAND/NUMBER."""
    architecture_id: str
    architecture: Mapping[str, Any]
    """As JSON, in the encoding of the space."""
    task: TaskName = "segmentation"
    space: Annotated[HyctasSettings | HrnasSettings, Field(discriminator="name")]
    """The space at the size at which the network was built."""
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=65535)]
    ignore_index: NonNegativeInt | None = None
    """The label of pixels that no score looks at; None: images are classified."""
    input: str = INPUT
    preprocessing: str = PREPROCESSING
    mean: Colour
    """Of red, green and blue in [0, 1]."""
    std: Colour
    """Of red, green and blue in [0, 1]."""
    output: Output
    output_form: str
    """Type and shape of the output."""
    stride: PositiveInt | None = None
    """Pixels of the input for one of the coarse logits, down and across; None: images are classified."""
    trained: Literal["supernet", "shrunk", "retrained"]
    """Whether the weights were shared with the whole space, are what shrinking left, or were trained from scratch."""
    trial: str = ""
    """The training from scratch; empty: none."""
    seed: NonNegativeInt | None = None
    """Of that training."""
    weights: str
    """SHA-256 of the study's weights that the network was cut from."""
    miou: float | None = None
    """As the study recorded it, of a network that segments."""
    iou: Mapping[str, float] = {}
    """By class, as the study recorded it."""
    accuracy: float | None = None
    """As the study recorded it, of a network that classifies images."""
    top5: float | None = None
    """How often the right class was among the highest five."""
    scored_images: PositiveInt
    """Images of the validation split that was scored."""
    scored_size: tuple[PositiveInt, PositiveInt]
    """Their height and width: the size at which the network was scored."""
    validation: str
    """Fingerprint of the validation split."""
    evaluation: EvaluationSettings
    """The protocol under which BatchNorm was recalibrated and the network scored."""
    macs: NonNegativeInt
    """Multiply-adds of an image of the scored size."""
    params: NonNegativeInt
    """Before BatchNorm was folded."""
    versions: Mapping[str, str]
    """Of the libraries that exported it."""

    @property
    def score(self) -> tuple[str, float]:
        """The metric by which networks of the task are compared, and its value."""
        name = METRICS_OF[self.task][0]
        value: float | None = getattr(self, name)
        assert value is not None, f"a network for {self.task} is described without its {name}"
        return name, value

    def network_space(self) -> NetworkSpace[Any]:
        """The space that builds the network."""
        if isinstance(self.space, HyctasSettings):
            return HyctasSpace(self.space, len(self.class_names))
        return HrnasSpace(self.space, len(self.class_names), task=self.task)

    def to_metadata(self) -> dict[str, str]:
        """Text by name: words as they are, everything else as JSON."""
        document = self.model_dump(mode="json")
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> NetworkDescription:
        """The inverse of `to_metadata`.

        Raises:
            ValueError: it is none; the first mistake, with its place.
        """
        words = {name for name, value in cls.model_fields.items() if value.annotation is str} | set(WORDS)
        document = {name: text if name in words else _parsed(name, text) for name, text in metadata.items()}
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ValueError(mistakes(error, cls)[0]) from None


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name} must be JSON, got {text[:40]!r}") from None


class StandaloneNetwork(nn.Module):
    """A subnet that takes images as they are decoded.

    Normalisation is not folded into the first convolution, which pads with zeros: with the mean colour, that is.

    Args:
        subnet: from normalised images to coarse logits, or to logits of images.
        mean, std: of red, green and blue in [0, 1].
        output: what `forward` gives, see `OUTPUTS`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, subnet: Subnet, mean: Colour, std: Colour, output: Output) -> None:
        super().__init__()
        self.subnet, self.output = subnet, output
        shift, scale = (torch.tensor([mean, std], dtype=torch.float64) * 255).float()[:, :, None, None]
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """What `output` says, of image: uint8 (B, 3, H, W), red, green, blue, 0 to 255."""
        if self.output == "coarse-logits":
            return self.coarse_logits(image)
        logits = self.logits(image)
        if self.output != "classes":
            return logits
        classes = logits.argmax(1)
        return classes if logits.dim() == 2 else classes.to(torch.uint8)

    def logits(self, image: Tensor) -> Tensor:
        """float32 (B, C, H, W); (B, C) where images are classified."""
        logits = self.coarse_logits(image)
        return logits if logits.dim() == 2 else upsample(logits, (image.shape[2], image.shape[3]))

    def coarse_logits(self, image: Tensor) -> Tensor:
        """float32 (B, C, h, w); (B, C) where images are classified."""
        coarse: Tensor = self.subnet((image.float() - self.shift) / self.scale)
        return coarse
