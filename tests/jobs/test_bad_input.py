"""What people get wrong: one sentence each, exit code 2, no traceback, and nothing left that is in the way."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from orchestrator.sealed import seal
from tests.jobs.conftest import TINY, TINY_IMAGES, TOY, CommandLine
from tests.search_spaces.data.layouts import save, write_camvid


def check(result: Result, *sentences: str) -> None:
    """Exactly these sentences, patterns each, are on stderr."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert len(lines) == len(sentences), lines
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith("archipelago: ")
        assert re.search(sentence, line), line


@pytest.mark.parametrize(
    ("overrides", "sentences"),
    [
        (["spcae.name=toy"], [r"spcae is not a known key: did you mean space\?"]),
        (["space.layers=3"], ["space.layers is not a known key: the keys here are name, delay_s"]),
        (["budget.evaluations=3"], ["budget.evaluations is not a known key: the keys here are evaluations_per_island"]),
        (["seed=abc"], ["seed must be an integer, got 'abc'"]),
        (["seed=on"], [r"seed must not be true or false"]),
        (["study=no"], [r"study must not be true or false .*quote"]),
        (["tracking.enabled=7"], ["tracking.enabled must be true or false, got 7"]),
        (["tracking.uri=http://me:hush-hush@host"], ["tracking.uri: a tracking URI must not hold a password, for"]),
        (["sampler.population_size=1"], ["sampler.population_size must be >= 2, got 1"]),
        (["sampler.mutation_probability=2"], ["sampler.mutation_probability must be <= 1, got 2"]),
        (["latency.window_s=.nan"], ["latency.window_s must be a finite number, got nan"]),
        (["seed=-1", "workers.window=0"], ["seed must be >= 0, got -1", "workers.window must be > 0, got 0"]),
        (["sampler.name=nsga3"], ["sampler.name must be one of nsga2, .*, got 'nsga3': did you mean"]),
        (["sampler={name: random, mode: steady-state}"], ["sampler: mode steady-state is for nsga2 alone"]),
        (["objectives=[]"], ["objectives must have at least 1 entry"]),
        (["objectives=[{name: miuo}]"], [r"objectives.0.name must be one of .*got 'miuo': did you mean miou\?"]),
        (["objectives=[{name: latency_ms@}]"], [r"objectives.0.name must be one of .*, latency_ms@LANE, got"]),
        (
            ["objectives=[{name: miou}, {name: latency_ms@orin}]"],
            ["latency.lanes must have the lane orin, for latency_ms@orin is an objective, got default"],
        ),
        (["latency.lanes={orin: {cpus: 1}}"], [r"latency.lanes.orin.cpus is not a known key"]),
        (
            ["workers.gpus_per_worker=1"],
            ["latency.lanes.default.gpus must be > 0 when workers.gpus_per_worker is, got 0"],
        ),
        (["workers.count=many"], ["workers.count must be an integer, got 'many'"]),
        (["objectives=[{name: miou}, {name: miou}]"], ["objectives must have distinct names"]),
        (["objectives=miou"], ["objectives must be a list, got 'miou'"]),
        (["objectives=[{name: miou, at_least: 1.5}]"], ["objectives.miou.at_least must be <= 1, got 1.5"]),
        (["objectives=[{name: macs, at_most: 0}]"], ["objectives.macs.at_most must be > 0, got 0"]),
        (
            ["objectives=[{name: miou}, {name: latency_ms, at_most: 0.5}]"],
            ["objectives.latency_ms.at_most 0.5: no architecture of island shoal is within, .* has 0.7 ms"],
        ),
        (
            ["objectives=[{name: miou, at_least: 0.49}, {name: latency_ms, at_most: 2}]"],
            ["objectives.* island shoal is within"],
        ),
        (["latency.measure=false"], ["latency.measure must be true when latency_ms is an objective"]),
        (
            ["space.name=toys"],
            [r"space.name must be one of hyctas, hrnas, own, tabular, toy, got 'toys': did you mean toy\?"],
        ),
        (["space.name=resnet"], ["space.name must be one of hyctas, hrnas, own, tabular, toy, got 'resnet'$"]),
        (["space={}"], ["space.name is required"]),
        (["space=3"], ["space must be a mapping of keys to values, got 3"]),
        (["space={name: hyctas}"], ["space hyctas needs the section data and the section training"]),
        (["space={name: hrnas}"], ["space hrnas needs the section data and the section training"]),
        (
            ["space={name: hrnas, kernels: [3, 3], transformer: {tokens: -1}}"],
            ["space.transformer.tokens must be >= 0, got -1"],
        ),
        (["space={name: hrnas, kernels: [3, 3]}"], [r"space: kernels must be distinct, got \[3, 3\]"]),
        (
            ["space={name: hrnas, stem: [8, 8]}"],
            [r"space: modules.0.channels must be \[8\], as the stem gives, got \[24\]"],
        ),
        (
            ["space={name: hrnas, modules: [{blocks: [1], channels: [24]}]}"],
            [r"space: branches must be <= 1, as the last of modules has, got \[4\]"],
        ),
        (
            ["space={name: hrnas, modules: [{blocks: [1, 1], channels: [24, 24]}]}"],
            [r"space: modules must begin with one branch, and go on with as many or one more, got \[2\]"],
        ),
        (
            ["space={name: hrnas, modules: [{blocks: [1, 1], channels: [24]}]}"],
            ["space.modules.0: blocks and channels must have an entry for each branch, got 2 and 1"],
        ),
        (
            ["space={name: tabular, path: t.csv, genes: [a], metrics: {miou: {column: b}}}"],
            ["space.metrics must say which column latency_ms is: it is an objective"],
        ),
        (
            ["space={name: tabular, path: t.csv, genes: [a, a], metrics: {miou: {column: b}}}"],
            [r"space: genes must be distinct columns, got \['a', 'a'\]"],
        ),
        (
            ["space={name: tabular, path: t.csv, genes: [], metrics: {miou: {column: b, scale: 0}}}"],
            ["space.genes must have at least 1 entry", "space.metrics.miou.scale must be > 0, got 0"],
        ),
        (
            ["space={name: tabular, path: /no.csv, genes: [a], metrics: {miou: {column: b}, latency_ms: {column: c}}}"],
            ["/no.csv is missing: mend space.path"],
        ),
        (["data={name: synthetic}"], ["space toy has no networks: leave out the section data"]),
        (["study=a/b"], ["study: a study's name is 1 to 63 of .* got 'a/b'"]),
        (["study=../b"], ["study: a study's name is"]),
        (["study=7"], ["study must be text, got 7"]),
        (["study=2026-13-45"], ["--set study=2026-13-45: '2026-13-45' is not a YAML value"]),
        (["budget=[1,"], ["is not a YAML value"]),
        (["seed"], ["--set seed: write it as key.of.section=VALUE"]),
        (["=3"], ["--set =3: write it as"]),
        (["objectives.7.name=macs"], ["--set objectives.7.name=macs: the recipe has no place objectives.7.name"]),
        (["study.name=x"], ["the recipe has no place study.name"]),
    ],
)
def test_mistake_in_a_recipe(archipelago: CommandLine, overrides: list[str], sentences: list[str]) -> None:
    settings = [part for override in overrides for part in ("--set", override)]
    check(archipelago("search", archipelago.recipe(TOY), "--in-process", *settings), *sentences)
    assert not list(archipelago.store.glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("space.layers=2", "space.layers must be >= 3, got 2"),
        ("space.branches=[4]", "space.branches.0 must be one of 1, 2, 3, got 4"),
        ("space.filters=100000", "space.filters must be <= 128, got 100000"),
        ("training.steps=many", "training.steps must be an integer, got 'many'"),
        ("training.island_probabilities=[1, 2]", "training.island_probabilities must have 3 entries.* got 2"),
        ("data.name=camvdi", r"data.name must be one of .* got 'camvdi': did you mean camvid\?"),
        ("data.width_px=50", "data.width_px must be a multiple of 8, got 50"),
        ("data=null", "space hyctas needs the section data$"),
        (
            "objectives=[{name: miou}, {name: macs, at_most: 1000}]",
            "objectives.macs.at_most 1000: no architecture of island branches-1 is within",
        ),
        (
            "data={name: cifar10}",
            "space hyctas has no networks for classification, which data cifar10 is for: take space hrnas, or other",
        ),
        ("objectives=[{name: accuracy}]", "objectives.accuracy is not measured for segmentation, .*: take miou"),
        ("training.label_smoothing=0.1", "training.label_smoothing means nothing for segmentation, .*, got 0.1: leave"),
        ("space={name: hrnas, memory_limit_bytes: 1000}", "space.memory_limit_bytes needs training.augmentation.crop"),
        ("space.memory_limit_bytes=1000", "space.memory_limit_bytes needs training.augmentation.crop"),
        ("data={name: camvid, root: /nowhere}", "/nowhere/classes.json is missing: mend data.root"),
        ("data={name: cityscapes, root: /nowhere}", "/nowhere/.* mend data.root"),
        ("data={name: ade20k, root: /nowhere}", "/nowhere/.* mend data.root"),
        ("data={name: camvid, root: '${NOT_SET}/camvid'}", "needs the environment variable NOT_SET"),
    ],
)
def test_mistake_in_a_recipe_with_networks(archipelago: CommandLine, overrides: str, sentence: str) -> None:
    check(archipelago("search", archipelago.recipe(TINY), "--in-process", "--set", overrides), sentence)
    assert not list(archipelago.store.glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("objectives=[{name: miou}]", "objectives.miou is not measured for classification, .*: take accuracy or top5"),
        ("training.loss_stride=2", "training.loss_stride means nothing for classification, .*, got 2: leave it out"),
        ("data.root=/nowhere", "/nowhere holds neither train and test nor cifar-10-batches-bin: mend data.root"),
        ("data={name: folder, root: /nowhere}", "/nowhere/train is not a folder: mend data.root"),
        ("data={name: folder, validation: val}", "data: train, validation and test must be distinct folders"),
    ],
)
def test_mistake_in_a_recipe_for_classification(archipelago: CommandLine, overrides: str, sentence: str) -> None:
    recipe = archipelago.recipe(TINY_IMAGES)
    check(archipelago("search", recipe, "--in-process", "--set", overrides), sentence)


