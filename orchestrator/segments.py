"""A journal segment as bytes: a Parquet table of events, whose metadata says which segment comes before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.records import Candidate, Event, Failure, FailureKind, Measurement, Result, Source

SCHEMA = pa.schema(
    [
        ("island", pa.string()),
        ("number", pa.int32()),
        ("genotype", pa.list_(pa.int32())),
        ("architecture_id", pa.string()),
        ("status", pa.string()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("timings_s", pa.map_(pa.string(), pa.float64())),
        ("worker", pa.string()),
        ("failure_kind", pa.string()),
        ("failure_message", pa.string()),
        ("failure_traceback", pa.string()),
        ("attempts", pa.int32()),
        ("source", pa.string()),
    ]
)
"""One row per event. The failure's columns are null where there is a measurement, and the other way round."""

_WITHOUT_SOURCE = pa.schema([field for field in SCHEMA if field.name != "source"])
"""Of journals that were written when there was no memo."""

_PREVIOUS, _EPOCH = b"archipelago.previous", b"archipelago.epoch"


@dataclass(frozen=True)
class Segment:
    """A piece of an island's journal."""

    events: tuple[Event, ...]
    previous: str | None
    """Key of the segment before; None: this is the first."""


def writable(event: Event) -> Event:
    """The event with what UTF-8 cannot hold spelled out: an odd byte in a message must not stop a study."""
    result = event.result
    if isinstance(result, Failure):
        return replace(event, result=Failure(result.kind, _text(result.message), _text(result.traceback)))
    return replace(event, result=replace(result, worker=_text(result.worker)))


def to_bytes(segment: Segment, epoch: int = 0) -> bytes:
    """The segment as a Parquet file, which is of the driver with that epoch and of no other one."""
    schema = SCHEMA.with_metadata({_PREVIOUS: (segment.previous or "").encode(), _EPOCH: str(epoch).encode()})
    table = pa.Table.from_pylist([_row(event) for event in segment.events], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def from_bytes(data: bytes) -> Segment:
    """The segment in a Parquet file.

    Raises:
        ValueError: the bytes are no such file.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            table = file.read(use_threads=False)
    except pa.ArrowException as error:
        raise ValueError(f"not a Parquet file: {error}") from error
    metadata = table.schema.metadata or {}
    if _PREVIOUS not in metadata or not (table.schema.equals(SCHEMA) or table.schema.equals(_WITHOUT_SOURCE)):
        raise ValueError(f"not a journal segment: its columns are {table.schema.names}")
    return Segment(tuple(_event(row) for row in table.to_pylist()), metadata[_PREVIOUS].decode() or None)


def to_table(events: Sequence[Event]) -> pa.Table:
    """The events as a table of `SCHEMA`."""
    return pa.Table.from_pylist([_row(event) for event in events], schema=SCHEMA)


def _row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {
        "island": event.candidate.island,
        "number": event.candidate.number,
        "genotype": list(event.candidate.genotype),
        "architecture_id": event.candidate.architecture_id,
        "status": event.status,
        "attempts": event.attempts,
    }
    if isinstance(event.result, Measurement):
        measured = event.result
        return row | {
            "metrics": list(measured.metrics.items()),
            "timings_s": list(measured.timings_s.items()),
            "worker": measured.worker,
            "source": measured.source.value,
        }
    failure = event.result
    return row | {
        "failure_kind": failure.kind.value,
        "failure_message": failure.message,
        "failure_traceback": failure.traceback,
    }


def _event(row: Mapping[str, Any]) -> Event:
    candidate = Candidate(row["island"], row["number"], tuple(row["genotype"]), row["architecture_id"])
    result: Result
    if row["status"] == "measured":
        source = Source(row.get("source", Source.WORKER))
        result = Measurement(dict(row["metrics"]), dict(row["timings_s"]), row["worker"], source)
    else:
        result = Failure(FailureKind(row["failure_kind"]), row["failure_message"], row["failure_traceback"])
    return Event(candidate, result, row["attempts"])


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
