"""A short study in a bucket behind a proxy that spoils requests: at every one of them, in every way."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from infra.file_store import FileStore
from infra.s3_store import S3Store
from infra.seaweedfs import S3Server
from infra.stores import StudyStore
from jobs.progress import Display
from jobs.search import resume, search
from jobs.study import Study
from orchestrator.config import Recipe, read_recipe
from orchestrator.journal import Journal
from orchestrator.loop import EndReason
from orchestrator.protocols import ObjectMissing, StoreError
from orchestrator.records import Candidate, Measurement
from orchestrator.study import StudyExists, StudyMissing, read_study
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.jobs.conftest import TOY

PATIENT_S = 20.0
ALL = 10**6
Results = list[tuple[Candidate, dict[str, float]]]


@pytest.fixture
def recipe() -> Recipe:
    """Four candidates of each island; a lease that is soon free when its holder could not give it back."""
    changes = {"budget": {"evaluations_per_island": 4}, "workers": {"memo": True}, "lease": {"ttl_s": 1.0}}
    return read_recipe({**TOY, **changes}, "toy.yaml")


@pytest.fixture
def expected(recipe: Recipe, tmp_path: Path) -> Results:
    """What the study finds where nothing goes wrong."""
    store = FileStore(tmp_path)
    assert run(recipe, store) is None
    return results(store)


@pytest.fixture
def proxy(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


def run(recipe: Recipe, store: StudyStore) -> StoreError | None:
    """Begins the study, or goes on with it where there is one; the error that it ended with."""
    display, study = Display(Console(file=io.StringIO())), Study(store, recipe.study)
    try:
        try:
            read_study(store, recipe.study)
            ending = resume(study, display, None, in_process=True)
        except StudyMissing:
            try:
                ending = search(recipe, study, display, None, in_process=True)
            except StudyExists:  # written by us, and the reply was lost
                ending = resume(study, display, None, in_process=True)
    except StoreError as error:
        return error
    assert ending.reason is EndReason.FINISHED
    return None


def results(store: StudyStore) -> Results:
    """The candidates of a study and their metrics, in the journal's order."""
    journal = Journal.open(store, "toy")
    found = []
    for island in journal.islands:
        for event in journal.events(island):
            assert isinstance(event.result, Measurement)
            found.append((event.candidate, dict(event.result.metrics)))
    return found


def requests_of(recipe: Recipe, address: str, proxy: FaultProxy) -> list[str]:
    """The requests of a study that is not disturbed."""
    proxy.spoil(None, lambda index: False)
    assert run(recipe, S3Store(f"{address}/{secrets.token_hex(4)}")) is None
    return list(proxy.requests)


def disturbed(
    recipe: Recipe, address: str, proxy: FaultProxy, fault: Fault, faulty: Callable[[int], bool], patience_s: float
) -> tuple[Results, StoreError | None]:
    """What a study finds whose requests are spoiled, resumed without faults if it ended with an error."""
    store = S3Store(f"{address}/{secrets.token_hex(4)}", patience_s)
    proxy.spoil(fault, faulty)
    error = run(recipe, store)
    proxy.spoil(None, lambda index: False)
    if error is not None:
        assert run(recipe, S3Store(store.where)) is None
    return results(store), error


@pytest.mark.parametrize("fault", Fault)
def test_every_third_request_is_spoiled_and_nothing_is_noticed(
    recipe: Recipe, expected: Results, s3: str, proxy: FaultProxy, fault: Fault
) -> None:
    found, error = disturbed(recipe, s3, proxy, fault, lambda index: index % 3 == 1, PATIENT_S)
    assert error is None
    assert found == expected


@pytest.mark.parametrize("fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER])
@pytest.mark.parametrize("first", [8, 20, 26])
def test_a_server_that_goes_away_ends_the_study_with_a_sentence_and_it_is_resumed(
    recipe: Recipe, expected: Results, s3: str, proxy: FaultProxy, fault: Fault, first: int
) -> None:
    found, error = disturbed(recipe, s3, proxy, fault, lambda index: index >= first, 0.0)
    assert str(error).count("\n") == 0
    assert f"{proxy.endpoint} answers with" in str(error)
    assert found == expected


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("patience_s", [PATIENT_S, 0.0])
def test_any_one_request_is_spoiled(
    recipe: Recipe, expected: Results, s3: str, proxy: FaultProxy, fault: Fault, patience_s: float
) -> None:
    """With patience nothing is noticed; without, the study may end with an error and is resumed."""
    count = len(requests_of(recipe, s3, proxy))
    errors = 0
    for spoiled in range(count):
        found, error = disturbed(recipe, s3, proxy, fault, lambda index, spoiled=spoiled: index == spoiled, patience_s)
        assert found == expected, f"request {spoiled} of {count}"
        assert error is None or patience_s == 0, f"request {spoiled} of {count}: {error}"
        errors += error is not None
    print(f"{fault}, patience {patience_s:.0f} s: {count} requests, {errors} studies ended with an error")


def test_a_read_whose_body_breaks_off_is_read_again(s3: str, proxy: FaultProxy) -> None:
    store = S3Store(s3, PATIENT_S)
    data = bytes(range(256)) * 4096
    store.create("study/object", data)
    proxy.spoil(Fault.TRUNCATED, lambda index: index in (0, 1))
    assert store.read("study/object") == data
    assert len(proxy.requests) == 3


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.TRUNCATED])
def test_a_write_whose_reply_is_lost_is_known_as_ones_own(s3: str, proxy: FaultProxy, fault: Fault) -> None:
    store = S3Store(s3, PATIENT_S)
    proxy.spoil(fault, lambda index: index == 0)
    store.create("study/object", b"one")
    assert store.read("study/object") == b"one"
    proxy.spoil(fault, lambda index: index == 1)
    store.replace("study/object", b"two", b"one")
    store.replace("study/object", b"three", b"two")
    assert store.read("study/object") == b"three"


def test_a_large_object_goes_through_when_every_second_request_is_spoiled(
    s3: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    from infra.s3_store import PART_BYTES

    data = bytes(range(251)) * (2 * PART_BYTES // 251 + 7)
    (tmp_path / "weights").write_bytes(data)
    store = S3Store(s3, PATIENT_S)
    proxy.spoil(Fault.DROP_AFTER, lambda index: index % 2 == 1)
    store.create_from("study/weights", tmp_path / "weights")
    with store.fetch("study/weights") as file:
        assert file.read_bytes() == data
    with pytest.raises(ObjectMissing):
        store.read("study/nothing")
