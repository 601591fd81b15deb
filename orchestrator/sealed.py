"""Small JSON objects that say whether they are whole: each carries the hash of what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any


def seal(body: Mapping[str, Any]) -> bytes:
    """The body as JSON, with its hash."""
    return json.dumps({**body, "sha256": _hash(body)}, indent=1).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The body in an object.

    Raises:
        ValueError: it is no JSON object, or something else than was sealed.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("torn or changed: it is not JSON") from None
    if not isinstance(body, dict):
        raise ValueError("torn or changed: it is no JSON object")
    if body.pop("sha256", None) != _hash(body):
        raise ValueError("torn or changed: its hash is not the one that it carries")
    return body


def _hash(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
