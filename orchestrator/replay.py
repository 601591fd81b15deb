"""An island's sampler and scheduler as they were, rebuilt from its journal: their state is never saved.

The journal's candidates are asked for again, one by one, and each must come out as it was written; its result then
takes the place of an evaluation. What follows continues as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from orchestrator.records import Candidate, Event
from orchestrator.scheduler import Scheduler


class ReplayMismatch(RuntimeError):
    """The journal holds something else than this search asks for: it was made by another one."""


def replay(scheduler: Scheduler, events: Sequence[Event]) -> None:
    """Brings a fresh scheduler, with its fresh sampler, to where the journal ends.

    Raises:
        ReplayMismatch: a candidate differs from the journal's; the message names event and difference.
    """
    assert scheduler.asked == 0, f"island {scheduler.island} has asked for {scheduler.asked} candidates already"
    for position, event in enumerate(events):
        candidate = scheduler.take()
        difference = _difference(position, event.candidate, candidate)
        if difference:
            raise ReplayMismatch(
                f"island {scheduler.island}, event {position} of {len(events)}: {difference}. The recipe, the code or "
                "a library's version has changed since the study was made: resume it with what made it"
            )
        scheduler.restore(event)


def _difference(position: int, written: Candidate, asked: Candidate | None) -> str:
    if written.number != position:
        return f"the journal holds number {written.number} in its place"
    if asked is None:
        return f"the journal holds {written.architecture_id}, but the island ends before it"
    for field in fields(Candidate):
        before, now = getattr(written, field.name), getattr(asked, field.name)
        if before != now:
            return f"{field.name} is {before!r} in the journal, {now!r} is asked for now"
    return ""
