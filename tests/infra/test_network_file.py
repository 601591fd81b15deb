"""Exported networks as files: what is loaded is what was saved, and what is not one is refused in a sentence."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.exported import OUTPUTS, NetworkDescription, Output, StandaloneNetwork
from infra.network_file import NetworkFileError, load_network, save_network
from infra.onnx_file import load_onnx, write_onnx
from orchestrator.config import EvaluationSettings
from orchestrator.evaluation.modules import fold_norms
from search_spaces.hyctas.settings import HyctasSettings
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.subnet import Subnet

SIZES = [(1, 48, 64), (3, 37, 51), (1, 64, 64), (1, 1, 1)]


def network(settings: HyctasSettings, output: Output = "logits") -> tuple[StandaloneNetwork, NetworkDescription]:
    """A network whose weights and statistics are all random, folded, and its description."""
    space = HyctasSpace(settings, 3)
    architecture = space.decode("branches-2", space.sample("branches-2", np.random.default_rng(1)))
    program = space.lower(architecture)
    torch.manual_seed(0)
    subnet = Subnet(program, {step.id: space.build(step.operation) for step in program.steps}).eval()
    for name, tensor in subnet.state_dict().items():
        if tensor.dim() < 2 and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("var", "weight")) else 0))
    fold_norms(subnet)
    description = NetworkDescription(
        study="drawn",
        candidate="branches-2/0",
        architecture_id="0123456789abcdef",
        architecture=architecture.to_json(),
        space=settings,
        class_names=("road", "2", "trüb"),
        ignore_index=255,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        output=output,
        output_form=OUTPUTS["segmentation"][output],
        stride=8,
        trained="supernet",
        weights="ab" * 32,
        miou=1 / 3,
        iou={"road": 0.5},
        scored_images=4,
        scored_size=(48, 64),
        validation="0123",
        evaluation=EvaluationSettings(),
        macs=10,
        params=20,
        versions={"torch": torch.__version__},
    )
    return StandaloneNetwork(subnet, description.mean, description.std, output).eval(), description


def images(size: tuple[int, int, int]) -> torch.Tensor:
    batch, height, width = size
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("family", ["searching", "published"])
@pytest.mark.parametrize("model_type", [0, 1, 2])
@torch.no_grad()
def test_a_loaded_network_is_the_one_that_was_saved(family: Any, model_type: Any, tmp_path: Path) -> None:
    saved, description = network(HyctasSettings(layers=4, filters=1, family=family, model_type=model_type))
    save_network(saved, description, tmp_path / "network.safetensors")
    loaded, told = load_network(tmp_path / "network.safetensors")
    assert told == description
    assert not loaded.training
    for size in SIZES:
        image = images(size)
        torch.testing.assert_close(loaded(image), saved(image), rtol=1e-5, atol=1e-5)
        assert loaded(image).shape == (size[0], 3, *size[1:])


@torch.no_grad()
def test_a_network_normalises_and_gives_what_it_was_asked_for() -> None:
    made, _ = network(HyctasSettings(layers=4, filters=1))
    image = images((2, 37, 51))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    coarse = made.subnet((image / 255 - mean) / std)
    torch.testing.assert_close(made.coarse_logits(image), coarse, rtol=0, atol=1e-4)
    assert coarse.shape == (2, 3, 5, 7)
    made.output = "classes"
    assert torch.equal(made(image).long(), made.logits(image).argmax(1))
    assert made(image).dtype == torch.uint8


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS["segmentation"])
@pytest.mark.parametrize("family", ["searching", "published"])
@torch.no_grad()
def test_onnx_computes_the_same_at_any_size(output: Output, family: Any, tmp_path: Path) -> None:
    settings = HyctasSettings(layers=5, filters=2, family=family, model_type=2 if family == "published" else 0)
    made, description = network(settings, output)
    write_onnx(made, description, tmp_path / "network.onnx")
    run, metadata = load_onnx(tmp_path / "network.onnx", threads=1)
    assert NetworkDescription.from_metadata(metadata) == description
    for size in [*SIZES, (1, 180, 240), (2, 181, 243)]:
        image = images(size)
        found, expected = torch.from_numpy(run(image.numpy())), made(image)
        assert found.dtype == expected.dtype
        if output == "classes":
            assert (found == expected).double().mean() > 0.999
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def header(file: Path) -> dict[str, str]:
    data = file.read_bytes()
    metadata: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return metadata


def with_metadata(**changes: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        save_file(load_file(file), file, {**header(file), **changes})

    return spoil


def without_metadata(file: Path) -> None:
    save_file(load_file(file), file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps({"weights": [1.0]}))


def huge_header(file: Path) -> None:
    file.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def without_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file, header(file))


def with_another_shape(file: Path) -> None:
    tensors = load_file(file)
    name = sorted(name for name in tensors if tensors[name].dim() == 4 and len(tensors[name]) > 1)[0]
    tensors[name] = tensors[name][:1].contiguous()
    save_file(tensors, file, header(file))


def with_doubles(file: Path) -> None:
    save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file, header(file))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "No such file"),
        (cut, "is not a network that can be loaded"),
        (flipped, "do not have the SHA-256"),
        (pickled, "is not a network that can be loaded"),
        (huge_header, "is not a network that can be loaded"),
        (without_metadata, "is not a network that can be loaded"),
        (without_a_tensor, "is missing, its architecture has float32"),
        (with_another_shape, "its architecture has float32"),
        (with_doubles, "is float64"),
        (with_metadata(format="other/9"), "format"),
        (with_metadata(surprise="1"), "surprise"),
        (with_metadata(stride="["), "stride must be JSON"),
        (with_metadata(architecture="[" * 200_000), "architecture must be JSON"),
        (with_metadata(architecture="{}"), "an architecture has the fields"),
        (with_metadata(space='{"name": "toy"}'), "must be one of hyctas, hrnas"),
        (with_metadata(space='{"name": "hyctas", "layers": 4, "filters": 100000}'), "filters"),
        (with_metadata(class_names='["one"]'), "its architecture has float32"),
        (with_metadata(mean="[0.1, NaN, 0.1]"), "mean"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_sentence(spoil: Any, words: str, tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    save_network(*network(HyctasSettings(layers=4, filters=1)), file)
    spoil(file)
    with pytest.raises(NetworkFileError, match="export it again") as refused:
        load_network(file)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
