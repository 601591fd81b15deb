"""A latency lane: a queue of scored candidates before an actor that times them, one after another.

Nothing of ours may run on the device while a latency is measured. A lane with a whole GPU has it from Ray. Any other
one shares its node with the workers there: when `LatencySettings.block` candidates wait, or the caller has nothing
else to do, those workers get nothing new, finish what they have, and rest until the lane is empty. Workers of other
nodes go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from infra.ray_worker import Demand, Slot
from orchestrator.config import DEFAULT_LANE, LaneSettings, LatencySettings
from orchestrator.records import LATENCY, Candidate, Measurement, Result


@dataclass
class Lane:
    """One kind of device on which candidates are timed."""

    name: str
    slot: Slot
    block: int
    """Candidates for which the workers of the node rest."""
    pausing: bool = False
    """Whether they rest now."""
    waiting: deque[tuple[Candidate, Measurement]] = field(default_factory=deque)
    """What is scored, and timed in the lanes before this one."""

    @classmethod
    def of(cls, name: str, lane: LaneSettings, latency: LatencySettings) -> Lane:
        """An empty lane."""
        slot_name = "timer" if name == DEFAULT_LANE else f"timer-{name}"
        return cls(name, Slot(slot_name, Demand(0, lane.gpus, lane.resources)), latency.block)

    def sharers(self, slots: Sequence[Slot]) -> list[Slot]:
        """The workers that must rest while this lane measures."""
        if self.slot.demand.gpus >= 1:
            return []
        return [slot for slot in slots if slot.node is not None and slot.node == self.slot.node]

    def named(self, timing: Result) -> Result:
        """What the lane has measured, under names that tell it from other lanes': latency_ms@orin."""
        if self.name == DEFAULT_LANE or not isinstance(timing, Measurement):
            return timing
        metrics, timings_s = (
            {f"{key}@{self.name}" if key.startswith(LATENCY) else key: value for key, value in values.items()}
            for values in (timing.metrics, timing.timings_s)
        )
        return replace(timing, metrics=metrics, timings_s=timings_s)
