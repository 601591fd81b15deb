"""Evidence for or against the scores of a study: `archipelago trust`.

Random networks of each island, the best that the search found, random ones with as many multiply-adds, and distortions
of a found one are trained from scratch (as trials of `jobs.retrain`: none is trained twice) and scored with the
study's weights, with those weights fine-tuned for their island, under other protocols, and with other studies' weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infra.weights import load_weights
from jobs.composition import load_data, make_network_space, make_supernet_space
from jobs.fine_tuning import FineTuning, Process, read_digest
from jobs.progress import Display
from jobs.retrain import overridden, retrain, tell_mlflow, trials
from jobs.scoring import Scorer, SharedWeights
from jobs.search import Stop
from jobs.study import Study
from jobs.tables import StudyReport
from jobs.train_supernet import shared_place
from orchestrator.archive import front
from orchestrator.config import Recipe
from orchestrator.protocols import Store
from orchestrator.retraining import Retrained, Trial
from orchestrator.study import read_weights
from orchestrator.trust import SEARCH, Evidence, Network, write_evidence
from search_spaces.apart import part_of
from search_spaces.base import NetworkSpace, architecture_id, digest
from search_spaces.complexity import ComplexityCounter
from search_spaces.data.images import ImageData
from search_spaces.hyctas.architecture import HyctasArchitecture
from search_spaces.hyctas.distortions import DISTORTIONS
from search_spaces.settings import NetworkSettings
from search_spaces.supernet import Weights
from search_spaces.training.endings import TrainingStopped

ALL_IMAGES = "all training images"
"""BatchNorm recalibrated on all of them."""
FINE_TUNED = "fine-tuned"
"""The supernet, for the network's island."""
BEFORE = "before island_steps"
"""The supernet that all islands shared, where each of them is searched with weights of its own."""
OTHER_SUBSETS = 4
"""Other subsets of recalibration images, for the noise of a score."""
MACS_TOLERANCE = 0.05
"""How far a random network's multiply-adds may be from the found one's."""
MOST_DRAWS = 20_000


@dataclass(frozen=True)
class Plan:
    """How much evidence is wanted."""

    sampled: int = 10
    """Random networks of each island, for the rank correlation."""
    random: int = 5
    """Random networks of each island with as many multiply-adds as the best one found. The paper: 5."""
    seeds: int = 1
    """Trainings of each network."""
    fine_tuning_steps: int = 0
    """Steps for which the supernet is fine-tuned for each island; 0: it is not."""
    distort_all: bool = False
    """Whether the found network of each island is distorted, and not of the last one alone, as in the paper."""
    also: Sequence[str] = ()
    """Studies over the same space and data whose weights score the networks too."""


@dataclass(frozen=True)
class Subject:
    """A network that evidence is wanted of."""

    group: str
    island: str
    name: str
    architecture: Any


def gather(
    study: Study,
    plan: Plan,
    overrides: Sequence[str],
    display: Display,
    *,
    address: str | None,
    in_process: bool,
    at_once: int | None,
) -> Evidence:
    """Trains and scores what the plan asks for, and keeps the evidence in the store.

    Raises:
        ValueError: the study has no networks, no candidates or no weights, or something in the plan cannot be done.
        StoreError, TrainingFailed: as in `jobs.retrain.retrain`.
    """
    report = StudyReport.read(study)
    recipe = overridden(report.recipe, overrides)
    if recipe.shrinking is not None:
        raise ValueError(f"trust is for scores under shared weights, and each network of {study.name} has its own: "
                         "`archipelago retrain` trains it from scratch")  # fmt: skip
    if recipe.task != "segmentation":
        raise ValueError(
            f"study {study.name} is for {recipe.task}, and trust compares mIoU alone: compare candidates that you "
            f"choose by `archipelago retrain {study.name}`"
        )
    data = load_data(recipe)
    torch.set_num_threads(recipe.workers.threads)
    space = make_network_space(recipe, data.n_classes)
    subjects = list(_subjects(report, recipe, space, data, plan))
    assert isinstance(recipe.space, NetworkSettings), "a space without networks is refused above"
    own, signals = _weights(study, recipe, data), Stop()
    with signals.listening():
        display.say(f"scoring {len(subjects)} networks with shared weights")
        scorer = Scorer(study.store, recipe.space, data, signals)
        shared = dict(_shared(study, recipe, scorer, own, subjects, plan, display))
        noise = _noise(recipe, scorer, own, subjects)
        wanted = _trials(recipe, data, subjects, plan.seeds)
        names = {architecture_id(one.architecture): one.name for one in reversed(subjects)}
        results = retrain(
            recipe, study.store, wanted, display, signals,
            lambda trial: f"{names[trial.architecture_id]} seed {trial.seed}",
            address=address, in_process=in_process, at_once=at_once,
        )  # fmt: skip
    tell_mlflow(recipe, study, display)
    networks = _networks(recipe, space, data, subjects, shared, results)
    retraining = recipe.retraining.model_dump(mode="json") if recipe.retraining else {}
    evidence = Evidence(study.name, retraining, networks, noise, len(wanted) - len(results))
    write_evidence(study.store, evidence)
    return evidence


