"""Many programs as one: every distinct step once, in an order that frees activations early.

Merging is common-subexpression elimination, and it is exact: a step's id is the hash of all that its result depends
on, so two programs that hold the same id would compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.base import IMAGE, Program, Step


@dataclass(frozen=True)
class Instruction:
    """One step, and what nobody reads after it."""

    step: Step
    frees: tuple[str, ...]
    """Ids of results that nobody reads after this one, its own among them where it is an output that nobody reads;
    `IMAGE` is never among them."""


@dataclass(frozen=True)
class Schedule:
    """Distinct steps of several programs, depth first: a program's own steps directly before its output."""

    instructions: tuple[Instruction, ...]
    outputs: tuple[str, ...]
    """The output step of each program, in the order of the programs."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(instruction.step for instruction in self.instructions)


def merge(programs: Sequence[Program]) -> Schedule:
    """The programs' outputs computed together."""
    steps = {step.id: step for program in programs for step in program.steps}
    order: dict[str, Step] = {}

    def visit(name: str) -> None:
        if name != IMAGE and name not in order:
            for source in steps[name].inputs:
                visit(source)
            order[name] = steps[name]

    for program in programs:
        visit(program.output)
    last_reader = {name: name for name in order}
    last_reader |= {source: step.id for step in order.values() for source in step.inputs}
    last_reader[IMAGE] = IMAGE  # kept: the caller's
    instructions = (
        Instruction(step, tuple(s for s in (*dict.fromkeys(step.inputs), step.id) if last_reader[s] == step.id))
        for step in order.values()
    )
    return Schedule(tuple(instructions), tuple(program.output for program in programs))
