"""Files that somebody else made: whatever is in them, each ends in one clear sentence, soon, and runs nothing."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from infra.exported import NetworkDescription
from infra.network_file import NetworkFileError, load_network
from infra.weights import load_weights, weights_key
from jobs.recipe_file import load_recipe
from orchestrator.config import RecipeError
from orchestrator.protocols import StoreError
from orchestrator.study import read_weights
from search_spaces.data.files import Labels, Pair, checked_size, read_pair
from search_spaces.data.settings import DataError
from tests.doubles import MemoryStore
from tests.jobs.conftest import TINY, TOY, CommandLine, archipelago
from tests.search_spaces.hyctas.test_published import FIGURES, network

__all__ = ["archipelago"]
SOON_S = 20.0


def bomb(levels: int) -> str:
    """A list of nine lists of nine lists: 9 to the power of `levels` texts in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join(9 * [f'*a{level - 1}'])}]" for level in range(1, levels)]
    return "\n".join(lines)


def recipe(document: Mapping[str, Any], **sections: Any) -> str:
    return yaml.safe_dump({**document, **sections})


RECIPES = {
    "bomb": (f"{bomb(9)}\n{recipe(TOY)}", "is too much: it stands for more than 20000 values"),
    "bomb-as-value": (
        f"{bomb(9)}\n{recipe(TOY, study='x')}".replace("study: x", "study: *a8"),
        "it stands for more than 20000 values",
    ),
    "itself": (f"seed: &a [*a]\n{recipe(TOY)}", "stands inside or in front of what it repeats"),
    "deep-list": ("study: " + "[" * 100_000, "is too much: it is nested more than 40 deep"),
    "deep-mapping": ("study: " + "{a: " * 1000, "is too much: it is nested more than 40 deep"),
    "deep-block": (
        "\n".join(f"{' ' * depth}a:" for depth in range(500)),
        "is too much: it is nested more than 40 deep",
    ),
    "long": ("study: " + "a" * 2_000_000, "is too much: it has 2000007 characters"),
    "digits": (f"seed: {'9' * 5000}\n{recipe(TOY)}", "is not YAML: Exceeds the limit"),
    "python": ("study: !!python/object/apply:os.system [touch /tmp/x]", "is not YAML: could not determine a constr"),
    "binary": ("study: !!binary gICA", "study must be text|study: a study's name|valid"),
    "unicode": (recipe(TOY, study="\u202etoy"), "study: a study's name is 1 to 63"),
    "zero": (recipe(TOY, study="a\0b"), "study: a study's name is 1 to 63"),
    "slash": (recipe(TOY, study="a/../../b"), "study: a study's name is 1 to 63"),
    "dots": (recipe(TOY, study=".."), "study: a study's name is 1 to 63"),
    "seed": (recipe(TOY, seed=10**100), r"seed must be < 9.22337e\+18"),
    "infinite": (recipe(TOY, seed=float("inf")), "seed must be"),
    "population": (recipe(TOY, sampler={"population_size": 10**15}), r"sampler.population_size must be <= 1e\+06"),
    "budget": (recipe(TOY, budget={"evaluations_per_island": 10**30}), "budget.evaluations_per_island must be <="),
    "workers": (recipe(TOY, workers={"count": 10**9}), "workers.count must be <= 100000"),
    "window": (recipe(TOY, workers={"window": 10**18}), r"workers.window must be <= 1e\+06"),
    "layers": (recipe(TINY, space={"name": "hyctas", "layers": 10**9}), "space.layers must be <= 64"),
    "pixels": (recipe(TINY, data={"name": "synthetic", "width_px": 2**40}), "data.width_px must be <= 2048"),
    "images": (recipe(TINY, data={"name": "synthetic", "train_images": 10**12}), "data.train_images must be <="),
    "steps": (recipe(TINY, training={"steps": 10**30}), r"training.steps must be <= 1e\+09"),
    "batch": (recipe(TINY, training={"steps": 1, "batch_size": 10**12}), "training.batch_size must be <= 65536"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(name: str, tmp_path: Path) -> None:
    text, sentence = RECIPES[name]
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    begun_s = time.monotonic()
    with pytest.raises(RecipeError, match=sentence) as raised:
        load_recipe(str(file))
    assert time.monotonic() - begun_s < SOON_S
    assert all(len(line) < 1000 for line in str(raised.value).splitlines())


@pytest.mark.parametrize("override", ["seed=" + "[" * 100_000, "study=&a [*a]", "seed=" + "9" * 5000])
def test_an_override(override: str) -> None:
    with pytest.raises(RecipeError, match="is not a YAML value") as raised:
        load_recipe("demo", [override])
    assert len(str(raised.value)) < 500


def test_an_alias_that_repeats_little_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe(TOY).replace("study: toy", "study: &name toy") + "tracking: {experiment: *name}\n")
    text = file.read_text().replace("tracking:\n  enabled: false\n", "")
    file.write_text(text)
    assert load_recipe(str(file)).tracking.experiment == "toy"


GENOTYPES: dict[str, tuple[str, str]] = {
    "deep": ("[" * 200_000, "it is nested too deep"),
    "digits": (f'{{"networks": {"9" * 5000}}}', "is not JSON"),
    "nothing": ('{"networks": [{"name": null, "arch": null, "settings": null}]}', "networks.0.arch must be"),
    "name": (json.dumps({"networks": [{**network(FIGURES[0]), "name": "x" * 10**6}]}), "networks.0.name"),
}
FIELDS: dict[str, tuple[Any, str]] = {
    "ops": ([[0] * 100_000], "at most 64 cells, got 100000"),
    "downs": ([[-1]], "must list the same branches|must have n"),
    "widths": ([[float("nan")]], "must list the same branches|must have n"),
    "paths": ("../../etc/passwd", "paths must be a list"),
    "lasts": ([10**400], "lasts says|must list the same branches"),
}


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_file_of_networks(archipelago: CommandLine, name: str) -> None:
    text, sentence = GENOTYPES[name]
    assert sentence in _complaint(archipelago, text)


@pytest.mark.parametrize("field", FIELDS)
def test_an_architecture(archipelago: CommandLine, field: str) -> None:
    value, sentence = FIELDS[field]
    figures = next(one for one in FIGURES if len(one["branches"]) == 1)
    described = network(figures)
    broken = {**described, "arch": {**described["arch"], field: value}}
    complaint = _complaint(archipelago, json.dumps({"networks": [broken]}))
    assert any(words in complaint for words in sentence.split("|")), complaint


def _complaint(archipelago: CommandLine, text: str) -> str:
    """What `complexity` says about a file, in one line of decent length."""
    from typer.testing import CliRunner

    from jobs.cli import app

    file = archipelago.folder / "networks.json"
    file.write_text(text)
    result = CliRunner().invoke(app, ["complexity", str(file)])
    assert result.exit_code == 2, result.exception
    assert all(len(line) < 1000 for line in result.stderr.splitlines())
    return result.stderr


def safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], first: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}


