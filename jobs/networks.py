"""Networks of a study's candidates, with shared weights or trained from scratch, and what is said about them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infra.exported import OUTPUTS, NetworkDescription, Output, StandaloneNetwork
from infra.weights import load_weights
from jobs.composition import load_data, make_network_space, make_supernet_space
from jobs.recipe_file import changed
from jobs.retrain import retraining_space, trials
from jobs.selection import name_of, named
from jobs.study import Study
from jobs.tables import StudyReport
from orchestrator.config import Recipe
from orchestrator.evaluation.evaluator import NetworkEvaluator
from orchestrator.evaluation.executor import Executor
from orchestrator.records import Event, Measurement
from orchestrator.retraining import Retrained, read_retrained
from orchestrator.study import library_versions, read_study, read_weights
from search_spaces.alone import AloneSpace
from search_spaces.base import NetworkSpace, Program
from search_spaces.data.images import ImageData
from search_spaces.data.segmentation import IGNORE
from search_spaces.hrnas.snapshots import SnapshotSpace
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hyctas.space import HyctasSpace
from search_spaces.settings import METRICS_OF
from search_spaces.subnet import Subnet
from search_spaces.supernet import Weights
from search_spaces.training.settings import RetrainingSettings


@dataclass(frozen=True)
class CandidateNetwork:
    """A candidate as a network, its BatchNorm recalibrated and not folded."""

    network: StandaloneNetwork
    description: NetworkDescription
    data: ImageData


class StudyNetworks:
    """Makes networks of a study's measured candidates.

    Args:
        study: where its weights lie.
        overrides: `data.root=FOLDER`, where the data set lies elsewhere than the recipe says.

    Raises:
        ValueError: the space has no networks, or an override of something else.
        DataError: the data set is missing or broken, or not the one that the study was searched on.
    """

    def __init__(self, study: Study, overrides: Sequence[str] = ()) -> None:
        self.study, self.report = study, StudyReport.read(study)
        recipe = self.report.recipe
        if recipe.training is None:
            raise ValueError(f"study {study.name} searches space {recipe.space.name}, which has no networks")
        self.recipe = changed(recipe, overrides, ("data.root=",))
        self.data = load_data(self.recipe)
        searched = read_study(study.store, study.name).origin.get("data")
        found = f"{self.data.train.fingerprint}-{self.data.validation.fingerprint}"
        if searched not in (None, found):
            raise ValueError(
                f"data.root: study {study.name} was searched on data {searched}, what is there now is {found}: say "
                "where the study's data lie by --set data.root=FOLDER"
            )

    def network(self, name: str, output: Output = "logits") -> CandidateNetwork:
        """The candidate ISLAND/NUMBER with the weights that the search scored it with.

        Raises:
            ValueError: there is no such candidate, or the supernet is not trained yet.
            StoreError: the weights are damaged.
        """
        event = named(self.report, name)
        digest = read_weights(self.study.store, self.study.name)
        if digest is None:
            raise ValueError(f"study {self.study.name} has no weights yet: finish `archipelago search` first")
        assert isinstance(event.result, Measurement)
        space = make_network_space(self.recipe, self.data.n_classes)
        architecture = space.decode(event.candidate.island, event.candidate.genotype)
        weights_of = make_supernet_space(self.recipe, self.data.n_classes)
        made = _Made(event, architecture, space, weights_of, digest, event.result.metrics, None)
        return self._finished(made, output)

    def retrained_network(self, name: str, seed: int | None = None, output: Output = "logits") -> CandidateNetwork:
        """The candidate ISLAND/NUMBER with weights that it was trained from scratch to.

        seed: of the trial; of several trials the best on validation.

        Raises:
            ValueError: there is no such candidate, or no such trial.
            StoreError: the weights are damaged.
        """
        event = named(self.report, name)
        result = self.best_trial(name, seed)
        recipe = self.recipe.model_copy(update={"retraining": RetrainingSettings(**result.trial.settings)})
        space = retraining_space(recipe, self.data.n_classes)
        architecture = space.architecture_from_json(result.trial.architecture)
        (same,) = trials(recipe, self.data, [(result.trial.island, architecture)], 1)
        if same.circumstances != result.trial.circumstances:
            raise ValueError(
                f"trial {result.trial.id} of {name} was trained on other data than are there now, or scored by another "
                "protocol: say where the study's data lie by --set data.root=FOLDER"
            )
        only = AloneSpace(space, architecture)
        made = _Made(event, architecture, space, only, result.weights, result.metrics, result)
        return self._finished(made, output)

    def best_trial(self, name: str, seed: int | None) -> Retrained:
        """The candidate's trial of that seed, or of any, with the highest score on validation."""
        event = named(self.report, name)
        every = read_retrained(self.study.store, self.study.name)
        mine = [one for one in every if one.trial.architecture_id == event.candidate.architecture_id]
        done = [one for one in mine if one.score is not None and seed in (None, one.trial.seed)]
        if not done:
            with_seed = "" if seed is None else f" with seed {seed}"
            seeds = ", ".join(str(one.trial.seed) for one in mine if one.score is not None) or "none"
            raise ValueError(
                f"candidate {name} has no finished training from scratch{with_seed} (seeds that have: {seeds}): run "
                f"`archipelago retrain {self.study.name} {name}`"
            )
        return max(done, key=lambda one: (one.score or 0.0, one.trial.id))

    def _finished(self, made: _Made, output: Output) -> CandidateNetwork:
        weights = load_weights(self.study.store, self.study.name, made.digest)
        space, architecture = made.plain
        program = space.lower(architecture)
        subnet = calibrated(self.recipe, program, made.weights_of, made.architecture, weights, self.data)
        network = StandaloneNetwork(subnet, self.data.mean, self.data.std, output).eval()
        return CandidateNetwork(network, self._description(made, output), self.data)

    def _description(self, made: _Made, output: Output) -> NetworkDescription:
        space, architecture = made.plain
        metrics, data, task = made.metrics, self.data, self.data.task
        if output not in OUTPUTS[task]:
            raise ValueError(f"--output {output} is none of networks for {task}: take {' or '.join(OUTPUTS[task])}")
        images = self.recipe.evaluation.validation_images or len(data.validation)
        return NetworkDescription(
            study=self.study.name,
            candidate=name_of(made.event),
            architecture_id=made.event.candidate.architecture_id,
            architecture=architecture.to_json(),
            task=task,
            space=space.settings,
            class_names=data.class_names,
            ignore_index=IGNORE if task == "segmentation" else None,
            mean=data.mean,
            std=data.std,
            output=output,
            output_form=OUTPUTS[task][output],
            stride=_stride(space) if task == "segmentation" else None,
            trained="retrained" if made.result else "shrunk" if self.recipe.shrinking else "supernet",
            trial="" if made.result is None else made.result.trial.id,
            seed=None if made.result is None else made.result.trial.seed,
            weights=made.digest,
            **{name: metrics[name] for name in METRICS_OF[task]},
            iou={name.removeprefix("iou/"): value for name, value in metrics.items() if name.startswith("iou/")},
            scored_images=min(images, len(data.validation)),
            scored_size=data.validation.size,
            validation=data.validation.fingerprint,
            evaluation=self.recipe.evaluation,
            macs=int(metrics["macs"]),
            params=int(metrics["params"]),
            versions={name: library_versions()[name] for name in ("archipelago-nas", "torch")},
        )


