"""Whatever changes a score changes the protocol's digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from orchestrator.config import EvaluationSettings
from orchestrator.evaluation.protocol import network_protocol
from orchestrator.evaluation.toy import ToyEvaluator
from search_spaces.base import Json
from search_spaces.data.segmentation import SegmentationData
from search_spaces.toy import ToySettings
from tests.networks import scenes

SPACE: Mapping[str, Json] = {"name": "hyctas", "layers": 4}


def named(space: Mapping[str, Json] = SPACE, data: SegmentationData | None = None, **settings: object) -> str:
    protocol = EvaluationSettings(**settings)  # type: ignore[arg-type]
    return network_protocol(space, protocol, data or scenes(), torch.device("cpu"))


def test_it_is_the_same_for_the_same() -> None:
    assert named() == named(dict(SPACE)) == named(recalibration_images=1000)
    assert len(named()) == 16


@pytest.mark.parametrize(
    "change",
    [{"precision": "bfloat16"}, {"recalibration_images": 8}, {"seed": 1}, {"batch_size": 4}, {"validation_images": 3}],
)
def test_settings_are_part_of_it(change: dict[str, object]) -> None:
    assert named(**change) != named()


def test_the_space_is_part_of_it() -> None:
    assert named({**SPACE, "layers": 5}) != named()


def test_images_and_how_they_are_read_are_part_of_it() -> None:
    data = scenes()
    changed = [
        replace(data, train=replace(data.train, fingerprint="0" * 16)),
        replace(data, validation=replace(data.validation, fingerprint="0" * 16)),
        replace(data, mean=(0.5, 0.5, 0.5)),
        replace(data, class_names=tuple(reversed(data.class_names))),
    ]
    assert len({named(data=one) for one in (data, *changed)}) == 5


def test_threads_are_part_of_it() -> None:
    before, threads = named(), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert named() != before
    finally:
        torch.set_num_threads(threads)
    assert named() == before


def test_the_toy_space_has_one_too() -> None:
    def of(**settings: object) -> str:
        return ToyEvaluator(ToySettings(**settings)).protocol_digest  # type: ignore[arg-type]

    assert of() == of(delay_s=1.0)
    assert len({of(), of(raising=("a",)), of(non_finite=("a",))}) == 3
