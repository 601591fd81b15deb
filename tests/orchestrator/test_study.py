import pytest

from orchestrator.config import RecipeError
from orchestrator.study import (
    LIBRARIES,
    StudyExists,
    StudyMissing,
    create_study,
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
    store = MemoryStore({"torn/manifest.json": b"{", "old/manifest.json": b'{"recipe": {}, "versions": {}}'})
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
