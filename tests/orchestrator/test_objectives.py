import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import ObjectiveSettings
from orchestrator.objectives import ObjectiveError, Objectives
from orchestrator.records import Failure, FailureKind, Measurement


def objectives(*settings: dict[str, object]) -> Objectives:
    return Objectives.from_settings([ObjectiveSettings.model_validate(one) for one in settings])


BOTH = ({"name": "miou"}, {"name": "latency_ms", "at_most": 20.0})


def test_everything_is_minimised() -> None:
    scores = objectives(*BOTH).scores(Measurement({"miou": 0.5, "latency_ms": 10.0}))
    assert scores.minimised == (-0.5, 10.0)
    assert scores.violation == 0


def test_violations_are_shares_of_the_limits() -> None:
    limited = objectives({"name": "miou", "at_least": 0.4}, {"name": "latency_ms", "at_most": 20.0})
    assert limited.scores(Measurement({"miou": 0.4, "latency_ms": 20.0})).violation == 0
    assert limited.scores(Measurement({"miou": 0.3, "latency_ms": 30.0})).violation == pytest.approx(0.25 + 0.5)


def test_hypervolume_is_a_share_of_the_box_from_ideal_to_reference() -> None:
    box = objectives({"name": "miou", "reference": 0.2}, {"name": "macs", "reference": 1e9})
    assert box.hypervolume(np.array([[-1.0, 0.0]])) == pytest.approx(1)
    assert box.hypervolume(np.array([[-0.6, 5e8]])) == pytest.approx(0.5 * 0.5)
    assert box.hypervolume(np.empty((0, 2))) == 0


def test_the_reference_point_is_the_recipes_or_the_limit_or_wide() -> None:
    stated = objectives({"name": "macs", "at_most": 5e9, "reference": 8e9}, {"name": "latency_ms", "at_most": 20})
    assert [one.reference for one in stated.each] == [8e9, 20]
    assert [one.reference for one in objectives({"name": "miou"}, {"name": "params"}).each] == [0, 1e9]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "miou", "at_least": 1.2}, r"objectives.miou.at_least must be <= 1, got 1.2"),
        ({"name": "miou", "at_most": -0.1}, r"objectives.miou.at_most must be >= 0, got -0.1"),
        ({"name": "miou", "reference": 1.0}, r"objectives.miou.reference must be < 1, got 1.0"),
        ({"name": "macs", "at_most": 0}, r"objectives.macs.at_most must be > 0, got 0"),
        ({"name": "macs", "reference": -1}, r"objectives.macs.reference must be > 0, got -1"),
        ({"name": "params", "at_most": 5, "at_least": 6}, "at_least 6.0 is above at_most 5.0"),
    ],
)
def test_what_nothing_can_satisfy_is_said(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ObjectiveError, match=words):
        objectives(settings)


@given(
    st.dictionaries(st.sampled_from(["miou", "latency_ms", "iou/Sky"]), st.floats(), min_size=3),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.sampled_from(["miou", "latency_ms", "iou/Sky"]),
)
def test_what_is_not_finite_anywhere_is_a_failure(metrics: dict[str, float], value: float, where: str) -> None:
    admitted = objectives(*BOTH).admit(Measurement({**metrics, where: value}))
    assert isinstance(admitted, Failure)
    assert admitted.kind is FailureKind.NON_FINITE
    assert where in admitted.message


def test_an_objective_without_a_metric_is_a_failure() -> None:
    admitted = objectives(*BOTH).admit(Measurement({"miou": 0.5}))
    assert isinstance(admitted, Failure)
    assert admitted.kind is FailureKind.EVALUATION
    assert "latency_ms" in admitted.message


def test_failures_and_good_measurements_pass() -> None:
    failure, measured = Failure(FailureKind.EVALUATION, "no"), Measurement({"miou": 0.5, "latency_ms": 1.0})
    assert objectives(*BOTH).admit(failure) is failure
    assert objectives(*BOTH).admit(measured) is measured
