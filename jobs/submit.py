"""Hands a study to a cluster: the recipe goes with it, and what its driver prints comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from infra.ray_jobs import Cluster
from orchestrator.config import Recipe


@dataclass(frozen=True)
class Submitted:
    """A study that a cluster runs."""

    cluster: Cluster
    job: str
    study: str
    store: str

    def follow(self, write: Callable[[str], object]) -> int:
        """The exit code of the study's driver; until it ends what it prints is written.

        Raises:
            ConnectionError: the cluster does not answer any more.
        """
        return self.cluster.follow(self.job, write)


def submit(recipe: Recipe, address: str, store: str) -> Submitted:
    """Submits the study, which is begun or gone on with there.

    store: s3://bucket/prefix, or the absolute path of a folder that this machine and the cluster share.

    Raises:
        ValueError: the store is another machine's folder, the address is none, or the study runs already.
        ConnectionError: no dashboard answers at the address, or it wants another token.
    """
    if "://" not in store and not os.path.isabs(store):
        raise ValueError(
            f"--store {store} would be a folder of the cluster's head alone: give s3://bucket/prefix, or the absolute "
            "path of a folder that the cluster and this machine share"
        )
    cluster = Cluster(address)
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    job = cluster.submit(recipe.study, text, ["--store", store, "--address", "auto"])
    return Submitted(cluster, job, recipe.study, store)
