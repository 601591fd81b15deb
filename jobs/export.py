"""A candidate as a file that needs no study: `archipelago export`. A file that computes something else is not kept."""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from infra.exported import INPUT, NetworkDescription, Output, StandaloneNetwork
from infra.network_file import load_network, save_network
from infra.onnx_file import Run, load_onnx, write_onnx
from jobs.networks import CandidateNetwork, StudyNetworks
from jobs.study import Study
from jobs.tables import heading, quantity
from orchestrator.evaluation.modules import fold_norms

Format = Literal["onnx", "torch"]
TOLERANCE = 1e-4
"""By how much a file's logits may differ from the module's."""
TRAINED = {"supernet": "shared weights", "shrunk": "the weights that shrinking left"}
"""Whose weights, for people; others say more."""
CHECKED_IMAGES = 4
"""Validation images on which a file is checked, evenly spread; and a part of the first one, of odd size."""


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked."""

    file: Path
    format: Format
    description: NetworkDescription
    largest_difference: float
    """Of its logits from the module's, over the images of the check."""

    def row(self) -> dict[str, Any]:
        """As programs want it."""
        return {
            "file": str(self.file),
            "format": self.format,
            "largest_difference": self.largest_difference,
            **self.description.model_dump(mode="json"),
        }

    def sentences(self) -> list[str]:
        """For people."""
        one = self.description
        whose = TRAINED.get(one.trained, f"trained from scratch, seed {one.seed}, {one.trial}")
        height, width = one.scored_size
        metric, value = one.score
        return [
            f"{self.file}: {one.study} {one.candidate}, {whose}",
            f"{heading(metric)} {quantity(metric, value)} over {one.scored_images} images of {width}x{height} and "
            f"{len(one.class_names)} classes; logits as the module's to {self.largest_difference:.1e}",
            f"in: {INPUT}",
            f"out: {one.output_form}",
        ]


def export(
    study: Study,
    name: str,
    form: Format,
    file: Path,
    output: Output = "logits",
    *,
    retrained: bool = False,
    seed: int | None = None,
    overrides: Sequence[str] = (),
) -> Exported:
    """Writes a candidate's network to a file, in place of what was there.

    Raises:
        ValueError: something that was asked for cannot be done; one sentence.
        StoreError: the study cannot be read, or its weights are damaged.
    """
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise ValueError(f"--out must be a file in a folder that exists, got {file}")
    if seed is not None and not retrained:
        raise ValueError(f"--seed {seed} says which training from scratch is meant: add --retrained, or leave it out")
    networks = StudyNetworks(study, overrides)
    made = networks.retrained_network(name, seed, output) if retrained else networks.network(name, output)
    folded_one = folded(made.network)
    with _replacing(file) as draft:
        if form == "onnx":
            write_onnx(folded_one, made.description, draft)
            run, _ = load_onnx(draft)
        else:
            save_network(folded_one, made.description, draft)
            run = _runner(load_network(draft)[0])
        difference = checked(made, run, file)
    return Exported(file, form, made.description, difference)


def checked(made: CandidateNetwork, run: Run, file: Path) -> float:
    """The largest difference of what is in a file from the network, over real images.

    Raises:
        ValueError: it is larger than allowed.
    """
    difference = max(largest_difference(made.network, run, images) for images in check_images(made))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{file} was not written: its logits differ from the network's by {difference:.1e}, allowed are "
            f"{TOLERANCE:g}; export to the other format, and report this architecture"
        )
    return difference


def folded(network: StandaloneNetwork) -> StandaloneNetwork:
    """A copy whose BatchNorms are folded into the convolutions before them."""
    twin = copy.deepcopy(network)
    fold_norms(twin.subnet)
    return twin


def check_images(made: CandidateNetwork) -> Iterator[Tensor]:
    """Batches of real images, uint8 (B, 3, H, W): several, one of them, a part of it of odd size."""
    images = made.data.validation.images
    some = images[:: max(1, len(images) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    height, width = ((size * 3 // 4) | 1 for size in some.shape[2:])
    yield from (some, some[:1], some[:1, :, :height, :width])


def largest_difference(network: StandaloneNetwork, run: Run, images: Tensor) -> float:
    """Of the logits of `run` from the network's; where it gives classes: by how much the logit of a pixel's class is
    below the network's highest one there."""
    return difference_of(network, torch.from_numpy(run(images.numpy())), images)


@torch.no_grad()
def difference_of(network: StandaloneNetwork, found: Tensor, images: Tensor) -> float:
    """As `largest_difference`, of an output that is there."""
    if network.output != "classes":
        return float((found - network(images)).abs().max())
    logits = network.logits(images)
    return float((logits.amax(1) - logits.gather(1, found.long()[:, None])[:, 0]).max())


def _runner(network: StandaloneNetwork) -> Run:
    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(images)).numpy())

    return run


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A file beside `file` that takes its place when the block ends, and is gone when the block raises."""
    draft = file.with_name(f".{secrets.token_hex(4)}-{file.name}")
    try:
        yield draft
        os.replace(draft, file)
    except OSError as error:
        raise ValueError(f"--out {file} cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