@dataclass(frozen=True)
class _Made:
    """What a network is made of."""

    event: Event
    architecture: Any
    space: NetworkSpace[Any]
    weights_of: NetworkSpace[Any]
    """The space that names the weights."""
    digest: str
    metrics: Any
    result: Retrained | None

    @property
    def plain(self) -> tuple[HyctasSpace | HrnasSpace, Any]:
        """The space and the architecture that describe the network without its study."""
        space, architecture = self.space, self.architecture
        if isinstance(space, SnapshotSpace):
            space, architecture = space.space, architecture.network
        assert isinstance(space, HyctasSpace | HrnasSpace)
        return space, architecture


def _stride(space: NetworkSpace[Any]) -> int:
    """Of the coarse logits."""
    return 8 if isinstance(space, HyctasSpace) and space.settings.model_type == 0 else 4


def calibrated(
    recipe: Recipe,
    program: Program,
    weights_of: NetworkSpace[Any],
    architecture: Any,
    weights: Weights,
    data: ImageData,
) -> Subnet:
    """The program as a module of its own, on the CPU, with the BatchNorm statistics that it is scored with.

    weights_of: the space that names the weights; its program of the architecture has the steps of `program`, in order.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    evaluator = NetworkEvaluator(weights_of, weights, data, recipe.evaluation, recipe.latency, device)
    named_by_weights = weights_of.lower(architecture)
    executor = Executor(evaluator.modules, [named_by_weights])
    batches = torch.split(evaluator.calibration, recipe.evaluation.batch_size)
    executor.recalibrate(data.normalise(batch).to(evaluator.dtype) for batch in batches)
    pairs = zip(named_by_weights.steps, program.steps, strict=True)
    modules = {ours.id: copy.deepcopy(executor.modules[theirs.id]) for theirs, ours in pairs}
    return Subnet(program, modules).to("cpu", torch.float32).requires_grad_(True).eval()