def test_memory_limit_that_nothing_fits(archipelago: CommandLine) -> None:
    limit = ("--set", "space.memory_limit_bytes=1000", "--set", "training.augmentation.crop=[32, 64]")
    result = archipelago("search", archipelago.recipe(TINY), "--in-process", *limit)
    check(result, "space.memory_limit_bytes: none of 1000 random architectures of branches-1 fits")
    assert not list(archipelago.store.glob("*/manifest.json"))


def _no_label(root: Path) -> None:
    (root / "train" / "labels" / "seqA_train_0.png").unlink()


def _wrong_value(root: Path) -> None:
    save(root / "val" / "labels" / "seqA_val_0.png", np.full((16, 24), 77, np.uint8))


def _unreadable(root: Path) -> None:
    (root / "train" / "images" / "seqB_train_1.jpg").write_bytes(b"no image")


def _other_size(root: Path) -> None:
    save(root / "train" / "labels" / "seqB_train_1.png", np.zeros((8, 8), np.uint8))


def _no_classes(root: Path) -> None:
    (root / "classes.json").write_text("[]")


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (_no_label, r"seqA_train_0\.jpg has no label: add .*seqA_train_0\.png, or remove the image"),
        (_wrong_value, r"seqA_val_0\.png holds the label value 77, allowed are 0 to 2 and 3"),
        (_unreadable, r"seqB_train_1\.jpg cannot be read as an image"),
        (_other_size, r"seqB_train_1\.png is 8 pixels high and 8 wide, its image .* is 16"),
        (_no_classes, r"classes\.json must be a JSON object with classes and ignore_index"),
    ],
)
def test_harmed_data_and_after_mending_them_the_study_begins(
    archipelago: CommandLine, tmp_path: Path, harm: Any, sentence: str
) -> None:
    root = write_camvid(tmp_path / "camvid")
    data = {"name": "camvid", "root": str(root)}
    training = {"steps": 1, "batch_size": 2, "augmentation": {"crop": [32, 32]}}
    recipe = archipelago.recipe(TINY, data=data, training=training, budget={"evaluations_per_island": 1})
    harm(root)
    check(archipelago("search", recipe, "--in-process"), sentence)
    assert not (archipelago.store / "tiny").exists()
    if harm is _no_label:
        write_camvid(root)
        result = archipelago("search", recipe, "--in-process")
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold a mapping of sections .* got None"),
        ("- a\n", r"must hold a mapping of sections .* got \['a'\]"),
        ("study: [\n", "is not YAML: "),
        ("study: 2026-13-45\n", "is not YAML: month"),
        ("\0", "is not YAML: "),
    ],
)
def test_file_that_is_no_recipe(archipelago: CommandLine, tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    check(archipelago("search", str(file)), sentence)


def test_recipe_that_lacks_sections(archipelago: CommandLine) -> None:
    check(archipelago("search", archipelago.recipe({"study": "x"})), "space is required", "objectives is required")


def test_recipe_that_is_not_there(archipelago: CommandLine, tmp_path: Path) -> None:
    check(archipelago("search", "nothing"), "there is no recipe nothing: give a YAML file, or one of .*demo")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    check(archipelago("search", str(tmp_path / "binary.yaml")), "binary.yaml cannot be read")


def test_study_that_exists(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY, budget={"evaluations_per_island": 2}), "--in-process")
    before = archipelago.rows("candidates", "toy")
    result = archipelago("search", archipelago.recipe(TOY), "--in-process")
    check(result, "study toy exists already: .*archipelago resume toy.* --set study=NAME")
    assert archipelago.rows("candidates", "toy") == before


