"""From the address of a store to the store: the one place that knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from infra.file_store import FileStore

if TYPE_CHECKING:
    from infra.s3_store import S3Store

STUDIES = "studies"
"""The store where none is named: a folder."""
StudyStore: TypeAlias = "FileStore | S3Store"
"""A `Store` that can be probed before a study begins, and says which studies it holds."""


def make_store(address: str) -> StudyStore:
    """The store at s3://bucket/prefix, or in a folder.

    Raises:
        ValueError: the address is neither.
    """
    scheme, separator, _ = address.partition("://")
    if not separator:
        return FileStore(Path(address))
    if scheme != "s3":
        raise ValueError(f"there is no store of the kind {scheme}://: give a folder, or s3://bucket/prefix")
    from infra.s3_store import S3Store

    return S3Store(address)
