import numpy as np
import pytest

from orchestrator.pareto import hypervolume


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="row 1"):
        hypervolume([(0, 1), (value, 0)], (2, 2))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="2 coordinates, got 3"):
        hypervolume([(0, 1)], (2, 2, 2))
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        hypervolume([0, 1], (2,))
