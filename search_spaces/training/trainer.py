"""Supernet training: each step samples subnets, adds up their gradients and updates the shared weights.

Everything random in a step is drawn from a seed of that step's own, so weights, momenta and the number of the step
are the whole state: training that resumes from a checkpoint ends with the same weights.

Several processes can train together. Each draws the same batch and the same subnets, computes its part of the images,
and all of them update equal weights with the mean of their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.base import NetworkSpace
from search_spaces.data.images import ImageData
from search_spaces.supernet import Supernet, shared_name
from search_spaces.tasks.registry import TASKS
from search_spaces.training.ranks import ALONE, Ranks, SynchronisedBatchNorm2d
from search_spaces.training.settings import TrainingSettings


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did."""

    step: int
    """Counted from 1."""
    loss: float
    """Loss of the random subnets, averaged; of the largest one where it was alone."""


class SupernetTrainer:
    """Trains a supernet for the task of a data set.

    Args:
        space: what is trained; draws the subnets.
        data: its training split is used, and nothing else.
        settings: see `TrainingSettings`.
        seed: root of initial weights, order of images, augmentation and subnets.
        device: where the weights lie and the steps are computed; images are kept where they are.
        ranks: the processes that train together, in each of which there is one such trainer.
    """

    def __init__(
        self,
        space: NetworkSpace[Any],
        data: ImageData,
        settings: TrainingSettings,
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.task = TASKS[data.task]
        self.device, self.ranks = torch.device(device), ranks
        self.begin(space)
        self.probabilities = _island_probabilities(space, settings)

    def begin(self, space: NetworkSpace[Any]) -> None:
        """Is at step 0 of the training of `space`."""
        self.space = space
        synchronised = self.ranks.count > 1 and self.settings.batch_norm == "synchronised"
        batch_norm = SynchronisedBatchNorm2d if synchronised else nn.BatchNorm2d
        self.supernet = Supernet(space, torch.Generator().manual_seed(self.seed), batch_norm).to(self.device)
        self.step = 0
        self.average = None if self.settings.average_decay is None else self._weights()
        self.optimiser = self._optimiser()

    def _weights(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.supernet.parameters()]

    def _optimiser(self) -> torch.optim.Optimizer:
        settings = self.settings
        matrices = [weight for weight in self.supernet.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.supernet.parameters() if weight.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        if settings.optimiser == "adamw":
            return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        settings = self.settings
        rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        done = step / settings.steps
        match settings.schedule:
            case "cosine":
                fall = 0.5 * (1 + math.cos(math.pi * done))
            case "poly":
                fall = (1 - done) ** 0.9
            case "exponential":
                fall = 0.992 ** (step * settings.batch_size // len(self.data.train))
        return settings.learning_rate * rise * fall

    def train_step(self) -> StepReport:
        """One optimiser step."""
        settings, number = self.settings, self.step
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 1, number]))
        images, labels = self._batch(number, rng)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(number)
        self.optimiser.zero_grad(set_to_none=True)
        self._set_drop_path(number)
        alone = number < settings.warmup_largest_steps
        architectures = [self.space.largest(rng)] if settings.sandwich or alone else []
        architectures += [self._draw(rng) for _ in range(0 if alone else settings.subnets_per_step)]
        auxiliary = settings.auxiliary_weight > 0
        programs = [self.space.lower(architecture, training=auxiliary) for architecture in architectures]
        results = self.supernet(programs, images)
        total, task = self._losses(results, labels, has_teacher=settings.sandwich and not alone)
        torch.autograd.backward(total)
        self.ranks.average_gradients(self.supernet.parameters())
        if settings.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), settings.gradient_norm)
        self.optimiser.step()
        self.step += 1
        if self.average is not None:
            self._update_average()
        return StepReport(self.step, task)

    def _set_drop_path(self, number: int) -> None:
        """This step's rate, and draws that follow from its number."""
        if self.settings.drop_path == 0:
            return
        seed = np.random.SeedSequence([self.seed, 2, number, self.ranks.rank]).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.device).manual_seed(int(seed))
        self.supernet.set_drop_path(self.settings.drop_path * (number + 1) / self.settings.steps, generator)

    def _draw(self, rng: np.random.Generator) -> Any:
        island = self.space.islands[rng.choice(len(self.probabilities), p=self.probabilities)]
        return self.space.decode(island, self.space.sample(island, rng))

    def _losses(self, results: list[list[Tensor]], labels: Tensor, has_teacher: bool) -> tuple[Tensor, float]:
        """What is minimised, and the random subnets' mean loss; the first of `results` is the teacher's."""
        targets, labelled = self.task.targets(labels, self.settings)
        weight = self._weight(labelled)
        losses = [weight * self.task.loss(logits, extra, targets, self.settings) for logits, *extra in results]
        if not has_teacher:
            mean = torch.stack(losses).mean()
            return mean, self._average(mean)
        largest, *random = losses
        share = self.settings.distillation
        teacher = F.softmax(results[0][0].detach(), dim=1)
        divergences = [
            F.kl_div(F.log_softmax(logits, dim=1), teacher, reduction="none").sum(1).mean()
            for logits, *_ in results[1:]
        ]
        mean = torch.stack(random).mean()
        return largest + (1 - share) * mean + share * torch.stack(divergences).mean(), self._average(mean)

    def _weight(self, own: Tensor) -> Tensor:
        """What a mean over this process's labels, so many, counts in the mean of all processes' means; 1 if alone."""
        return own * self.ranks.count / self.ranks.total(own.clone()).clamp(min=1)

    def _average(self, value: Tensor) -> float:
        """The mean of all processes' `value`, a scalar."""
        return self.ranks.total(value.detach().clone()).item() / self.ranks.count

    def agree(self, wish: bool) -> bool:
        """Whether any of the processes wishes it, which all of them must be asked at the same time."""
        return bool(self.ranks.total(torch.tensor(int(wish), device=self.device)))

    def _batch(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """This process's part of the step's images and labels: every image once an epoch, in an order of its own."""
        size, count = self.settings.batch_size, len(self.data.train)
        part = self.ranks.part(size)
        positions = [number * size + place for place in part]
        orders = {epoch: self._order(epoch, count) for epoch in {position // count for position in positions}}
        index = torch.tensor([orders[position // count][position % count] for position in positions])
        train = self.data.train
        chosen = train.images[index].to(self.device), train.labels[index].to(self.device)
        images, labels = self.task.augment(*chosen, self.settings.augmentation, rng, part, size)
        return images.contiguous(memory_format=torch.channels_last), labels

    def _order(self, epoch: int, count: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence([self.seed, 0, epoch])).permutation(count)

    def _update_average(self) -> None:
        """Moves the average towards the weights, faster in the first steps so that it forgets where they began."""
        assert self.average is not None
        assert self.settings.average_decay is not None
        decay = min(self.settings.average_decay, self.step / (self.step + 9))
        torch._foreach_lerp_(self.average, [w.detach() for w in self.supernet.parameters()], 1 - decay)

    def weights(self) -> dict[str, np.ndarray]:
        """The weights to search with, by shared name: their moving average if one is kept."""
        if self.average is None:
            return self.supernet.to_numpy()
        names = (shared_name(key) for key in self.supernet.weights)
        return {name: average.cpu().numpy().copy() for name, average in zip(names, self.average, strict=True)}

    def checkpoint(self) -> dict[str, np.ndarray]:
        """The whole state: `restore` of it, in a trainer of the same arguments, goes on to the same weights."""
        state = {f"weights/{name}": weight for name, weight in self.supernet.to_numpy().items()}
        state["step"] = np.array(self.step)
        for key, weight in self.supernet.weights.items():
            for field, value in self.optimiser.state.get(weight, {}).items():
                if isinstance(value, Tensor):
                    state[f"{field}_of/{shared_name(key)}"] = value.cpu().numpy().copy()
        if self.average is not None:
            state |= {f"average/{name}": average for name, average in self.weights().items()}
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a checkpoint.

        Raises:
            ValueError: it is of another space, or of a trainer that keeps an average where this one does not, or the
                other way round.
        """
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, value in state.items():
            field, _, name = key.partition("/")
            parts.setdefault(field, {})[name] = value
        average = parts.pop("average", None)
        if (average is None) != (self.average is None):
            kept = "no" if average is None else "a"
            raise ValueError(f"the checkpoint has {kept} moving average, training.average_decay says otherwise")
        self.supernet.load_numpy(parts.pop("weights"))
        self.step = int(parts.pop("step")[""])
        if average is not None:
            self.average = [
                torch.tensor(average[shared_name(key)], device=self.device) for key in self.supernet.weights
            ]
        self.optimiser.state.clear()
        for key, weight in self.supernet.weights.items():
            name = shared_name(key)
            fields = {
                field.removesuffix("_of"): torch.tensor(
                    values[name], device="cpu" if field == "step_of" else self.device
                )
                for field, values in parts.items()
                if name in values
            }
            if fields:
                self.optimiser.state[weight] = fields


def _island_probabilities(space: NetworkSpace[Any], settings: TrainingSettings) -> np.ndarray:
    count = len(space.islands)
    given = settings.island_probabilities or ((0.2, 0.3, 0.5) if count == 3 else (1.0,) * count)
    if len(given) != count:
        raise ValueError(f"training.island_probabilities must have {count} entries ({space.islands}), got {len(given)}")
    return np.array(given) / sum(given)
