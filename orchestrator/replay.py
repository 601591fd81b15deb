"""An island's sampler and scheduler as they were, rebuilt from its journal: their state is never saved.

The journal's candidates are asked for again, one by one, and each must come out as it was written; its result then
takes the place of an evaluation. What follows continues as if nothing had happened. Why that is exact, in whatever
order the results came, is said in `scheduler`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
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
    seen: set[int] = set()
    for position, event in enumerate(events):
        difference = _misplaced(scheduler, position, event.candidate.number, seen) or _difference(
            event.candidate, scheduler.foresee(event.candidate.number)
        )
        if difference:
            raise ReplayMismatch(
                f"island {scheduler.island}, event {position} of {len(events)}: {difference}. The recipe, the code or "
                "a library's version has changed since the study was made: resume it with what made it"
            )
        scheduler.restore(event)
        seen.add(event.candidate.number)


def _misplaced(scheduler: Scheduler, position: int, number: int, seen: Set[int]) -> str:
    if scheduler.ordered and number != position:
        return f"the journal holds number {number} in its place"
    return f"the journal holds number {number} for the second time" if number in seen else ""


def _difference(written: Candidate, asked: Candidate | None) -> str:
    if asked is None:
        return f"the journal holds {written.architecture_id}, but the island ends before it, or asks for it later"
    for field in fields(Candidate):
        before, now = getattr(written, field.name), getattr(asked, field.name)
        if before != now:
            return f"{field.name} is {before!r} in the journal, {now!r} is asked for now"
    return ""
