"""The environment of tests that use outside systems in their own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def environment(outside: dict[str, str]) -> Iterator[None]:
    """`outside` as this process's environment, for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in outside.items():
            patch.setenv(name, value)
        yield
