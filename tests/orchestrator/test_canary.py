"""The canary: what lets a worker join, and what is said to one that may not."""

from __future__ import annotations

import math

import pytest

from orchestrator.canary import TOLERANCE, Canary, canary_candidate
from orchestrator.protocols import StoreError
from orchestrator.records import Failure, FailureKind, Measurement, Result
from search_spaces.toy import ToySpace
from tests.doubles import MemoryStore

CANDIDATE = canary_candidate(ToySpace(), seed=3)


def canary(store: MemoryStore | None = None) -> Canary:
    return Canary(store or MemoryStore(), "study", CANDIDATE)


def scored(miou: float = 0.5, macs: float = 1e6) -> Measurement:
    return Measurement({"miou": miou, "macs": macs})


def test_the_choice_depends_on_the_seed_alone() -> None:
    assert canary_candidate(ToySpace(), seed=3) == CANDIDATE
    assert len({canary_candidate(ToySpace(), seed).genotype for seed in range(20)}) > 10
    assert CANDIDATE.island == "shoal"


def test_under_one_protocol_the_score_is_equal_to_the_bit_in_every_session() -> None:
    store = MemoryStore()
    assert canary(store).refusal(scored(0.1 + 0.2), "p", "EPYC") == ""
    resumed = MemoryStore(store.objects)
    assert canary(resumed).refusal(scored(0.1 + 0.2), "p", "EPYC") == ""
    refusal = canary(resumed).refusal(scored(0.3), "p", "Xeon")
    assert refusal == (
        f"the canary {CANDIDATE.architecture_id} has miou 0.3 on Xeon, and it had 0.30000000000000004 on EPYC: they "
        "must be equal to the bit"
    )
    assert resumed.objects == store.objects


@pytest.mark.parametrize("protocol", ["q", ""])
def test_another_kind_of_device_is_within_the_tolerance(protocol: str) -> None:
    one = canary()
    assert one.refusal(scored(), "p", "EPYC") == ""
    assert one.refusal(scored(0.5 - TOLERANCE / 2), protocol, "H200") == ""
    assert "has miou 0.48 on H200, and it had 0.5 on EPYC: they must be at most 0.01 apart" in one.refusal(
        scored(0.48), protocol, "H200"
    )
    assert "has macs 1000001.0 on H200" in one.refusal(scored(macs=1e6 + 1), protocol, "H200")


def test_a_second_kind_agrees_with_itself_to_the_bit() -> None:
    one = canary()
    assert one.refusal(scored(0.5), "p", "EPYC") == ""
    assert one.refusal(scored(0.501), "q", "H200") == ""
    assert one.refusal(scored(0.501), "q", "H200") == ""
    assert "has miou 0.502 on H200, and it had 0.501 on H200" in one.refusal(scored(0.502), "q", "H200")


@pytest.mark.parametrize("result", [Failure(FailureKind.EVALUATION, "it raises"), scored(math.nan)])
def test_a_canary_without_a_score_must_have_none_anywhere(result: Result) -> None:
    one = canary()
    assert one.refusal(result, "p", "EPYC") == ""
    assert one.refusal(result, "p", "EPYC") == ""
    assert "the canary" in one.refusal(scored(), "p", "EPYC")


@pytest.mark.parametrize("key", ["study/canary.json", "study/canary/q.json"])
def test_a_damaged_canary_is_named(key: str) -> None:
    store = MemoryStore()
    assert canary(store).refusal(scored(), "p", "EPYC") == canary(store).refusal(scored(), "q", "H200") == ""
    store.objects[key] = store.objects[key].replace(b"0.5", b"0.6")
    with pytest.raises(StoreError, match=f"{key} is torn or changed: .*; delete it"):
        canary(store).refusal(scored(), "q", "H200")
    store.delete(key)
    assert canary(store).refusal(scored(), "q", "H200") == ""
