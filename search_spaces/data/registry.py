"""Data sets by name, and the one door through which they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search_spaces.data.ade20k import load_ade20k
from search_spaces.data.camvid import load_camvid
from search_spaces.data.cifar10 import load_cifar10
from search_spaces.data.cityscapes import load_cityscapes
from search_spaces.data.folder import load_folder
from search_spaces.data.images import ImageData
from search_spaces.data.settings import DataSettings
from search_spaces.data.storage import Storage
from search_spaces.data.synthetic import load_synthetic

LOADERS: dict[str, Callable[[Any, Storage], ImageData]] = {
    "synthetic": load_synthetic,
    "camvid": load_camvid,
    "cityscapes": load_cityscapes,
    "ade20k": load_ade20k,
    "folder": load_folder,
    "cifar10": load_cifar10,
}
"""Each takes the settings of its own name."""


def load(settings: DataSettings, storage: Storage | None = None) -> ImageData:
    """The data set that `settings` describe; decoded splits above a memory limit lie in the cache folder.

    Raises:
        DataError: the data set is missing or not as it must be: which file, what was found, what is allowed.
    """
    return LOADERS[settings.name](settings, storage or Storage.default())
