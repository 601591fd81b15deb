from infra.local import InProcessPool
from orchestrator.evaluation.toy import ToyEvaluator, ToyEvaluatorFactory
from orchestrator.records import Candidate, Failure, FailureKind, Measurement, Result
from search_spaces.toy import ToySettings

CANDIDATES = [Candidate("reef", number, (number, 1, 0, 1, 1), f"{number:016x}") for number in range(3)]


def test_candidates_come_back_one_a_call_with_all_their_metrics() -> None:
    pool = InProcessPool(ToyEvaluator(), slots=3)
    pool.submit(CANDIDATES)
    assert pool.free_slots() == 0
    for candidate in CANDIDATES:
        (outcome,) = pool.collect(1.0)
        assert outcome.candidate == candidate
        assert isinstance(outcome.result, Measurement)
        assert list(outcome.result.metrics) == ["miou", "macs", "params", "latency_ms"]
    assert pool.collect(1.0) == ()
    assert pool.free_slots() == 3


def test_latency_is_left_out_on_request() -> None:
    pool = InProcessPool(ToyEvaluator(), measure_latency=False)
    pool.submit(CANDIDATES[:1])
    (outcome,) = pool.collect(1.0)
    assert isinstance(outcome.result, Measurement)
    assert "latency_ms" not in outcome.result.metrics


def test_an_exception_is_the_candidates_own_failure() -> None:
    class Broken(ToyEvaluator):
        def latency(self, candidate: Candidate) -> Result:
            raise ArithmeticError("no clock")

    pool = InProcessPool(Broken())
    pool.submit(CANDIDATES[:1])
    (outcome,) = pool.collect(1.0)
    assert isinstance(outcome.result, Failure)
    assert outcome.result.kind is FailureKind.EVALUATION
    assert outcome.result.message == "ArithmeticError: no clock"
    assert "Traceback" in outcome.result.traceback


def test_the_toy_evaluator_fails_where_it_is_asked_to() -> None:
    settings = ToySettings(raising=(CANDIDATES[0].architecture_id,), non_finite=(CANDIDATES[1].architecture_id,))
    failed, bad, good = ToyEvaluatorFactory(settings)({}).score(CANDIDATES)
    assert isinstance(failed, Failure)
    assert isinstance(bad, Measurement)
    assert bad.metrics["miou"] != bad.metrics["miou"]
    assert isinstance(good, Measurement)
    assert 0 < good.metrics["miou"] < 1
