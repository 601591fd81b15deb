"""Whether a study can run here: everything that would otherwise stop it hours later, each a line.

Nothing is changed: what is written on trial is removed again, and a Ray that was started is ended.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from infra.stores import StudyStore
from jobs.composition import load_data
from jobs.search import check_limits_of
from jobs.study import Study
from orchestrator.config import Recipe
from orchestrator.protocols import StoreError
from search_spaces.data.images import ImageData

State = Literal["ok", "look", "wrong"]
"""`look`: a study runs, and the line says what it should not be surprised by."""
PACKAGE = "archipelago-nas"
MLFLOW_UI_PORT = 5000
FREE_BYTES = 2 * 2**30
"""Less room than this on a disk is said."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    subject: str
    state: State
    words: str
    """What is there; where it is wrong, what was expected and what to do."""

    def row(self) -> dict[str, str]:
        return asdict(self)


Found = tuple[State, str]
Check = Callable[[], Iterator[Found]]


def examine(recipe: Recipe | None, store: StudyStore, address: str | None) -> Iterator[Finding]:
    """Findings one after the other, as soon as each is known; without a recipe those that need none.

    Raises:
        nothing: what a check fails with is its finding.
    """
    checks: dict[str, Check] = {
        "python": _python,
        "libraries": _libraries,
        "device": lambda: _device(recipe, address),
        "memory": _memory,
        "ports": _ports,
        "store": lambda: _store(store, recipe),
    }
    if recipe is not None:
        checks["recipe"] = lambda: _recipe(recipe)
        if recipe.tracking.enabled:
            checks["mlflow"] = lambda: _mlflow(recipe, Study(store, recipe.study))
    checks["ray"] = lambda: _ray(address)
    for subject, check in checks.items():
        try:
            for state, words in check():
                yield Finding(subject, state, words)
        except (ValueError, StoreError, OSError, RuntimeError) as error:  # Ray says by the last that it did not start
            yield Finding(subject, "wrong", str(error))


def _python() -> Iterator[Found]:
    yield "ok", f"{platform.python_version()} at {sys.executable}"


def _libraries() -> Iterator[Found]:
    """Whether what is installed is what the project asks for."""
    wanted = [Requirement(line) for line in requires(PACKAGE) or []]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in wanted:
        try:
            found = version(one.name)
            if not one.specifier.contains(found.partition("+")[0], prereleases=True):
                wrong.append(f"{one.name} {found} is installed, {one} is needed")
        except PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
    for words in wrong:
        yield "wrong", f"{words}: `pip install -c constraints.txt '{PACKAGE}'`"
    if not wrong:
        yield "ok", f"all {len(wanted)} are as needed: torch {torch.__version__}, ray {version('ray')}"


def _device(recipe: Recipe | None, address: str | None) -> Iterator[Found]:
    """What computes here, and whether the workers' share of GPUs can be had."""
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    for card in cards:
        yield "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    if not cards:
        yield "ok", f"no GPU; {os.cpu_count()} CPU cores"
    if recipe is not None and recipe.workers.gpus_per_worker and not cards and address is None:
        yield (
            "wrong",
            f"workers.gpus_per_worker is {recipe.workers.gpus_per_worker:g}, and this machine has no GPU that torch "
            "can use: set it to 0, or give the --address of a cluster that has some",
        )


def _memory() -> Iterator[Found]:
    """Whether Ray's object store, which lies in /dev/shm, and temporary files have room."""
    for folder, what in (("/dev/shm", "Ray's shared memory"), (tempfile.gettempdir(), "temporary files")):
        free = shutil.disk_usage(folder).free
        words = f"{free / 2**30:.1f} GiB free in {folder} for {what}"
        yield ("ok", words) if free >= FREE_BYTES else ("look", f"{words}, less than {FREE_BYTES / 2**30:.0f} GiB")


def _ports() -> Iterator[Found]:
    """Whether `archipelago ui` finds its port free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", MLFLOW_UI_PORT))
            yield "ok", f"{MLFLOW_UI_PORT} is free for `archipelago ui`"
        except OSError as error:
            yield "look", f"{MLFLOW_UI_PORT} cannot be had ({error.strerror}): say `archipelago ui --port` another one"


def _store(store: StudyStore, recipe: Recipe | None) -> Iterator[Found]:
    """Whether it can be written, refuses a second creation, and has the study's name free."""
    store.probe()
    yield "ok", f"{store.where} can be written, and refuses to create an object twice"
    folder = Path(store.where)
    if folder.is_dir() and (free := shutil.disk_usage(folder).free) < FREE_BYTES:
        yield "look", f"{free / 2**30:.1f} GiB free in {folder}"
    if recipe is not None and recipe.study in store.studies():
        yield "look", f"it has a study {recipe.study} already: go on with it, or `--set study=NAME` begins another one"


def _recipe(recipe: Recipe) -> Iterator[Found]:
    """Whether its data set can be read, and whether some architecture is within the objectives' limits."""
    data = None if recipe.data is None else load_data(recipe)
    yield from _data(recipe, data) if data is not None else ()
    check_limits_of(recipe, data)
    yield "ok", "each island has architectures within all limits that are known before training"


def _data(recipe: Recipe, data: ImageData) -> Iterator[Found]:
    """How many images there are, and whether each class is seen in training and in scoring."""
    height, width = data.train.size
    yield "ok", f"{len(data.train)} images to train on, {len(data.validation)} to score on, {width}x{height}"
    for words, split in (("train on", data.train), ("score on", data.validation)):
        seen = set(torch.unique(split.labels).tolist())
        missing = [name for index, name in enumerate(data.class_names) if index not in seen]
        if missing:
            yield "look", f"no image to {words} has the class {', '.join(missing)}"
    images = recipe.evaluation.recalibration_images
    if images > len(data.train):
        yield "look", f"evaluation.recalibration_images is {images}: all {len(data.train)} training images are taken"


def _mlflow(recipe: Recipe, study: Study) -> Iterator[Found]:
    """Whether MLflow answers, and lets this user in."""
    from infra.mlflow_client import MlflowClient, MlflowException
    from jobs.tracking import SQLITE

    uri = study.tracking_uri(recipe)
    if uri.startswith(SQLITE):
        yield "ok", f"runs go into the file {uri.removeprefix(SQLITE)}"
        return
    try:
        MlflowClient(uri).search_experiments(max_results=1)
        yield "ok", f"{uri} answers"
    except (MlflowException, OSError) as error:
        words = " ".join(str(error).split())[:200]
        yield (
            "wrong",
            f"MLflow at {uri} cannot be used: {words}; start it, mend tracking.uri, or set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD",
        )


def _ray(address: str | None) -> Iterator[Found]:
    """Whether a Ray answers, who else could give it work, and what it has."""
    import ray

    from infra.ray_cluster import connect, usable_nodes

    connect(address, cpus=1, weights_bytes=0)
    try:
        nodes = usable_nodes()
        total = {name: sum(node.get(name, 0) for node in nodes.values()) for name in ("CPU", "GPU")}
        has = f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {total['CPU']:g} CPUs and {total['GPU']:g} GPUs"
        yield "ok", f"a local Ray {ray.__version__} starts" if address is None else f"{address} answers: {has}"
        if address is not None and os.environ.get("RAY_AUTH_MODE") != "token":
            yield (
                "look",
                f"{address} lets everyone in who reaches it, and runs their code: start it with RAY_AUTH_MODE=token",
            )
    finally:
        ray.shutdown()