WEIGHTS = {
    "empty": b"",
    "pickle": b"\x80\x04cos\nsystem\n",
    "header-beyond-the-file": safetensors({}, length=2**40),
    "header-of-all-memory": safetensors({}, length=2**63),
    "header-is-no-json": safetensors(b"not json"),
    "header-is-deep": safetensors(b'{"a":' + b"[" * 50_000),
    "data-beyond-the-file": safetensors({"a": tensor([10**12], 0, 4 * 10**12)}),
    "shape-below-zero": safetensors({"a": tensor([-1], 0, 4)}, b"1234"),
    "shape-overflows": safetensors({"a": tensor([2**32, 2**32], 0, 0)}),
    "shape-is-not-the-data": safetensors({"a": tensor([2], 0, 4)}, b"1234"),
    "overlapping": safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"1234"),
    "a-hole": safetensors({"a": tensor([1], 4, 8)}, b"12345678"),
    "unknown-type": safetensors({"a": tensor([1], 0, 4, "PICKLE")}, b"1234"),
    "type-that-numpy-lacks": safetensors({"a": tensor([2], 0, 4, "BF16")}, b"1234"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, tmp_path: Path) -> None:
    """As the file of a network, and as a study's weights under the very hash of their bytes."""
    import hashlib

    file = tmp_path / "network.safetensors"
    file.write_bytes(WEIGHTS[name])
    with pytest.raises(NetworkFileError, match="is not a network that can be loaded"):
        load_network(file)
    store, digest = MemoryStore(), hashlib.sha256(WEIGHTS[name]).hexdigest()
    store.create(weights_key("study", digest), WEIGHTS[name])
    with pytest.raises(StoreError, match="is not a safetensors file that NumPy can hold"):
        load_weights(store, "study", digest)


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/../../b", "/etc/passwd"])
def test_a_digest_that_leads_elsewhere(key: str) -> None:
    with pytest.raises((StoreError, ValueError)):
        load_weights(MemoryStore(), "study", key)


