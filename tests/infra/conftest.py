"""Homes of their own for the outside systems, and paths that are short enough for Ray's sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment for programs of others: nothing of the user's is read or written, nothing is reported."""
    short = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    variables = {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "RAY_TMPDIR": str(short),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    yield {**os.environ, **variables}
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(outside: dict[str, str]) -> Iterator[None]:
    """`outside` as this process's environment, for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in outside.items():
            patch.setenv(name, value)
        yield
