"""Scores of candidates on real parts: synthetic scenes, a small supernet."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import EvaluationSettings, LatencySettings, ObjectiveSettings
from orchestrator.evaluation.evaluator import NetworkEvaluator, calibration_subset, validation_subset
from orchestrator.objectives import Objectives
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Result
from search_spaces.base import architecture_id
from search_spaces.data.segmentation import SegmentationSplit
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.supernet import Weights
from tests.networks import by_ends, scenes, small_space

PROTOCOL = EvaluationSettings(recalibration_images=16, batch_size=8)
LATENCY = LatencySettings(window_s=0.02)


@pytest.fixture(scope="module")
def evaluator(space: HyctasSpace, weights: Weights) -> NetworkEvaluator:
    return NetworkEvaluator(space, weights, scenes(), PROTOCOL, LATENCY)


@pytest.fixture(scope="module")
def candidates(space: HyctasSpace) -> list[Candidate]:
    """One for each of the seven combinations of ends, of all islands."""
    named = [(*space.encode(one), architecture_id(one)) for one in by_ends(space).values()]
    return [Candidate(island, number, genotype, name) for number, (island, genotype, name) in enumerate(named)]


def metrics(result: Result) -> dict[str, float]:
    assert isinstance(result, Measurement), result
    return dict(result.metrics)


def test_a_candidate_has_finite_accuracy_cost_and_iou_per_class(
    space: HyctasSpace, evaluator: NetworkEvaluator, candidates: list[Candidate]
) -> None:
    for candidate, result in zip(candidates, evaluator.score(candidates), strict=True):
        found = metrics(result)
        assert all(math.isfinite(value) for value in found.values())
        per_class = {name: value for name, value in found.items() if name.startswith("iou/")}
        assert found.keys() == {"miou", "macs", "params"} | per_class.keys()
        assert per_class.keys() <= {f"iou/{name}" for name in scenes().class_names}
        assert found["miou"] == pytest.approx(np.mean(list(per_class.values())))
        assert 0 <= found["miou"] < 1
        program = space.lower(space.decode(candidate.island, candidate.genotype))
        cost = space.counter.count(program, (1, 3, *scenes().validation.size))
        assert (found["macs"], found["params"]) == (cost.macs, cost.params)


def test_a_then_b_then_a_gives_the_same_bits(evaluator: NetworkEvaluator, candidates: list[Candidate]) -> None:
    first = {one.number: metrics(*evaluator.score([one])) for one in candidates}
    for one in (candidates[0], candidates[3], candidates[0], candidates[6], candidates[0]):
        assert metrics(*evaluator.score([one])) == first[one.number]
    together = evaluator.score(candidates[::-1])
    assert [metrics(result) for result in together] == [first[one.number] for one in candidates[::-1]]


def test_another_worker_gives_the_same_bits(
    space: HyctasSpace, weights: Weights, evaluator: NetworkEvaluator, candidates: list[Candidate]
) -> None:
    other = NetworkEvaluator(small_space(), weights, scenes(), PROTOCOL, LATENCY)
    other.score(candidates[4:])
    assert list(map(metrics, other.score(candidates[:2]))) == list(map(metrics, evaluator.score(candidates[:2])))


def test_a_failure_is_its_candidates_own(
    space: HyctasSpace, weights: Weights, evaluator: NetworkEvaluator, candidates: list[Candidate]
) -> None:
    """The weights that only the networks of three branches take are broken."""
    broken = {
        name: np.full_like(array, np.nan) if name == "fusion/8/8-16-32/norm.weight" else array
        for name, array in weights.items()
    }
    healthy = evaluator.score(candidates)
    results = NetworkEvaluator(space, broken, scenes(), PROTOCOL, LATENCY).score(candidates)
    for candidate, result, before in zip(candidates, results, healthy, strict=True):
        if candidate.island == "branches-3":
            assert isinstance(result, Measurement)
            assert math.isnan(result.metrics["miou"])
            assert not any(name.startswith("iou/") for name in result.metrics)
        else:
            assert metrics(result) == metrics(before)
    admitted = map(Objectives.from_settings([ObjectiveSettings(name="miou")]).admit, results)
    failures = [result for result in admitted if isinstance(result, Failure)]
    assert [failure.kind for failure in failures] == [FailureKind.NON_FINITE]


def test_what_does_not_decode_fails_alone(evaluator: NetworkEvaluator, candidates: list[Candidate]) -> None:
    wrong = Candidate("branches-1", 99, (9,), "0" * 16)
    failed, measured = evaluator.score([wrong, candidates[0]])
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.message.partition(":")[0]) == (FailureKind.EVALUATION, "InvalidGenotype")
    assert metrics(measured) == metrics(*evaluator.score([candidates[0]]))
    timing = evaluator.latency(wrong)
    assert isinstance(timing, Failure)


def test_latency_is_a_measurement_of_its_own(evaluator: NetworkEvaluator, candidates: list[Candidate]) -> None:
    assert metrics(evaluator.latency(candidates[0])).keys() >= {"latency_ms", "latency_iqr_ms", "latency_runs"}


def test_no_candidates_have_no_results(evaluator: NetworkEvaluator) -> None:
    assert evaluator.score([]) == []


@pytest.mark.parametrize(
    "change",
    [{"precision": "bfloat16"}, {"recalibration_images": 8}, {"seed": 1}, {"batch_size": 4}, {"validation_images": 3}],
)
def test_the_protocol_changes_a_score(
    space: HyctasSpace,
    weights: Weights,
    evaluator: NetworkEvaluator,
    candidates: list[Candidate],
    change: dict[str, object],
) -> None:
    other = NetworkEvaluator(space, weights, scenes(), PROTOCOL.model_copy(update=change), LATENCY)
    found = [metrics(result)["miou"] for result in other.score(candidates)]
    assert all(map(math.isfinite, found))
    assert found != [metrics(result)["miou"] for result in evaluator.score(candidates)]


# ---- which images


def split(count: int) -> SegmentationSplit:
    names = tuple(map(str, range(count)))
    return SegmentationSplit(
        torch.zeros(count, 3, 1, 1, dtype=torch.uint8), torch.zeros(count, 1, 1, dtype=torch.uint8), names, "0" * 16
    )


@given(st.integers(1, 60), st.integers(2, 80), st.integers(2, 16), st.integers(0, 3))
def test_calibration_images_are_distinct_sorted_seeded_and_leave_no_batch_of_one(
    images: int, wanted: int, batch_size: int, seed: int
) -> None:
    protocol = EvaluationSettings(recalibration_images=wanted, batch_size=batch_size, seed=seed)
    found = calibration_subset(split(images), protocol).tolist()
    assert found == sorted(set(found))
    assert set(found) <= set(range(images))
    count = min(images, wanted)
    assert len(found) in ({count} if count % batch_size != 1 or count == 1 else {count - 1})
    assert found == calibration_subset(split(images), protocol).tolist()
    more = calibration_subset(split(images), protocol.model_copy(update={"recalibration_images": wanted + batch_size}))
    assert set(found) <= set(more.tolist())


def test_another_seed_calibrates_on_other_images() -> None:
    subsets = [
        tuple(calibration_subset(split(100), EvaluationSettings(recalibration_images=20, seed=seed)).tolist())
        for seed in range(5)
    ]
    assert len(set(subsets)) == 5


@given(st.integers(1, 60), st.none() | st.integers(1, 80))
def test_validation_images_are_distinct_and_evenly_spread(images: int, wanted: int | None) -> None:
    found = validation_subset(split(images), EvaluationSettings(validation_images=wanted)).tolist()
    assert len(found) == min(wanted or images, images)
    assert found[0] == 0
    gaps = np.diff([*found, images])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1