def _weights(study: Study, recipe: Recipe, data: ImageData) -> SharedWeights:
    found = read_weights(study.store, study.name)
    if found is None:
        raise ValueError(f"study {study.name} has no weights yet: go on with it by `archipelago resume {study.name}`")
    space = make_supernet_space(recipe, data.n_classes)
    return SharedWeights(space, load_weights(study.store, study.name, found), found)


# ---- which networks


def _subjects(
    report: StudyReport, recipe: Recipe, space: NetworkSpace[Any], data: ImageData, plan: Plan
) -> Iterator[Subject]:
    """Random ones, found ones with random ones of their size, and distortions of found ones.

    Each group has a stream of its own, so that more of one are the same ones of the others.
    """
    macs = _macs_counter(space, data)
    for place, island in enumerate(space.islands):
        seeds = [recipe.seed, 5, place]
        sampling, sizing, distorting = (
            np.random.default_rng(np.random.SeedSequence(seed)) for seed in (seeds, [*seeds, 1], [*seeds, 2])
        )
        for index in range(plan.sampled):
            yield Subject("sampled", island, f"{island} sampled {index}", _draw(space, island, sampling))
        best = front(report.objectives, report.events[island])
        if not best:
            continue
        found = space.decode(island, best[0].candidate.genotype)
        yield Subject("searched", island, f"{island}/{best[0].candidate.number}", found)
        for index, network in enumerate(_of_size(space, island, macs, macs(found), plan.random, sizing)):
            yield Subject("random", island, f"{island} random {index}", network)
        if plan.distort_all or island == space.islands[-1]:
            yield from _distorted(space, island, found, distorting)


def _macs_counter(space: NetworkSpace[Any], data: ImageData) -> Callable[[Any], int]:
    counter, shape = ComplexityCounter(space.build), (1, 3, *data.validation.size)
    return lambda architecture: counter.count(space.lower(architecture), shape).macs


def _draw(space: NetworkSpace[Any], island: str, rng: np.random.Generator) -> Any:
    return space.decode(island, space.sample(island, rng))


def _of_size(
    space: NetworkSpace[Any],
    island: str,
    macs: Callable[[Any], int],
    wanted: int,
    count: int,
    rng: np.random.Generator,
) -> list[Any]:
    """`count` random networks within `MACS_TOLERANCE` of the wanted size, or as many as were found."""
    found: list[Any] = []
    for _ in range(MOST_DRAWS if count else 0):
        network = _draw(space, island, rng)
        if abs(macs(network) / wanted - 1) <= MACS_TOLERANCE:
            found.append(network)
        if len(found) == count:
            break
    return found


def _distorted(space: NetworkSpace[Any], island: str, found: Any, rng: np.random.Generator) -> Iterator[Subject]:
    distortions = DISTORTIONS if isinstance(found, HyctasArchitecture) else {}  # they change operators
    for name, distortion in distortions.items():
        network = distortion(found, rng)
        if network is not None and network != found and not space.violations(network):
            yield Subject("distorted", island, name, network)


# ---- what they score


