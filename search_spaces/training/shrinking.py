"""Search by shrinking: a network is trained with all its units, and loses those that a penalty has made unimportant.

Each step minimises the task's loss and a penalty on the importance of every unit, in proportion to the multiply-adds
that its removal saves. Every few hundred steps the units of hardly any importance are removed: from the weights, from
the optimiser's state and from the moving average, so that steps become cheaper as training goes on. BatchNorm needs no
care here: training normalises by the statistics of each batch, and whoever scores a network takes them anew.

Source: HR-NAS, section 3.3, eq. 6 and 7. As in the authors' code the savings are divided by their mean over all units
of the full network, so that a penalty weight means the same in networks and at sizes of any kind; and they are those of
the whole unit, its 1x1 convolutions included, where eq. 6 counts the depthwise convolution alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.alone import AloneSpace
from search_spaces.base import Operation, Program
from search_spaces.data.images import ImageData
from search_spaces.hrnas.architecture import HrnasArchitecture, Units
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hrnas.units import compacted, kept_units, unit_groups, without
from search_spaces.supernet import shared_name
from search_spaces.training.settings import ShrinkingSettings, TrainingSettings
from search_spaces.training.trainer import StepReport, SupernetTrainer

UNITS = "units"
"""The checkpoint's numbers of units: (blocks, kernel sizes + 1)."""


class Remaining(AloneSpace):
    """The one architecture that is left; its weights bear the names that they have in its space."""

    def lower(self, architecture: HrnasArchitecture, training: bool = False) -> Program:
        return self.space.lower(architecture, training)

    def build(self, operation: Operation) -> nn.Module:
        return self.space.build(operation)

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        return self.space.shared_names(operation)


class ShrinkingTrainer(SupernetTrainer):
    """Trains one network, the largest of `space` at first, and removes units as it goes.

    Args:
        space: any number of units must be in it.
        data, settings, seed, device: as of `SupernetTrainer`.
        shrinking: when units go.
        penalty: the weight of the penalty, lambda of eq. 7.
    """

    def __init__(
        self,
        space: HrnasSpace,
        data: ImageData,
        settings: TrainingSettings,
        shrinking: ShrinkingSettings,
        penalty: float,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.full, self.shrinking, self.penalty = space, shrinking, penalty
        self.image = (1, 3, *data.validation.size)
        self.architecture: HrnasArchitecture = space.largest(np.random.default_rng(0))
        groups = unit_groups(space, self.architecture, self.image)
        self._mean_saving = float(np.average([g.saved_macs for g in groups], weights=[g.count for g in groups]))
        super().__init__(Remaining(space, self.architecture), data, settings, seed, device)
        self._weigh()

    def _weigh(self) -> None:
        """Finds the units of the architecture and what each of them is penalised by."""
        self.groups = unit_groups(self.full, self.architecture, self.image)
        weights = {shared_name(key): weight for key, weight in self.supernet.weights.items()}
        self._penalised = [(weights[group.scale], group.saved_macs / self._mean_saving) for group in self.groups]

    @property
    def macs(self) -> int:
        """Multiply-adds of the architecture at the size of the data set's images."""
        return self.full.counter.count(self.full.lower(self.architecture), self.image).macs

    def penalty_weight(self, step: int) -> float:
        """Of a step, counted from 0: it rises linearly from 0."""
        return self.penalty * min(1.0, step / max(1, self.shrinking.warmup_steps))

    def _losses(self, results: list[list[Tensor]], labels: Tensor, has_teacher: bool) -> tuple[Tensor, float]:
        total, task = super()._losses(results, labels, has_teacher)
        if weight := self.penalty_weight(self.step):
            total = total + weight * self.cost()
        return total, task

    def cost(self) -> Tensor:
        """The sum over all units of importance times relative saving, a scalar with gradients. Source: eq. 7."""
        total = torch.zeros((), device=self.device)
        for scale, saving in self._penalised:
            total = total + saving * scale.abs().sum()
        return total

    def train_step(self) -> StepReport:
        """One optimiser step, and the removal of units where it is time for it."""
        report = super().train_step()
        if self.step in self.shrinking.snapshot_steps(self.settings.steps):
            self.remove()
        return report

    def remove(self) -> None:
        """Removes the units whose importance, by the weights that are searched with, is under the threshold."""
        kept = kept_units(self.groups, self.weights(), self.shrinking.threshold)
        fields = {field: compacted(tensors, self.groups, kept) for field, tensors in _fields(self.checkpoint()).items()}
        self._go_on(without(self.architecture, kept), fields)

    def checkpoint(self) -> dict[str, np.ndarray]:
        """As `SupernetTrainer.checkpoint`, with the numbers of units that are left."""
        units = [(*block.channels, block.tokens) for block in self.architecture.blocks]
        return {**super().checkpoint(), UNITS: np.array(units)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """As `SupernetTrainer.restore`; the network is the one that the checkpoint is of."""
        blocks = tuple(Units(tuple(map(int, row[:-1])), int(row[-1])) for row in state[UNITS])
        self._go_on(HrnasArchitecture(self.architecture.branches, blocks), _fields(state))

    def _go_on(self, architecture: HrnasArchitecture, fields: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Takes over another architecture, and what of a checkpoint's fields belongs to its parameters."""
        self.architecture = architecture
        self.begin(Remaining(self.full, architecture))
        self._weigh()
        names = {"", *(shared_name(key) for key in self.supernet.weights)}
        super().restore(
            {f"{field}/{name}": tensor for field, of in fields.items() for name, tensor in of.items() if name in names}
        )


def _fields(state: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """A checkpoint's tensors by field, such as weights, and then by shared name."""
    fields: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in state.items():
        field, _, name = key.partition("/")
        if field != UNITS:
            fields.setdefault(field, {})[name] = tensor
    return fields
