"""How a training can end before its last step, without anybody's mistake."""

from __future__ import annotations


class TrainingStopped(RuntimeError):
    """It ended on request; its last checkpoint is in the store."""


class TrainingFailed(RuntimeError):
    """Its processes died again and again, or there was no room for them."""
