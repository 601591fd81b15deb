"""What every `Store` promises. A test module subclasses `StoreContract` and gives the fixture `store`.

`KeyContract` is for stores outside this process, where a key could lead astray.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from orchestrator.protocols import ObjectChanged, ObjectExists, ObjectMissing, Store, StoreError

ESCAPES = ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a\0b", "a\\..\\b"]


class StoreContract:
    """Collected through subclasses."""

    def test_reads_what_was_created(self, store: Store) -> None:
        store.create("study/HEAD", b"\x00\xff" * 1000)
        store.create("study/empty", b"")
        assert store.read("study/HEAD") == b"\x00\xff" * 1000
        assert store.read("study/empty") == b""

    def test_a_file_goes_in_and_comes_out(self, store: Store, tmp_path: Path) -> None:
        data = bytes(range(256)) * 10_000
        (tmp_path / "weights").write_bytes(data)
        store.create_from("study/weights", tmp_path / "weights")
        assert store.read("study/weights") == data
        with pytest.raises(ObjectExists, match="study/weights"):
            store.create_from("study/weights", tmp_path / "weights")
        with store.fetch("study/weights") as file:
            mapped = np.memmap(file, np.uint8, "r")
            assert file.read_bytes() == data
        assert mapped.tobytes() == data
        (tmp_path / "weights").write_bytes(b"other")
        assert store.read("study/weights") == data
        with pytest.raises(ObjectMissing, match="study/nothing"), store.fetch("study/nothing"):
            raise AssertionError("fetched nothing")

    def test_create_refuses_the_second_and_keeps_the_first(self, store: Store) -> None:
        store.create("study/manifest.json", b"first")
        with pytest.raises(ObjectExists, match=r"study/manifest\.json"):
            store.create("study/manifest.json", b"second")
        assert store.read("study/manifest.json") == b"first"

    def test_of_many_creators_one_wins(self, store: Store) -> None:
        def attempt(number: int) -> int | None:
            try:
                store.create("study/lease", bytes([number]))
            except ObjectExists:
                return None
            return number

        with ThreadPoolExecutor(8) as threads:
            winners = [number for number in threads.map(attempt, range(32)) if number is not None]
        assert len(winners) == 1
        assert store.read("study/lease") == bytes(winners)

    def test_missing_is_named(self, store: Store) -> None:
        with pytest.raises(ObjectMissing, match="study/nothing"):
            store.read("study/nothing")

    def test_replace_compares(self, store: Store) -> None:
        store.replace("study/HEAD", b"one", None)
        store.replace("study/HEAD", b"two", b"one")
        for stale in (None, b"one", b""):
            with pytest.raises(ObjectChanged, match="study/HEAD"):
                store.replace("study/HEAD", b"three", stale)
        assert store.read("study/HEAD") == b"two"

    def test_replace_does_not_create_over_a_missing_object(self, store: Store) -> None:
        with pytest.raises(ObjectChanged, match="study/HEAD"):
            store.replace("study/HEAD", b"one", b"zero")
        with pytest.raises(ObjectMissing, match="study/HEAD"):
            store.read("study/HEAD")

    def test_no_increment_is_lost(self, store: Store) -> None:
        store.create("study/counter", b"0")

        def increment(_: int) -> None:
            while True:
                found = store.read("study/counter")
                try:
                    return store.replace("study/counter", str(int(found) + 1).encode(), found)
                except ObjectChanged:
                    continue

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(increment, range(40)))
        assert store.read("study/counter") == b"40"

    def test_delete_forgets(self, store: Store) -> None:
        store.create("study/HEAD", b"one")
        store.delete("study/HEAD")
        store.delete("study/HEAD")
        with pytest.raises(ObjectMissing, match="study/HEAD"):
            store.read("study/HEAD")
        store.create("study/HEAD", b"two")
        assert store.read("study/HEAD") == b"two"

    def test_lists_by_prefix_sorted(self, store: Store) -> None:
        for key in ("b/2", "a/journal/10", "a/journal/02", "a/HEAD", "ab/HEAD"):
            store.create(key, b"")
        assert list(store.list("a/")) == ["a/HEAD", "a/journal/02", "a/journal/10"]
        assert list(store.list("a/journal/0")) == ["a/journal/02"]
        assert list(store.list("a")) == ["a/HEAD", "a/journal/02", "a/journal/10", "ab/HEAD"]
        assert list(store.list("")) == ["a/HEAD", "a/journal/02", "a/journal/10", "ab/HEAD", "b/2"]
        assert list(store.list("nothing/here")) == []


class KeyContract:
    """Collected through subclasses."""

    @pytest.mark.parametrize("key", ESCAPES)
    def test_keys_stay_inside_the_root(self, store: Store, key: str) -> None:
        with pytest.raises(StoreError, match="no key"):
            store.create(key, b"x")
        with pytest.raises(StoreError, match="no key"):
            store.read(key)
        with pytest.raises(StoreError, match="no key"):
            store.replace(key, b"x", None)
