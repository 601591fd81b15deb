import pytest

from orchestrator.config import RecipeError
from orchestrator.protocols import StoreError
from orchestrator.sealed import seal
from orchestrator.study import (
    LIBRARIES,
    Manifest,
    StudyExists,
    StudyMissing,
    accept,
    create_study,
    extend,
    read_study,
    read_weights,
    record_weights,
)
from tests.doubles import MemoryStore, toy_recipe


def test_a_manifest_comes_back() -> None:
    store, recipe = MemoryStore(), toy_recipe("optuna-tpe", seed=7)
    written = create_study(store, recipe)
    assert read_study(store, "toy") == written
    assert written.recipe == recipe
    assert set(written.versions) == set(LIBRARIES)


def test_a_name_is_taken_once() -> None:
    store = MemoryStore()
    create_study(store, toy_recipe())
    with pytest.raises(StudyExists, match=r"study toy exists already.*archipelago resume.*--set study=NAME"):
        create_study(store, toy_recipe())


def test_what_is_no_study_is_said() -> None:
    store = MemoryStore({"torn/manifest.json": b"{", "old/manifest.json": seal({"recipe": {}, "versions": {}})})
    with pytest.raises(StudyMissing, match=r"no study none: none/manifest\.json is missing"):
        read_study(store, "none")
    with pytest.raises(StudyMissing, match=r"torn/manifest\.json is not the manifest of a study"):
        read_study(store, "torn")
    with pytest.raises(RecipeError, match=r"old/manifest\.json: study is required"):
        read_study(store, "old")


def test_weights_are_noted_once() -> None:
    store = MemoryStore()
    assert read_weights(store, "toy") is None
    record_weights(store, "toy", "abc")
    record_weights(store, "toy", "abc")
    assert read_weights(store, "toy") == "abc"
    with pytest.raises(StudyExists, match="searches with weights abc, got def"):
        record_weights(store, "toy", "def")


def test_a_budget_grows_by_amendments() -> None:
    store = MemoryStore()
    create_study(store, toy_recipe(budget=40))
    extend(store, "toy", 5, "2026-01-01")
    extend(store, "toy", 7, "2026-01-02")
    assert read_study(store, "toy").recipe == toy_recipe(budget=52)
    store.objects["toy/amendments.json"] = store.objects["toy/amendments.json"].replace(b"5", b"6", 1)
    with pytest.raises(StoreError, match=r"toy/amendments\.json does not say what was decided: torn or changed"):
        read_study(store, "toy")


def test_differences_are_named_until_they_are_accepted() -> None:
    store = MemoryStore()
    created = create_study(store, toy_recipe(), {"code": "before", "data": "same"})
    now = {**created.versions, "numpy": "99", "ray": "99"}
    origin = {"code": "after", "data": "same"}
    changes = read_study(store, "toy").differences(now, origin)
    assert changes == {"numpy": (created.versions["numpy"], "99"), "code": ("before", "after")}
    accept(store, "toy", {name: is_now for name, (_, is_now) in changes.items()}, "2026-01-01")
    assert read_study(store, "toy").differences(now, origin) == {}


def test_what_was_not_noted_is_not_compared() -> None:
    assert Manifest(toy_recipe(), {}).differences({"numpy": "99"}, {"code": "any"}) == {}


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_a_damaged_manifest_or_digest_is_noticed(position: int) -> None:
    store = MemoryStore()
    create_study(store, toy_recipe())
    record_weights(store, "toy", "abc")
    for key in list(store.objects):
        data = bytearray(store.objects[key])
        data[-1 - position] ^= 1
        damaged = MemoryStore({**store.objects, key: bytes(data)})
        read = read_study if key.endswith("manifest.json") else read_weights
        with pytest.raises((StudyMissing, StoreError), match=key):
            read(damaged, "toy")
