"""The search space of HR-NAS: how many hidden channels and tokens every block has, and the networks that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from search_spaces.base import IMAGE, Choice, Genotype, InvalidGenotype, Operation, Program, ProgramBuilder, Violation
from search_spaces.checks import check_genotype, check_island
from search_spaces.complexity import ComplexityCounter, memory_violations, training_bytes
from search_spaces.hrnas import blocks
from search_spaces.hrnas.architecture import HrnasArchitecture, Units
from search_spaces.hrnas.drawing import KERNELS, REMOVED, TOKENS, hrnas_svg, parts_of
from search_spaces.hrnas.layout import STEM, Layout, Place, layout
from search_spaces.hrnas.settings import HrnasSettings
from search_spaces.settings import ISLAND, TaskName

MOST_DRAWS = 1000
"""Random architectures that are tried for one that fits into memory."""


class HrnasSpace:
    """Multi-branch networks of searching blocks, an island for each number of branches.

    genotype = (for each block: hidden channels of each kernel size, then tokens where it may have them)

    Fewer units take leading slices of a block's weights. Source: HR-NAS, section 3.2.

    Args:
        settings: what the supernet holds.
        classes: classes that the head predicts.
        training_shape: (batch, 3, height, width) of a training batch, for the memory constraint.
        task: what the head predicts, a class for each pixel or for the image.
    """

    def __init__(
        self,
        settings: HrnasSettings,
        classes: int,
        training_shape: tuple[int, int, int, int] = (32, 3, 512, 1024),
        task: TaskName = "segmentation",
    ) -> None:
        self.name: str = settings.name
        self.settings = settings
        self.classes = classes
        self.training_shape = training_shape
        self.task = task
        self.counter = ComplexityCounter(self.build)

    # ---- genotypes and architectures

    @property
    def islands(self) -> tuple[str, ...]:
        return self.settings.islands

    def layout(self, island: str) -> Layout:
        """Where the island's blocks are.

        Raises:
            InvalidGenotype: there is no such island.
        """
        check_island(island, self.islands)
        return layout(self.settings, int(island.removeprefix(ISLAND)))

    def _choices(self, island: str) -> list[tuple[int, ...]]:
        """The numbers that each gene chooses from, ascending."""
        return [
            choices(most, self.settings.parts) for place in self.layout(island).places for most in self._most(place)
        ]

    def _most(self, place: Place) -> tuple[int, ...]:
        return (place.channels,) * len(self.settings.kernels) + ((place.tokens,) if place.tokens else ())

    def cardinalities(self, island: str) -> tuple[int, ...]:
        return tuple(map(len, self._choices(island)))

    def decode(self, island: str, genotype: Genotype) -> HrnasArchitecture:
        allowed = self._choices(island)
        check_genotype(genotype, [len(numbers) for numbers in allowed], island)
        numbers_ = iter([numbers[gene] for gene, numbers in zip(genotype, allowed, strict=True)])
        units = []
        for place in self.layout(island).places:
            channels = tuple(next(numbers_) for _ in self.settings.kernels)
            units.append(Units(channels, next(numbers_) if place.tokens else 0))
        return HrnasArchitecture(int(island.removeprefix(ISLAND)), tuple(units))

    def encode(self, architecture: HrnasArchitecture) -> tuple[str, Genotype]:
        island = f"{ISLAND}{architecture.branches}"
        places = self.layout(island).places
        if len(architecture.blocks) != len(places):
            raise InvalidGenotype(f"{island} has {len(places)} blocks, got {len(architecture.blocks)}")
        genotype: list[int] = []
        for place, units in zip(places, architecture.blocks, strict=True):
            most, own = self._most(place), units.channels + ((units.tokens,) if place.tokens else ())
            if len(own) != len(most) or (units.tokens and not place.tokens):
                raise InvalidGenotype(f"block {place.name} has no {units}: check kernel sizes and tokens")
            for number, limit in zip(own, most, strict=True):
                allowed = choices(limit, self.settings.parts)
                if number not in allowed:
                    words = ", ".join(map(str, allowed)) if self.settings.parts else f"0 to {limit}"
                    raise InvalidGenotype(f"block {place.name} has {words} channels or tokens, got {number}")
                genotype.append(allowed.index(number))
        return island, tuple(genotype)

    def architecture_from_json(self, description: Mapping[str, Any]) -> HrnasArchitecture:
        architecture = HrnasArchitecture.from_json(description)
        self.encode(architecture)  # raises where the space does not hold it
        return architecture

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        """Every number uniformly, of those that fit into memory.

        Raises:
            ValueError: of many random architectures none fits.
        """
        for _ in range(MOST_DRAWS):
            genotype = tuple(int(gene) for gene in rng.integers(0, self.cardinalities(island)))
            if not (violations := self.violations(self.decode(island, genotype))):
                return genotype
        raise ValueError(
            f"space.memory_limit_bytes: none of {MOST_DRAWS} random architectures of {island} fits, the last one: "
            f"{violations[0].words}"
        )

    def largest(self, rng: np.random.Generator) -> HrnasArchitecture:
        """All units of the island with the most branches."""
        return self._full(max(self.settings.branches))

    def _full(self, branches: int) -> HrnasArchitecture:
        kernels = len(self.settings.kernels)
        places = layout(self.settings, branches).places
        return HrnasArchitecture(branches, tuple(Units((p.channels,) * kernels, p.tokens) for p in places))

    def violations(self, architecture: HrnasArchitecture) -> tuple[Violation, ...]:
        """Training that takes more memory than is allowed; any number of units may be built otherwise."""
        limit = self.settings.memory_limit_bytes
        return () if limit is None else memory_violations(self.training_memory_bytes(architecture), limit)

    def training_memory_bytes(self, architecture: HrnasArchitecture) -> int:
        """Bytes of the activations that a training step in float32 keeps, and of weights, gradients and momentum."""
        return training_bytes(self.counter.count(self.lower(architecture, training=True), self.training_shape))

    # ---- networks

    def lower(self, architecture: HrnasArchitecture, training: bool = False) -> Program:
        """Stem, modules and fusions, head; training reads nothing beside."""
        build, plan = ProgramBuilder(), layout(self.settings, architecture.branches)
        units = iter(architecture.blocks)
        middle, outputs = self.settings.stem
        stem = build.add(Operation.of("stem", middle=middle, outputs=outputs), IMAGE)
        steps = {STEM: stem}
        for index, node in enumerate(plan.nodes):
            operation = Operation.of("sum") if node.place is None else _block(node.place, next(units))
            steps[index] = build.add(operation, *(steps[source] for source in node.sources))
        features = [steps[node] for node, _ in plan.features.values()]
        if plan.head is None:
            widths = tuple(channels for _, channels in plan.features.values())
            sizes = {"branches": tuple(plan.features), "inputs": widths}
            if self.task == "classification":
                return build.program(build.add(Operation.of("image-classifier", **sizes), *features))
            return build.program(build.add(Operation.of("classifier", **sizes), stem, *features))
        together = build.add(Operation.of("concatenation"), stem, *features)
        head = build.add(_block(plan.head, next(units)), together)
        if self.task == "classification":
            operation = Operation.of("image-classifier", branches=(0,), inputs=(plan.head.outputs,))
            return build.program(build.add(operation, head))
        return build.program(build.add(Operation.of("pixel-classifier", inputs=plan.head.outputs), head))

    def build(self, operation: Operation) -> nn.Module:
        """A freshly initialised plain module for one operation of `lower`."""
        size, settings = operation.integer, self.settings
        match operation.name:
            case "stem":
                return blocks.Stem(size("middle"), size("outputs"))
            case "block":
                kernels: tuple[int, ...] = settings.kernels
                channels = dict(zip(kernels, operation.integers("channels"), strict=True))
                return blocks.SearchingBlock(
                    size("inputs"), size("outputs"), size("stride"), channels, size("tokens"), settings.transformer
                )
            case "sum":
                return blocks.Sum()
            case "concatenation":
                return blocks.Concatenation()
            case "classifier":
                pairs = zip(operation.integers("branches"), operation.integers("inputs"), strict=True)
                return blocks.Classifier(dict(pairs), self.classes)
            case "pixel-classifier":
                return nn.Conv2d(size("inputs"), self.classes, 1)
            case "image-classifier":
                pairs = zip(operation.integers("branches"), operation.integers("inputs"), strict=True)
                return blocks.ImageClassifier(dict(pairs), self.classes)
        raise ValueError(f"the HR-NAS space has no operation {operation.name!r}")

    # ---- for people

    @property
    def palette(self) -> dict[str, str]:
        """Of what a block has most of."""
        kernels = {f"{kernel}x{kernel}": KERNELS[kernel] for kernel in self.settings.kernels}
        return {**kernels, "tokens": TOKENS, "removed": REMOVED}

    def choices(self, architecture: HrnasArchitecture) -> tuple[Choice, ...]:
        """What each block has most of: channels of a kernel size, tokens, or removed units."""
        found = []
        for place, units in zip(layout(self.settings, architecture.branches).places, architecture.blocks, strict=True):
            kind, _, _ = max(parts_of(place, units, self.settings.kernels), key=lambda part: part[2])
            found.append(Choice(f"1/{4 << place.branch}", place.name, kind))
        return tuple(found)

    def properties(self, architecture: HrnasArchitecture) -> dict[str, float]:
        totals = zip(*(units.channels for units in architecture.blocks), strict=True)
        counts = {f"{k}x{k} channels": float(sum(n)) for k, n in zip(self.settings.kernels, totals, strict=True)}
        empty = sum(not any((*units.channels, units.tokens)) for units in architecture.blocks)
        tokens = sum(units.tokens for units in architecture.blocks)
        return {**counts, "tokens": float(tokens), "empty blocks": float(empty)}

    def draw(self, architecture: HrnasArchitecture) -> str:
        return hrnas_svg(architecture, layout(self.settings, architecture.branches), self.settings.kernels)

    # ---- weights that architectures share

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        """Blocks share by place; all numbers of branches share places, stem and classifier."""
        place = f"{operation['place']}" if operation.name == "block" else operation.name
        return f"{place}/{{}}".format

    def largest_operations(self) -> Iterator[Operation]:
        """The operations of each island's network with all units."""
        for branches in self.settings.branches:
            for step in self.lower(self._full(branches)).steps:
                yield step.operation


@cache
def choices(most: int, parts: int | None) -> tuple[int, ...]:
    """The numbers of units that a block with at most `most` chooses from, ascending."""
    if parts is None:
        return tuple(range(most + 1))
    return tuple(sorted({(most * part + parts // 2) // parts for part in range(parts + 1)}))


def _block(place: Place, units: Units) -> Operation:
    return Operation.of(
        "block",
        place=place.name,
        inputs=place.inputs,
        outputs=place.outputs,
        stride=place.stride,
        channels=units.channels,
        tokens=units.tokens,
    )
