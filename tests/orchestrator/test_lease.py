"""The lease on a store in memory."""

from __future__ import annotations

import pytest

from tests.contracts.lease_contract import LeaseContract
from tests.doubles import MemoryStore


class TestLease(LeaseContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
