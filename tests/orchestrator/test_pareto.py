import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from orchestrator.pareto import crowding, hypervolume, ranks


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
        ranks([0, 1])


def test_ranks_as_drawn() -> None:
    """
    3 | 0 1 2
    2 | . 0 1      each number is the rank of the point at its place; . is no point
    1 | . . 0
    0 +------
    """
    F = [(0, 3), (1, 3), (2, 3), (1, 2), (2, 2), (2, 1), (1, 2)]
    assert ranks(F).tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert ranks([[3.0], [1.0], [3.0], [2.0]]).tolist() == [2, 0, 2, 1]
    assert ranks(np.empty((0, 2))).tolist() == []


@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), min_size=1, max_size=40)))
def test_without_a_front_the_next_one_is_the_front(rows: list[tuple[int, ...]]) -> None:
    F, left = np.array(rows, dtype=float), np.arange(len(rows))
    found, rank = ranks(F), 0
    while len(left):
        kept = np.array([not any((one <= row).all() and (one < row).any() for one in F[left]) for row in F[left]])
        assert set(np.flatnonzero(found == rank)) == set(left[kept])
        left, rank = left[~kept], rank + 1


def test_crowding_is_the_room_between_neighbours() -> None:
    F = np.array([(0, 10), (1, 6), (4, 5), (10, 0), (4, 5)], dtype=float)
    assert crowding(F).tolist() == pytest.approx([np.inf, 0.4 + 0.5, 0.9 + 0.6, np.inf, 0.0])
    assert crowding(F[:1]).tolist() == [np.inf]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=40, unique=True))
def test_crowding_is_what_pymoo_has(rows: list[tuple[int, int]]) -> None:
    F = np.array(rows, dtype=float)
    F = F[ranks(F) == 0]
    expected = RankAndCrowding().do(
        Problem(n_var=1, n_obj=2), Population.new(F=F), n_survive=len(F), random_state=np.random.default_rng(0)
    )
    by_row = {tuple(one.F): one.get("crowding") for one in expected}
    ours = crowding(F)
    if len(F) > 2:
        assert ours == pytest.approx([by_row[tuple(row)] * 2 for row in F])
