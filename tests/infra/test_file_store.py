"""The store in a folder: the contract, and what is particular to files."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from infra import file_store
from infra.file_store import FileStore
from orchestrator.protocols import ObjectChanged, StoreError
from tests.contracts.lease_contract import LeaseContract
from tests.contracts.store_contract import KeyContract, StoreContract


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "studies")
    store.probe()
    return store


class TestContract(StoreContract, KeyContract):
    pass


class TestLease(LeaseContract):
    pass


def test_probe_leaves_nothing_behind(store: FileStore) -> None:
    assert [name for name in os.listdir(store.root) if name != ".lock"] == []
    store.probe()


def test_probe_names_the_folder_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match=r"store .*/file/studies cannot be written: Not a dir.*; choose .* --store"):
        FileStore(tmp_path / "file" / "studies").probe()


def test_links_do_not_lead_out(store: FileStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (store.root / "file").symlink_to(secret)
    (store.root / "folder").symlink_to(tmp_path)
    for key in ("file", "folder/secret", "folder/new"):
        with pytest.raises(StoreError, match="symbolic link"):
            store.read(key)
        with pytest.raises(StoreError, match="symbolic link"):
            store.create(key, b"x")
        with pytest.raises(StoreError, match="symbolic link"):
            store.replace(key, b"x", b"secret")
    with pytest.raises(StoreError, match="symbolic link"):
        store.list("folder/")
    assert secret.read_bytes() == b"secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "studies"]


def test_left_over_temporaries_are_not_objects(store: FileStore) -> None:
    store.create("study/HEAD", b"1")
    (store.root / "study" / ".tmp-0123").write_bytes(b"half")
    assert list(store.list("")) == ["study/HEAD"]


def test_a_folder_is_not_an_object(store: FileStore) -> None:
    store.create("study/HEAD", b"1")
    with pytest.raises(StoreError, match=r"cannot read study in store .*: Is a directory"):
        store.read("study")
    with pytest.raises(StoreError, match=r"cannot write study/HEAD/x in store .*: Not a directory"):
        store.create("study/HEAD/x", b"1")


def _count_up(root: Path, times: int) -> None:
    store = FileStore(root)
    for _ in range(times):
        while True:
            found = store.read("counter")
            try:
                store.replace("counter", str(int(found) + 1).encode(), found)
                break
            except ObjectChanged:
                continue


def test_two_processes_cannot_both_win(store: FileStore) -> None:
    store.create("counter", b"0")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_count_up, args=(store.root, 50)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert store.read("counter") == b"100"


def test_a_process_that_keeps_the_lock_is_waited_for_and_then_named(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "LOCK_TIMEOUT_S", 0.1)
    store.create("study/HEAD", b"1")
    with (
        store._locked(store.root / "study"),
        pytest.raises(StoreError, match="study is locked by a process that does not give it back: end that process"),
    ):
        store.replace("study/HEAD", b"2", b"1")
    store.replace("study/HEAD", b"2", b"1")