@pytest.mark.parametrize("place", ["a-file", "a-file/below", "/proc/nowhere"])
def test_store_that_cannot_be_written(archipelago: CommandLine, tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").touch()
    archipelago.address = str(tmp_path / place)
    check(archipelago("search", archipelago.recipe(TOY), "--in-process"), "store .* cannot be written: .* --store DIR")


@pytest.mark.parametrize("command", ["resume", "status", "front", "candidates", "ui"])
@pytest.mark.parametrize("name", ["nothing", "../nothing", "/", ""])
def test_study_that_is_not_there(archipelago: CommandLine, command: str, name: str) -> None:
    check(archipelago(command, name), "there is no study .* in the store .*: it holds none")


def test_studies_that_are_there_are_named(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY, budget={"evaluations_per_island": 1}), "--in-process")
    check(archipelago("front", "tyo"), "there is no study tyo in the store .*: it holds toy; ")


def test_ui_without_runs(archipelago: CommandLine) -> None:
    check(archipelago("ui"), "there are no runs yet: .*mlflow.db is missing")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("{}", "toy/manifest.json is not the manifest of a study"),
        ("{", "toy/manifest.json is not the manifest of a study"),
        ({"colour": "blue"}, "toy/manifest.json: colour is not a known key"),
        ({"seed": 1}, "island shoal, event 0 of 3: .* changed since the study was made"),
    ],
)
@pytest.mark.parametrize("command", ["resume"])
def test_manifest_of_something_else(
    archipelago: CommandLine, command: str, change: str | Mapping[str, Any], sentence: str
) -> None:
    archipelago("search", archipelago.recipe(TOY, budget={"evaluations_per_island": 3}), "--in-process")
    manifest = archipelago.store / "toy" / "manifest.json"
    if isinstance(change, str):
        manifest.write_text(change)
    else:
        document = json.loads(manifest.read_text())
        document["recipe"].update(change)
        del document["sha256"]
        manifest.write_bytes(seal(document))
    check(archipelago(command, "toy", "--in-process"), sentence)


