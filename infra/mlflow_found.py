"""What MLflow has of a study, and what of it is there twice.

MLflow gives a new run at every request for one, and a request may have been served although its reply was lost. So a
run is known by its tags, and of several with the same tags the first one counts: whoever looks chooses the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from infra.mlflow_client import MlflowClient, Run

PARENT = "mlflow.parentRunId"
STUDY = "archipelago.study"
IDENTITY = "archipelago.identity"
ROOT = "archipelago.root"
"""The id of the study's run, on every run below it."""
LEVEL = "level"
ON_FRONT = "on_front"
PAGE_RUNS = 1000

Name = tuple[str, int]
"""A candidate's island and number."""


@dataclass
class CandidateRun:
    """What MLflow has of a candidate."""

    run_id: str
    start_ms: int
    parent: str
    architecture_id: str
    outcome: str
    """'measured' or 'failed'."""
    on_front: bool
    status: str
    metrics: Mapping[str, float]
    fresh: bool = False
    """Whether it was made by whoever asks."""

    @classmethod
    def of(cls, run: Run) -> CandidateRun:
        info, tags = run.info, run.data.tags
        return cls(
            info.run_id,
            info.start_time,
            tags.get(PARENT, ""),
            tags.get("arch_id", ""),
            tags.get("status", ""),
            tags.get(ON_FRONT) == "true",
            info.status,
            run.data.metrics,
        )

    def contradicts(self, architecture_id: str, outcome: str, metrics: Mapping[str, float]) -> bool:
        """Whether it tells of another candidate, or of another measurement, than this one."""
        known = [(value, self.metrics[name]) for name, value in metrics.items() if name in self.metrics]
        same = all(math.isclose(one, other, rel_tol=1e-12) for one, other in known)
        return (self.architecture_id, self.outcome) != (architecture_id, outcome) or not same


@dataclass
class Found:
    """The runs of a study."""

    root: Run | None = None
    islands: dict[str, str] = field(default_factory=dict)
    """Ids by the island's name."""
    candidates: dict[Name, CandidateRun] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    """Of the study's run and its islands', by id."""
    steps: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """Steps for which a run, by id, has a metric."""
    superfluous: list[str] = field(default_factory=list)
    """Ids of runs that are there already."""


def find(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Found:
    """What there is of the study whose run has these tags."""
    found = Found()
    roots = by_age(search(client, experiment, tags))
    if not roots:
        return found
    found.root = roots[0]
    for late in roots[1:]:
        below = search(client, experiment, {ROOT: late.info.run_id})
        found.superfluous += [run.info.run_id for run in (*below, late)]
    islands: dict[str, list[Run]] = defaultdict(list)
    candidates: dict[Name, list[Run]] = defaultdict(list)
    for run in search(client, experiment, {ROOT: roots[0].info.run_id}):
        of = run.data.tags
        if of.get(LEVEL) == "island":
            islands[of["island"]].append(run)
        else:
            candidates[of["island"], int(of["number"])].append(run)
    for group in (*islands.values(), *candidates.values()):
        group[:] = by_age(group)
        found.superfluous += [run.info.run_id for run in group[1:]]
    found.islands = {name: group[0].info.run_id for name, group in islands.items()}
    found.candidates = {name: CandidateRun.of(group[0]) for name, group in candidates.items()}
    for run in (roots[0], *(group[0] for group in islands.values())):
        run_id = run.info.run_id
        found.statuses[run_id] = run.info.status
        for key in run.data.metrics:
            found.steps[run_id, key] = {point.step for point in client.get_metric_history(run_id, key)}
    return found


def search(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """All runs with these tags."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=PAGE_RUNS, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def by_age(runs: Iterable[Run]) -> list[Run]:
    """The runs, the first one first."""
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
