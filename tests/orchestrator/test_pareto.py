import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.pareto import hypervolume, non_dominated


def test_a_staircase_has_the_area_of_its_steps() -> None:
    """
    4 |          . . . . R        points (0, 3), (1, 1), (3, 0); reference R = (4, 4)
    3 x . . . . . . . .        area = 1*1 + 2*3 + 1*4 = 11
    1 |   x
    0 +-------x----
    """
    assert hypervolume([(0, 3), (1, 1), (3, 0)], (4, 4)) == 1 + 2 * 3 + 1 * 4


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_the_long_staircase(steps: int) -> None:
    F = [(k, steps - 1 - k) for k in range(steps)]
    assert hypervolume(F, (steps, steps)) == steps * (steps + 1) / 2


def test_a_corner_in_three_dimensions() -> None:
    assert hypervolume([(0, 0, 1), (1, 1, 0)], (2, 2, 2)) == 2 * 2 * 1 + 1 * 1 * 2 - 1 * 1 * 1


def test_dominated_points_and_points_beyond_the_reference_add_nothing() -> None:
    F = [(1, 1), (2, 2), (1, 1), (0, 9), (4, 0)]
    assert hypervolume(F, (4, 4)) == 9
    assert hypervolume([(5, 5)], (4, 4)) == 0
    assert hypervolume(np.empty((0, 2)), (4, 4)) == 0


def test_one_objective_is_a_length() -> None:
    assert hypervolume([[3.0], [1.0]], (4,)) == 3


def test_dominance_as_drawn() -> None:
    F = [(0, 3), (1, 1), (1, 1), (1, 2), (3, 0), (3, 3)]
    assert non_dominated(F).tolist() == [True, True, True, False, True, False]
    assert non_dominated([]).tolist() == []
    assert non_dominated([[2.0], [1.0], [1.0]]).tolist() == [False, True, True]


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25))
def test_non_dominated_is_the_definition(F: list[tuple[int, int, int]]) -> None:
    def dominates(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    assert non_dominated(F).tolist() == [not any(dominates(a, b) for a in F) for b in F]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="row 1"):
        non_dominated([(0, 1), (value, 0)])
    with pytest.raises(ValueError, match="row 1"):
        hypervolume([(0, 1), (value, 0)], (2, 2))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="2 coordinates, got 3"):
        hypervolume([(0, 1)], (2, 2, 2))
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        non_dominated([0, 1])
