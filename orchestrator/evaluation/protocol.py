"""The evaluation protocol's digest: all that a score depends on besides weights and architecture, in 16 hex digits.

Computed where a worker lives, because only there all of it is known: the images as they were read, the device, the
threads, the versions of code and libraries.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import search_spaces
from orchestrator.config import EvaluationSettings
from orchestrator.records import Hardware
from search_spaces.base import Json, digest

if TYPE_CHECKING:
    import torch

    from search_spaces.data.images import ImageData

LIBRARIES = ("numpy", "pillow", "torch")
"""Whose versions may change a bit of a score."""


def network_protocol(
    space: Mapping[str, Json], settings: EvaluationSettings, data: ImageData, device: torch.device
) -> str:
    """The digest of scores of the space with these settings on this data set, computed in this process."""
    train, validation = data.train, data.validation
    return digest(
        {
            "space": space,
            "settings": settings.model_dump(mode="json"),
            "images": [[split.fingerprint, list(split.size), len(split)] for split in (train, validation)],
            "classes": [data.task, list(data.class_names)],
            "normalisation": [list(data.mean), list(data.std)],
            "device": _device_kind(device),
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
            "code": code_digest(),
        }
    )


@cache
def code_digest() -> str:
    """The digest of the code that scores depend on: search spaces and evaluation."""
    hasher = sha256()
    for folder in (Path(search_spaces.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            hasher.update(f"{file.relative_to(folder).as_posix()}\0".encode())
            hasher.update(sha256(file.read_bytes()).digest())
    return hasher.hexdigest()[:16]


def _device_kind(device: torch.device) -> list[Json]:
    """What chooses the kernels: model and capability; on a CPU also the threads, over which sums are split."""
    import torch

    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # not in torch's types
        return ["cuda", torch.cuda.get_device_name(device), torch.version.cuda, cudnn]
    return [device.type, _processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def hardware(device: torch.device | None = None) -> Hardware:
    """The device, or the machine's processors, for people."""
    if device is not None and device.type == "cuda":
        import torch

        gpu = torch.cuda.get_device_properties(device)
        return Hardware(gpu.name, gpu.total_memory)
    return Hardware(_processor(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _processor() -> str:
    """The processor's model as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
