"""How people see metrics and islands: words and colours."""

from __future__ import annotations

from search_spaces.looks import OKABE_ITO

COLOURS = OKABE_ITO
"""Of islands, in order."""
LABELS = {
    "miou": "mIoU",
    "accuracy": "accuracy",
    "top5": "top-5 accuracy",
    "latency_ms": "latency (ms)",
    "macs": "multiply-adds",
    "params": "parameters",
}
"""Metrics in words."""