def test_journal_that_was_torn(archipelago: CommandLine) -> None:
    archipelago("search", archipelago.recipe(TOY), "--in-process")
    head = json.loads((archipelago.store / "toy" / "HEAD").read_text())
    segment = archipelago.store / head["islands"]["reef"]["segment"]
    segment.write_bytes(segment.read_bytes()[:-1])
    for command in ("resume", "front", "status", "candidates"):
        check(archipelago(command, "toy"), r"reef/.*\.parquet is torn or was changed")


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_address_where_nothing_answers(archipelago: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for given in (address, f"ray://{address}"):
        result = archipelago("search", archipelago.recipe(TOY), "--address", given)
        check(result, f"no Ray answers at {given}: .*Connection refused; start one")
    check(archipelago("search", archipelago.recipe(TOY), "--address", "nonsense"), "the Ray at nonsense cannot be used")
    assert not (archipelago.store / "toy").exists()


def test_address_that_says_nothing(archipelago: CommandLine, silent: str) -> None:
    began_s = time.monotonic()
    result = archipelago("search", archipelago.recipe(TOY), "--address", silent)
    check(result, f"no Ray answers at {silent}: timed out; start one")
    assert time.monotonic() - began_s < 20


ARCHITECTURE = {"ops": [[1, 1, 1]], "paths": [[0, 0, 0]], "downs": [[0, 0, 0]], "widths": [[1, 1]], "lasts": [0]}
SETTINGS = {
    "Fch": 2,
    "stem_head_width": [1, 1],
    "model_type": 0,
    "num_classes": 19,
    "input": [1, 3, 64, 64],
}


def _network(arch: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> str:
    network = {"name": "n", "arch": {**ARCHITECTURE, **(arch or {})}, "settings": {**SETTINGS, **(settings or {})}}
    return json.dumps({"networks": [network]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ("3", "must be a mapping"),
        ('{"networks": 3}', "networks must be a list, got 3"),
        ('{"nets": []}', "networks is required"),
        ('{"networks": [{"name": "n", "arch": {}}]}', "networks.0.settings is required"),
        (_network({"ops": [[1, 1, 9]]}), "network n: branch 0: an op is 0 to 4, got 9"),
        (_network({"ops": [[1, 1, 1.5]]}), "network n: branch 0: an op is 0 to 4, got 1.5"),
        (_network({"ops": [3]}), r"network n: ops\[0\] must be a list, got 3"),
        (_network({"ops": "abc"}), "network n: ops must be a list"),
        (_network({"ops": [[1]]}), "network n: branch 0: ops, paths, downs, widths must have n, n, n, n-1 entries"),
        (_network({"widths": [[1, 0.4]]}), "network n: branch 0: a width is 4, 6, 8, 10 or 12 twelfths, got 0.4"),
        (_network({"downs": [[0, 1, 0]]}), "network n: branch 0: paths .* do not follow from downs"),
        (_network({"lasts": [2]}), "network n: branch 0: lasts says 2, its downs lead to 0"),
        (_network({"lasts": []}), "network n: ops, paths, downs, widths and lasts must list the same branches"),
        (_network({"extra": 1}), "network n: an architecture has the fields .*: check extra"),
        (
            _network({"ops": [[0, 1, 1]], "paths": [[0, 1, 1]], "downs": [[1, 0, 0]], "lasts": [1]}),
            "network n: branch 0 goes down by a skip at layer 0",
        ),
        (_network(settings={"Fch": 100000}), "networks.0.settings.Fch must be <= 128, got 100000"),
        (_network(settings={"model_type": 7}), "networks.0.settings.model_type must be one of 0, 1, 2, got 7"),
        (_network(settings={"stem_head_width": [1, 0.9]}), "network n: stem_head_width is 4, 6, 8, 10 or 12 twelfths"),
        (_network(settings={"input": [1, 4, 64, 64]}), "networks.0.settings.input.1 must be 3, got 4"),
        (_network(settings={"use_aux": True}), "networks.0.settings.use_aux must be False, got True"),
    ],
)
def test_file_that_holds_no_networks(tmp_path: Path, text: str, sentence: str) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    file = tmp_path / "networks.json"
    file.write_text(text)
    check(CliRunner().invoke(app, ["complexity", str(file)]), sentence)


def test_file_of_networks_that_is_not_there(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    check(
        CliRunner().invoke(app, ["complexity", str(tmp_path / "none.json")]), "none.json cannot be read: .*No such file"
    )
    check(CliRunner().invoke(app, ["complexity", str(tmp_path)]), "cannot be read: .*directory")