def _shared(
    study: Study,
    recipe: Recipe,
    scorer: Scorer,
    own: SharedWeights,
    subjects: Sequence[Subject],
    plan: Plan,
    display: Display,
) -> Iterator[tuple[str, list[float]]]:
    """By the name of weights or protocol, the mIoU of each subject."""
    networks, data = [one.architecture for one in subjects], scorer.data
    yield SEARCH, scorer(own, recipe.evaluation, networks)
    every = recipe.evaluation.model_copy(update={"recalibration_images": len(data.train)})
    if every.recalibration_images > recipe.evaluation.recalibration_images:
        yield ALL_IMAGES, scorer(own, every, networks)
    if (begun := read_digest(study.store, shared_place(study.name))) is not None:
        space = make_network_space(recipe, data.n_classes)
        shared = SharedWeights(space, load_weights(study.store, study.name, begun), begun)
        yield BEFORE, scorer(shared, recipe.evaluation, networks)
    if plan.fine_tuning_steps:
        scores: dict[int, float] = {}
        for island in dict.fromkeys(one.island for one in subjects):
            tuning = _fine_tuning(recipe, study.store, data, island, plan.fine_tuning_steps)
            tuned = _fine_tuned(tuning, own.weights, display, scorer.stop)
            places = [place for place, one in enumerate(subjects) if one.island == island]
            found = scorer(tuned, recipe.evaluation, [networks[place] for place in places])
            scores |= dict(zip(places, found, strict=True))
        yield FINE_TUNED, [scores[place] for place in range(len(subjects))]
    for name in plan.also:
        other = Study.at(name, study.store.where)
        theirs = StudyReport.read(other).recipe
        yield name, scorer(_weights(other, theirs, data), recipe.evaluation, networks)


def _fine_tuning(recipe: Recipe, store: Store, data: ImageData, island: str, steps: int) -> FineTuning:
    assert recipe.training is not None
    name = digest([steps, recipe.training.model_dump(mode="json")])
    return FineTuning(recipe, store, data, island, steps, f"{recipe.study}/fine-tuned/{island}-{name}")


def _fine_tuned(tuning: FineTuning, weights: Weights, display: Display, stop: Callable[[], bool]) -> SharedWeights:
    """The island's weights, from those of all.

    Raises:
        TrainingStopped: `stop` said so.
    """
    assert tuning.recipe.training is not None
    begin = part_of(weights, tuning.island) if tuning.recipe.training.island_steps else weights
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    display.say(f"fine-tuning the supernet for {tuning.island}")
    with display.training() as show:
        tuned = tuning(begin, Process(device, show, stop))
    if tuned is None:
        raise TrainingStopped(
            f"stopped while the supernet was fine-tuned for {tuning.island}: the same command goes on"
        )
    name = read_digest(tuning.store, tuning.place)
    assert name is not None
    return SharedWeights(tuning.space(), tuned, name)


def _noise(recipe: Recipe, scorer: Scorer, own: SharedWeights, subjects: Sequence[Subject]) -> dict[str, list[float]]:
    """Scores of the subjects that were not distorted under other recalibration subsets, by architecture."""
    networks = [one.architecture for one in subjects if one.group != "distorted"]
    columns = []
    for seed in range(1, OTHER_SUBSETS + 1):
        protocol = recipe.evaluation.model_copy(update={"seed": recipe.evaluation.seed + seed})
        columns.append(scorer(own, protocol, networks))
    names = map(architecture_id, networks)
    return {name: list(scores) for name, scores in zip(names, zip(*columns, strict=True), strict=True)}


def _trials(recipe: Recipe, data: ImageData, subjects: Sequence[Subject], seeds: int) -> list[Trial]:
    """All subjects once, then all of them again: what is stopped has something of each."""
    wanted = trials(recipe, data, [(one.island, one.architecture) for one in subjects], seeds)
    return sorted(wanted, key=lambda trial: trial.seed)


def _networks(
    recipe: Recipe,
    space: NetworkSpace[Any],
    data: ImageData,
    subjects: Sequence[Subject],
    shared: Mapping[str, Sequence[float]],
    results: Sequence[Retrained],
) -> list[Network]:
    """The subjects with all scores that there are."""
    macs = _macs_counter(space, data)
    found = []
    for place, one in enumerate(subjects):
        name = architecture_id(one.architecture)
        mine = sorted((r for r in results if r.trial.architecture_id == name and r.metrics), key=lambda r: r.trial.seed)
        found.append(
            Network(
                one.group,
                one.island,
                one.name,
                name,
                macs(one.architecture),
                {label: scores[place] for label, scores in shared.items()},
                [result.metrics["miou"] for result in mine],
                [result.metrics["test_miou"] for result in mine if "test_miou" in result.metrics],
            )
        )
    return found
