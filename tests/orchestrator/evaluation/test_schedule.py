"""Merging, over random programs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evaluation.schedule import merge
from search_spaces.base import IMAGE, Operation, Program, ProgramBuilder


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program of up to twelve steps; few operations, so that programs have steps in common."""
    build, made = ProgramBuilder(), [IMAGE]
    for _ in range(draw(st.integers(1, 12))):
        inputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
        made.append(build.add(Operation.of(draw(st.sampled_from("abc"))), *inputs))
    return build.program(draw(st.sampled_from(made[1:])))


def needed(program: Program) -> set[str]:
    """Steps on which the output depends."""
    steps, waiting, found = {step.id: step for step in program.steps}, [program.output], set()
    while waiting:
        name = waiting.pop()
        if name != IMAGE and name not in found:
            found.add(name)
            waiting += steps[name].inputs
    return found


@given(st.lists(programs(), min_size=1, max_size=5))
def test_each_distinct_step_is_done_once_after_its_inputs_and_freed_after_its_last_reader(batch: list[Program]) -> None:
    schedule = merge(batch)
    assert schedule.outputs == tuple(program.output for program in batch)
    ids = [step.id for step in schedule.steps]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set().union(*map(needed, batch))
    held = {IMAGE}
    for instruction in schedule.instructions:
        assert set(instruction.step.inputs) <= held, "an input is not there, or was freed too early"
        held.add(instruction.step.id)
        assert len(set(instruction.frees)) == len(instruction.frees)
        assert set(instruction.frees) <= held - {IMAGE}
        held -= set(instruction.frees)
    assert held == {IMAGE}, "what nobody reads any more is held"


@given(st.lists(programs(), min_size=2, max_size=4))
def test_a_program_merged_with_itself_costs_nothing(batch: list[Program]) -> None:
    assert merge([*batch, *batch]).steps == merge(batch).steps


@given(programs(), st.lists(programs(), max_size=3))
def test_the_first_programs_own_steps_come_directly_before_its_output(first: Program, others: list[Program]) -> None:
    steps = merge([first, *others]).steps
    assert {step.id for step in steps[: len(needed(first))]} == needed(first)
    assert steps[len(needed(first)) - 1].id == first.output


def test_no_programs_are_an_empty_schedule() -> None:
    assert merge([]).instructions == merge([]).outputs == ()
