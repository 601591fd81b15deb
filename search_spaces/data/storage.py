"""Where decoded images are kept: in memory, or above a limit in files of the cache folder.

Those files are mapped: the processes of a machine share them, and the system may drop them from memory at any time.
Cityscapes at 1024 x 2048 takes 25 GB of disk and little memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from search_spaces.data.settings import DataError

THREADS = 4
"""That decode files: Pillow does without the interpreter's lock."""
FORMAT = 1
"""Of cache files: part of their names."""

Shapes = Mapping[str, tuple[int, ...]]
Fill = Callable[[Mapping[str, Tensor]], str]
"""Writes into tensors, by name, and returns the fingerprint of what it wrote."""


@dataclass(frozen=True)
class Storage:
    """Where decoded splits are kept."""

    cache_folder: Path
    memory_limit_bytes: int = 4 * 2**30
    """Decoded bytes of a split up to which it is kept in memory."""

    @classmethod
    def default(cls) -> Storage:
        """`ARCHIPELAGO_CACHE`, else `XDG_CACHE_HOME`/archipelago, else ~/.cache/archipelago."""
        if own := os.environ.get("ARCHIPELAGO_CACHE"):
            return cls(Path(own))
        return cls(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archipelago")

    def filled(self, shapes: Shapes, fill: Fill, described: Callable[[], str]) -> tuple[dict[str, Tensor], str]:
        """uint8 tensors of these shapes, by name, as `fill` wrote them, and their fingerprint.

        described: what the tensors follow from; equal descriptions, equal tensors.

        Raises:
            DataError: the disk is too full.
        """
        if _bytes(shapes) <= self.memory_limit_bytes:
            tensors = {name: torch.empty(shape, dtype=torch.uint8) for name, shape in shapes.items()}
            return tensors, fill(tensors)
        folder = self._cached(shapes, fill, described())
        return _mapped(folder, shapes, shared=False), (folder / "fingerprint").read_text()

    def _cached(self, shapes: Shapes, fill: Fill, described: str) -> Path:
        """The folder of the tensors, filled unless it was; another process may fill it at the same time."""
        folder = self.cache_folder / "decoded" / hashlib.sha256(described.encode()).hexdigest()[:32]
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        needed, free = _bytes(shapes), shutil.disk_usage(folder.parent).free
        if needed > free:
            raise DataError(f"{folder.parent} has {free / 1e9:.1f} GB free, the decoded images need "
                            f"{needed / 1e9:.1f} GB: set ARCHIPELAGO_CACHE to a folder with room, or use smaller "
                            f"images")  # fmt: skip
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unfinished = Path(scratch) / "split"
            unfinished.mkdir()
            (unfinished / "fingerprint").write_text(fill(_mapped(unfinished, shapes, shared=True)))
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was faster, with the same pixels
                    raise
        return folder


def version_of(path: Path) -> tuple[str, int, int]:
    """What tells one version of a file from another."""
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _bytes(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def _mapped(folder: Path, shapes: Shapes, shared: bool) -> dict[str, Tensor]:
    return {
        name: torch.from_file(
            str(folder / name), shared=shared, size=torch.Size(shape).numel(), dtype=torch.uint8
        ).view(shape)
        for name, shape in shapes.items()
    }
