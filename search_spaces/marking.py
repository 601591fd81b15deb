"""Programs whose operations bear a mark, so that steps which compute the same can have different weights."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.base import Operation, Program, Step


def marked(program: Program, mark: Callable[[Step], tuple[str, str]]) -> Program:
    """The program with one more argument, `mark(step)`, at the end of each step's operation."""
    names: dict[str, str] = {}
    steps = []
    for step in program.steps:
        inputs = tuple(names.get(name, name) for name in step.inputs)
        operation = Operation(step.operation.name, (*step.operation.arguments, mark(step)))
        steps.append(Step(operation, inputs))
        names[step.id] = steps[-1].id
    return Program(tuple(steps), names[program.output], tuple(names[name] for name in program.auxiliary))


def unmarked(operation: Operation) -> Operation:
    """The operation without its mark."""
    return Operation(operation.name, operation.arguments[:-1])
