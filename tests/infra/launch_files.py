"""The files that start clusters, parsed, and what they say in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

INFRA = REPOSITORY / "infra"
KUBERNETES, AWS, SLURM = INFRA / "kubernetes", INFRA / "aws", INFRA / "slurm"
COMPOSE, DOCKERFILE = INFRA / "compose.yaml", INFRA / "docker" / "Dockerfile"
SCRIPTS = (AWS / "spot_watch.sh", SLURM / "study.sbatch", INFRA / "secrets.sh")
FOLDERS = (INFRA / "docker", KUBERNETES, AWS, SLURM)
FILES = (
    *(path for folder in FOLDERS for path in sorted(folder.iterdir()) if path.is_file()),
    COMPOSE,
    INFRA / "secrets.sh",
)
"""Every file that a person launches something with."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def objects() -> list[dict[str, Any]]:
    """Everything that is handed to Kubernetes."""
    return [document for path in sorted(KUBERNETES.glob("*.yaml")) for document in documents(path)]


def cluster_specs() -> list[dict[str, Any]]:
    """The clusters of the RayJob and of the RayCluster."""
    found = {one["kind"]: one["spec"] for one in objects() if one["apiVersion"] == "ray.io/v1"}
    return [found["RayJob"]["rayClusterSpec"], found["RayCluster"]]


def pod_templates() -> list[dict[str, Any]]:
    """The template of every pod in infra/kubernetes."""

    def within(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if "containers" in value.get("spec", {}):
                yield value
            for inside in value.values():
                yield from within(inside)
        elif isinstance(value, list):
            for inside in value:
                yield from within(inside)

    return list(within(objects()))


def compose(values: dict[str, str]) -> dict[str, Any]:
    """compose.yaml with its variables replaced; one that is asked for by ${NAME:?} must be in `values`."""

    def replaced(found: re.Match[str]) -> str:
        name, kind, default = found.groups()
        return values[name] if kind == "?" else values.get(name, default)

    text = re.sub(r"\$\{(\w+):([?-])([^}]*)\}", replaced, COMPOSE.read_text())
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def secrets_of(output: str) -> dict[str, str]:
    """The variables that secrets.sh printed."""
    return dict(line.split("=", 1) for line in output.splitlines())
