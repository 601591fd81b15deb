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
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.mistakes import mistakes
from search_spaces.settings import Settings
from search_spaces.subnet import Subnet
from search_spaces.tasks.segmentation import upsample

Output = Literal["logits", "classes", "coarse-logits"]
OUTPUTS: Mapping[Output, str] = {
    "logits": "float32 (batch, classes, height, width), at the image's size",
    "classes": "uint8 (batch, height, width): the class of the highest logit, at the image's size",
    "coarse-logits": "float32 (batch, classes, height / stride, width / stride), rounded up",
}
"""What a network may give."""
INPUT = "uint8 (batch, 3, height, width): red, green, blue, 0 to 255; any batch, height and width"
PREPROCESSING = "none: the network itself computes (image / 255 - mean) / std"
Colour = tuple[float, float, float]
WORDS = ("format", "output", "trained")
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
    space: Annotated[HyctasSettings | HrnasSettings, Field(discriminator="name")]
    """The space at the size at which the network was built."""
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=255)]
    ignore_index: NonNegativeInt
    """The label of pixels that no score looks at."""
    input: str = INPUT
    preprocessing: str = PREPROCESSING
    mean: Colour
    """Of red, green and blue in [0, 1]."""
    std: Colour
    """Of red, green and blue in [0, 1]."""
    output: Output
    output_form: str
    """Type and shape of the output."""
    stride: PositiveInt
    """Pixels of the input for one of the coarse logits, down and across."""
    trained: Literal["supernet", "shrunk", "retrained"]
    """Whether the weights were shared with the whole space, are what shrinking left, or were trained from scratch."""
    trial: str = ""
    """The training from scratch; empty: none."""
    seed: NonNegativeInt | None = None
    """Of that training."""
    weights: str
    """SHA-256 of the study's weights that the network was cut from."""
    miou: float
    """As the study recorded it."""
    iou: Mapping[str, float]
    """By class, as the study recorded it."""
    scored_images: PositiveInt
    """Images of the validation split that the mIoU is over."""
    scored_size: tuple[PositiveInt, PositiveInt]
    """Their height and width: the size at which the network was scored."""
    validation: str
    """Fingerprint of the validation split."""
    evaluation: EvaluationSettings
    """The protocol under which BatchNorm was recalibrated and the mIoU measured."""
    macs: NonNegativeInt
    """Multiply-adds of an image of the scored size."""
    params: NonNegativeInt
    """Before BatchNorm was folded."""
    versions: Mapping[str, str]
    """Of the libraries that exported it."""

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
        subnet: from normalised images to coarse logits.
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
        return logits.argmax(1).to(torch.uint8) if self.output == "classes" else logits

    def logits(self, image: Tensor) -> Tensor:
        """float32 (B, C, H, W)."""
        return upsample(self.coarse_logits(image), (image.shape[2], image.shape[3]))

    def coarse_logits(self, image: Tensor) -> Tensor:
        """float32 (B, C, h, w)."""
        coarse: Tensor = self.subnet((image.float() - self.shift) / self.scale)
        return coarse
