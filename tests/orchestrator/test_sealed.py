"""Sealed objects: what was written is read, and no changed byte goes unnoticed."""

from __future__ import annotations

import json

import pytest

from orchestrator.sealed import seal, unseal

BODY = {"epoch": 3, "islands": {"reef": {"segment": None, "events": 0}}, "share": 0.25}


def test_what_was_sealed_is_read() -> None:
    assert unseal(seal(BODY)) == BODY


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_that_changes_is_noticed(bit: int) -> None:
    data = seal(BODY)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]
        with pytest.raises(ValueError, match="torn or changed"):
            unseal(changed)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"3", json.dumps(BODY).encode(), seal(BODY)[:-1], b"[" * 100_000])
def test_what_was_not_sealed_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="torn or changed"):
        unseal(data)