def test_what_a_store_holds_is_deep() -> None:
    store = MemoryStore()
    store.create("study/weights.json", b"[" * 200_000)
    with pytest.raises(StoreError, match="does not say which weights"):
        read_weights(store, "study")


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "[" * 100_000},
        {"architecture": '{"ops": ' + "9" * 5000 + "}"},
        {"space": '{"layers": 1e999}'},
        {"class_names": json.dumps(["x"] * 100_000)},
        {"mean": '["../..", 0, 0]'},
        {"format": "../../etc/passwd"},
        {"unknown": "x" * 10**6},
    ],
)
def test_metadata_of_an_exported_network(changes: dict[str, str]) -> None:
    """ONNX and safetensors files carry the same."""
    with pytest.raises(ValueError, match=r".") as raised:
        NetworkDescription.from_metadata(changes)
    assert len(str(raised.value)) < 1000


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG file whose header says so, whatever its data are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


IMAGES = {
    "huge": (png(100_000, 100_000), "says that it has more than 89478485 pixels"),
    "large": (png(10_000, 10_000), "says that it has more than 89478485 pixels"),
    "flat": (png(0, 5), "cannot be read as an image"),
    "torn": (png(64, 64, b"\1" * 65 * 64)[:60], "cannot be read as an image"),
    "text": (b"GIF89a<script>", "cannot be read as an image"),
    "empty": (b"", "cannot be read as an image"),
    "jpeg": (b"\xff\xd8\xff\xe0" + b"\0" * 20, "cannot be read as an image"),
    "tiff": (b"II*\0\xff\xff\xff\xff", "cannot be read as an image"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image(name: str, tmp_path: Path) -> None:
    content, sentence = IMAGES[name]
    pair = Pair(name, tmp_path / "image.png", tmp_path / "label.png")
    for path in (pair.image, pair.label):
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        _looked_at(pair)


def _looked_at(pair: Pair) -> None:
    """As a data set is: first all headers, then the pixels."""
    checked_size(pair)
    read_pair(pair, Labels({0: 0}, "0"))


def test_a_table_of_classes_is_deep(tmp_path: Path) -> None:
    from search_spaces.data.camvid import _classes

    for text in ("[" * 200_000, '{"classes": ["a"], "ignore_index": 1e999}', '{"classes": 3, "ignore_index": 1}'):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(DataError, match="must be a JSON object with classes and ignore_index"):
            _classes(tmp_path / "classes.json")


def test_pixels_that_no_label_has(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("image", "label"):
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match="holds the label value 255"):
        read_pair(Pair("a", tmp_path / "image.png", tmp_path / "label.png"), Labels({0: 0}, "0"))
