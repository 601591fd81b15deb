"""Exported networks as safetensors files: folded weights, and their description in the header. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from infra.exported import NetworkDescription, StandaloneNetwork
from infra.weights import content_digest
from orchestrator.evaluation.modules import fold_norms
from search_spaces.subnet import Subnet

DIGEST = "tensors_digest"
"""The header's key for the SHA-256 of the tensors."""


class NetworkFileError(ValueError):
    """A file that is no exported network, or a damaged one."""


def save_network(network: StandaloneNetwork, description: NetworkDescription, file: Path) -> None:
    """Writes a network whose norms are folded, so that `load_network` gives it back."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.subnet.state_dict().items()}
    file.write_bytes(save(tensors, {**description.to_metadata(), DIGEST: _digest(tensors)}))


def load_network(file: str | Path) -> tuple[StandaloneNetwork, NetworkDescription]:
    """The network in a file that `archipelago export --format torch` wrote, on the CPU and in eval mode.

    Raises:
        NetworkFileError: the file cannot be read, is no such file, or is damaged.
    """
    try:
        metadata, tensors = _read(file)
        digest = metadata.pop(DIGEST, None)
        description = NetworkDescription.from_metadata(metadata)
        subnet = _empty(description)
        _check(tensors, subnet.state_dict())
        if _digest(tensors) != digest:
            raise ValueError(f"its tensors do not have the SHA-256 that {DIGEST} says, {digest}")
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NetworkFileError(f"{file} is not a network that can be loaded: {reason}; export it again") from None
    subnet.load_state_dict(tensors, assign=True)
    network = StandaloneNetwork(subnet, description.mean, description.std, description.output)
    return network.eval(), description


def _read(file: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata() or {}), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def _empty(description: NetworkDescription) -> Subnet:
    """The network without storage: whatever a file claims costs no memory before its tensors are compared with it.

    Raises:
        ValueError: the space does not hold the architecture.
    """
    space = description.network_space()
    program = space.lower(space.architecture_from_json(description.architecture))
    with torch.device("meta"):
        subnet = Subnet(program, {step.id: space.build(step.operation) for step in program.steps}).eval()
        fold_norms(subnet)
    return subnet


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in sorted(found.keys() | expected.keys()):
        theirs, ours = (None if one is None else _form(one) for one in (found.get(name), expected.get(name)))
        if theirs != ours:
            raise ValueError(
                f"tensor {name} is {theirs or 'missing'}, its architecture has {ours or 'none of that name'}"
            )


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    return content_digest({name: tensor.numpy() for name, tensor in tensors.items()})
