"""Exported networks as ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from infra.exported import NetworkDescription, StandaloneNetwork

OPSET = 18
"""The one that torch's exporter writes without a conversion, and the oldest it has; TensorRT and OpenVINO read it."""
TRACED = (2, 3, 96, 160)
"""The shape at which a network is traced: no axis is 1, and no two features that are resampled into each other have the
same size there, so the graph resamples always, which is exact at any size."""
AXES = {"image": ("batch", "", "height", "width")}
"""The names of axes of any size."""

Run = Callable[[np.ndarray], np.ndarray]
"""From images, uint8 (B, 3, H, W), to a network's output."""


def write_onnx(network: StandaloneNetwork, description: NetworkDescription, file: Path) -> None:
    """Writes a network whose norms are folded, with the description as the model's metadata, into one file."""
    model = _traced(network)
    _name_axes(model, description)
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source each one comes from
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, description.to_metadata())
    model.doc_string = f"{description.study} {description.candidate}: {description.input} -> {description.output_form}"
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, file)


def _traced(network: StandaloneNetwork) -> onnx.ModelProto:
    image = torch.zeros(TRACED, dtype=torch.uint8)
    any_size = {axis: torch.export.Dim.DYNAMIC for axis, name in enumerate(AXES["image"]) if name}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[network.output],
            dynamic_shapes=(any_size,),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _name_axes(model: onnx.ModelProto, description: NetworkDescription) -> None:
    """Gives axes of any size names that a person can read."""
    sizes = ["height", "width"]
    if description.output == "coarse-logits":
        sizes = [f"{size}/{description.stride}" for size in sizes]
    if description.task == "classification":
        sizes = []
    channels = [] if description.output == "classes" else [""]
    for value, names in ((model.graph.input[0], AXES["image"]), (model.graph.output[0], ("batch", *channels, *sizes))):
        for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if name:
                axis.dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from users what torch's exporter says of itself and of packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def load_onnx(model: Path | bytes, threads: int = 0) -> tuple[Run, Mapping[str, str]]:
    """What runs a model on the CPU with so many threads (0: all cores), and the model's metadata."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        (output,) = session.run(None, {"image": images})
        return np.asarray(output)

    return run, session.get_modelmeta().custom_metadata_map
