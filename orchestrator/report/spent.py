"""What a study has spent and lost: seconds of its workers, and the candidates that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.records import LATENCY, NEXT_WORKER, Event, Failure, Measurement, Source


def own_timings(event: Event) -> Mapping[str, float]:
    """Seconds by stage that this study has spent on a candidate: what a memo gave cost nothing."""
    if not isinstance(event.result, Measurement):
        return {}
    known = event.result.source is Source.MEMO
    return {name: s for name, s in event.result.timings_s.items() if not known or name.startswith(LATENCY)}


def busy(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Seconds by stage and candidates of each worker."""
    workers: dict[str, dict[str, Any]] = {}
    for event in events:
        places = event.result.worker.split(NEXT_WORKER) if isinstance(event.result, Measurement) else [""]
        accuracy, *lanes = places
        met = set()
        for stage, spent_s in own_timings(event).items():
            name = accuracy
            if stage.startswith(LATENCY) and lanes:
                name = lanes.pop(0) if len(lanes) > 1 else lanes[0]
            row = workers.setdefault(name, {"worker": name or "this process", "stages": {}, "candidates": 0})
            row["stages"][stage] = row["stages"].get(stage, 0.0) + spent_s
            row["candidates"] += name not in met
            met.add(name)
    for row in workers.values():
        row["stages"] = {stage: round(spent_s, 2) for stage, spent_s in row["stages"].items()}
    return sorted(workers.values(), key=lambda row: str(row["worker"]))


def failures(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The failures, alike ones together, the commonest first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for index, event in enumerate(events):
        if isinstance(event.result, Failure):
            kind, message = event.result.kind.value, event.result.message
            row = {"kind": kind, "message": message, "traceback": event.result.traceback, "candidates": []}
            found.setdefault((kind, message), row)["candidates"].append(index)
    return sorted(found.values(), key=lambda row: -len(row["candidates"]))
