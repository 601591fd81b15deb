"""The programs that a person starts; and for notebooks and other programs `load_study` and `load_network`.

    from jobs import load_study
    study = load_study("camvid-quick")  # a name in ./studies, a folder, or s3://bucket/prefix/study
    table = study.candidates().to_pandas()
    front = study.front("branches-2").to_pandas()  # without an island: of all
    architecture = study.architecture("branches-2/0")
    network = study.module("branches-2/0")  # an nn.Module: RGB images as uint8 in, logits out
    trials = study.retrained().to_pandas()

Importing this package imports nothing else; each function imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from infra.exported import StandaloneNetwork
    from jobs.notebook import LoadedStudy

__all__ = ["load_network", "load_study"]


def load_study(name: str, store: str = "studies", data_root: str | None = None) -> LoadedStudy:
    """The study of that name in the store, in the folder `name`, or at s3://bucket/prefix/study.

    data_root: where its data set lies, if elsewhere than its recipe says; only `module` reads it.

    Raises:
        StudyMissing: there is none.
        StoreError: the store cannot be read.
    """
    from jobs.notebook import LoadedStudy
    from jobs.study import Study

    return LoadedStudy(Study.at(name, store), data_root)


def load_network(file: str | Path) -> StandaloneNetwork:
    """The network that `archipelago export --format torch` wrote, in eval mode on the CPU; nothing is unpickled.

    It maps images, uint8 (batch, 3, height, width) of red, green and blue, to what it was exported with: logits
    float32 (batch, classes, height, width), classes uint8 (batch, height, width), or coarse logits.

    Raises:
        NetworkFileError: the file cannot be read, is no such file, or is damaged.
    """
    from infra import network_file

    network, _ = network_file.load_network(file)
    return network
