"""The search space of HyCTAS: what its genotypes mean, which are allowed, and the networks that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from search_spaces.base import (
    IMAGE,
    Choice,
    Genotype,
    Operation,
    Program,
    ProgramBuilder,
    Violation,
)
from search_spaces.checks import check_island
from search_spaces.complexity import ComplexityCounter, memory_violations, training_bytes
from search_spaces.hyctas import encoding, heads
from search_spaces.hyctas.architecture import STRIDES, WORDS, Branch, HyctasArchitecture
from search_spaces.hyctas.drawing import PALETTE, hyctas_svg
from search_spaces.hyctas.operators import BODIES, OPERATORS, Cell
from search_spaces.hyctas.settings import WIDTHS, HyctasSettings
from search_spaces.settings import ISLAND

MOST_DRAWS = 1000
"""Random architectures that are tried for one that breaks no constraint."""


class HyctasSpace:
    """Multi-branch networks of convolution and attention cells, an island per branch count.

    Source: HyCTAS; the encoding and the published operators follow the authors' retraining code.

    Args:
        settings: what the supernet holds.
        classes: classes that the head predicts.
        training_shape: (batch, 3, height, width) of a training batch, for the memory constraint.
    """

    def __init__(
        self, settings: HyctasSettings, classes: int, training_shape: tuple[int, int, int, int] = (16, 3, 512, 1024)
    ) -> None:
        self.name: str = settings.name
        self.settings = settings
        self.classes = classes
        self.training_shape = training_shape
        self.counter = ComplexityCounter(self.build)

    # ---- genotypes and architectures

    @property
    def islands(self) -> tuple[str, ...]:
        return self.settings.islands

    def _branch_count(self, island: str) -> int:
        check_island(island, self.islands)
        return int(island.removeprefix(ISLAND))

    def cardinalities(self, island: str) -> tuple[int, ...]:
        return encoding.cardinalities(self.settings.layers, self._branch_count(island))

    def decode(self, island: str, genotype: Genotype) -> HyctasArchitecture:
        return encoding.decode(self.settings.layers, self._branch_count(island), genotype)

    def encode(self, architecture: HyctasArchitecture) -> tuple[str, Genotype]:
        island = f"{ISLAND}{len(architecture.branches)}"
        self._branch_count(island)
        return island, encoding.encode(self.settings.layers, architecture)

    def architecture_from_json(self, description: Mapping[str, Any]) -> HyctasArchitecture:
        architecture = HyctasArchitecture.from_json(description)
        self.encode(architecture)  # raises where the space does not hold it
        return architecture

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        """Ends, descents, operators and widths uniformly among those that break no constraint.

        Raises:
            ValueError: of many random architectures none fits into the memory limit.
        """
        for _ in range(MOST_DRAWS):
            architecture = self._draw(self._branch_count(island), rng)
            if not (violations := self.violations(architecture)):
                return self.encode(architecture)[1]
        raise ValueError(
            f"space.memory_limit_bytes: none of {MOST_DRAWS} random architectures of {island} fits, the last one: "
            f"{violations[0].words}"
        )

    def _draw(self, count: int, rng: np.random.Generator) -> HyctasArchitecture:
        layers = self.settings.layers
        choices = encoding.combinations_of_ends(count)
        branches = []
        for end in choices[rng.integers(len(choices))]:
            downs = tuple(sorted(int(layer) for layer in rng.choice(layers - 1, size=end, replace=False)))
            ops = [int(rng.integers(1 if layer in downs else 0, len(OPERATORS))) for layer in range(layers)]
            widths = tuple(WIDTHS[index] for index in rng.integers(len(WIDTHS), size=layers - 1))
            branches.append(Branch(downs, tuple(OPERATORS[op] for op in ops), widths))
        return HyctasArchitecture(tuple(branches))

    def largest(self, rng: np.random.Generator) -> HyctasArchitecture:
        """All ends at full width, convolutions everywhere, descents at random."""
        branches = self._draw(max(self.settings.branches), rng).branches
        layers = self.settings.layers
        return HyctasArchitecture(
            tuple(Branch(branch.downs, ("conv",) * layers, (12,) * (layers - 1)) for branch in branches)
        )

    # ---- constraints

    def violations(self, architecture: HyctasArchitecture) -> tuple[Violation, ...]:
        """The paper's four constraints (section 3.4), each as an amount and in words."""
        found = [*_structural_violations(architecture)]
        limit = self.settings.memory_limit_bytes
        if limit is not None and not found:
            found += memory_violations(self.training_memory_bytes(architecture), limit)
        return tuple(found)

    def training_memory_bytes(self, architecture: HyctasArchitecture) -> int:
        """Bytes of the activations that a training step in float32 keeps, and of weights, gradients and momentum."""
        return training_bytes(self.counter.count(self.lower(architecture, training=True), self.training_shape))

    # ---- networks

    def channels(self, stride: int, width: int = 12) -> int:
        """Channels of a feature at `stride` with `width` twelfths: rounded half to even, to no divisor."""
        return round(stride * self.settings.filters * width / 12)

    def lower(self, architecture: HyctasArchitecture, training: bool = False) -> Program:
        """Stem, chains of cells, aggregation to stride 8, fusion, head; in training the auxiliary heads too."""
        build = ProgramBuilder()
        stem, head = self.settings.stem_width, self.settings.head_width
        low4 = 2 * self.channels(4, stem)
        stem4 = build.add(Operation.of("stem4", middle=2 * self.channels(2, stem), outputs=low4), IMAGE)
        stem8 = build.add(Operation.of("stem8", inputs=low4, outputs=self.channels(8, stem)), stem4)
        fused: dict[int, list[tuple[str, int]]] = {0: [], 1: [], 2: []}
        for branch in architecture.branches:
            last = self._lower_cells(build, branch, stem8)
            for scale in range(1, branch.end + 1):
                fused[scale].append(last[scale])
            feature, width = last[branch.end]
            for scale in reversed(range(branch.end)):
                own, own_width = last[scale]
                outputs = self.channels(8 << scale, head)
                operation = Operation.of(
                    "merge", end=branch.end, scale=scale, deep=width, own=own_width, outputs=outputs
                )
                feature, width = build.add(operation, feature, own), outputs
            fused[0].append((feature, width))
        outputs = self._head_channels(len(architecture.branches))
        fusion = build.add(
            Operation.of("fusion", scale=0, ends=architecture.ends, inputs=_widths(fused[0]), outputs=outputs),
            *(feature for feature, _ in fused[0]),
        )
        low = {0: {}, 1: {4: stem4}, 2: {8: stem8, 4: stem4}}[self.settings.model_type]
        sizes = {4: low4, 8: self.channels(8, stem)}
        flat = tuple(value for stride in low for value in (stride, sizes[stride]))
        shared = 0 if self.settings.family == "searching" else len(architecture.branches)
        operation = Operation.of("head", inputs=outputs, low_level=flat, branches=shared)
        output = build.add(operation, fusion, *low.values())
        auxiliary = self._lower_auxiliary(build, architecture, fused) if training else []
        return build.program(output, auxiliary)

    def _lower_cells(self, build: ProgramBuilder, branch: Branch, stem8: str) -> dict[int, tuple[str, int]]:
        """The branch's last feature at each scale that it reaches: step id and channels."""
        feature, inputs = stem8, self.channels(8, self.settings.stem_width)
        widths = (*branch.widths, self.settings.head_width)
        last = {}
        for layer, (operator, width) in enumerate(zip(branch.operators, widths, strict=True)):
            scale, down = branch.scale(layer), int(layer in branch.downs)
            last[scale] = (feature, inputs)
            outputs = self.channels(8 << scale + down, width)
            operation = Operation.of(
                "cell",
                layer=layer,
                scale=scale,
                down=down,
                operator=operator,
                inputs=inputs,
                outputs=outputs,
                last=int(layer == len(branch.operators) - 1),
            )
            feature, inputs = build.add(operation, feature), outputs
        last[branch.end] = (feature, inputs)
        return last

    def _lower_auxiliary(
        self, build: ProgramBuilder, architecture: HyctasArchitecture, fused: dict[int, list[tuple[str, int]]]
    ) -> list[str]:
        """Fusions of the features at strides 16 and 32, and a head over each: what training reads beside."""
        found = []
        for scale in (1, 2):
            if not fused[scale]:
                continue
            ends = tuple(end for end in architecture.ends if end >= scale)
            outputs = self.channels(8 << scale, self.settings.head_width)
            fusion = build.add(
                Operation.of("fusion", scale=scale, ends=ends, inputs=_widths(fused[scale]), outputs=outputs),
                *(feature for feature, _ in fused[scale]),
            )
            found.append(build.add(Operation.of("auxiliary", scale=scale, inputs=outputs), fusion))
        return found

    def _head_channels(self, branches: int) -> int:
        """Channels of the fused stride-8 feature: the searching family gives every branch count the same head."""
        width = self.channels(8, self.settings.head_width)
        return width if self.settings.family == "searching" else width * branches

    def build(self, operation: Operation) -> nn.Module:
        """A freshly initialised plain module for one operation of `lower`."""
        searching = self.settings.family == "searching"
        size = operation.integer
        match operation.name:
            case "stem4":
                return heads.Stem4(size("middle"), size("outputs"))
            case "stem8":
                return heads.Stem8(size("inputs"), size("outputs"))
            case "cell":
                stride = 2 if size("down") else 1
                body = BODIES[self.settings.family][str(operation["operator"])]
                return Cell(body(size("inputs"), size("outputs"), stride), identity=searching and stride == 1)
            case "merge":
                return heads.Merge(size("deep"), size("own"), size("outputs"))
            case "fusion" if searching:
                ends = operation.integers("ends")
                return heads.BranchFusion(dict(zip(ends, operation.integers("inputs"), strict=True)), size("outputs"))
            case "fusion":
                return heads.Fusion(sum(operation.integers("inputs")), size("outputs"))
            case "head":
                low = operation.integers("low_level")
                return heads.Head(size("inputs"), self.classes, dict(zip(low[::2], low[1::2], strict=True)))
            case "auxiliary":
                return heads.Head(size("inputs"), self.classes, {})
        raise ValueError(f"the HyCTAS space has no operation {operation.name!r}")

    # ---- for people

    @property
    def palette(self) -> dict[str, str]:
        return {WORDS[operator]: colour for operator, colour in PALETTE.items()}

    def choices(self, architecture: HyctasArchitecture) -> tuple[Choice, ...]:
        """An operator for each layer of each branch, which is known by where it ends."""
        return tuple(
            Choice(f"ends at 1/{STRIDES[branch.end]}", str(layer + 1), WORDS[operator])
            for branch in architecture.branches
            for layer, operator in enumerate(branch.operators)
        )

    def properties(self, architecture: HyctasArchitecture) -> dict[str, float]:
        branches = architecture.branches
        operators = [operator for branch in branches for operator in branch.operators]
        counts = {f"{WORDS[name]} cells": float(operators.count(name)) for name in PALETTE}
        widths = [width / 12 for branch in branches for width in branch.widths]
        lowest = {"lowest resolution 1/": float(STRIDES[architecture.ends[-1]])}
        return {**counts, "mean width": float(np.mean(widths)), **lowest}

    def draw(self, architecture: HyctasArchitecture) -> str:
        return hyctas_svg(architecture, self.settings.head_width)

    # ---- weights that architectures share

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        """Cells share by layer, scale and descent; merges by end; fusions by combination of ends; heads by size."""
        searching = self.settings.family == "searching"
        size = operation.integer
        match operation.name:
            case "cell":
                cell = f"cell/{size('layer')}/{8 << size('scale')}{'/down' if size('down') else ''}"
                return partial(_cell_name, cell, str(operation["operator"]), searching)
            case "merge":
                return f"merge/{8 << size('end')}/{8 << size('scale')}/{{}}".format
            case "fusion":
                scale, ends = 8 << size("scale"), "-".join(str(8 << end) for end in operation.integers("ends"))
                return partial(_fusion_name, f"fusion/{scale}", ends, searching)
            case "head" if not searching:
                return f"head/{size('branches')}/{{}}".format
            case "auxiliary":
                return f"auxiliary/{8 << size('scale')}/{{}}".format
        return f"{operation.name}/{{}}".format

    def largest_operations(self) -> Iterator[Operation]:
        """The operations of full-width networks that together take every path and every operator."""
        for count in self.settings.branches:
            for ends in encoding.combinations_of_ends(count):
                yield from self._largest(ends)

    def _largest(self, ends: tuple[int, ...]) -> Iterator[Operation]:
        layers = self.settings.layers
        for operator in OPERATORS:
            for widths in ((12, 12), (12, 10), (10, 12)):
                for first, second in [*pairwise(range(layers - 1)), (layers - 2, 0)]:
                    branches = []
                    for end in ends:
                        downs = tuple(sorted((first, second)[:end]))
                        ops = tuple("conv" if i in downs and operator == "skip" else operator for i in range(layers))
                        branches.append(Branch(downs, ops, tuple(widths[i % 2] for i in range(layers - 1))))
                    for step in self.lower(HyctasArchitecture(tuple(branches)), training=True).steps:
                        yield step.operation


def _widths(features: list[tuple[str, int]]) -> tuple[int, ...]:
    return tuple(width for _, width in features)


def _cell_name(cell: str, operator: str, searching: bool, parameter: str) -> str:
    """`parameter` of a cell: the searching family's operators share their first kernels."""
    if searching and parameter in ("body.kernel3.conv.weight", "body.kernel1.conv.weight"):
        return f"{cell}/{parameter.split('.')[1]}"
    return f"{cell}/{operator}/{parameter}"


def _fusion_name(fusion: str, ends: str, searching: bool, parameter: str) -> str:
    """`parameter` of a fusion: the searching family's combinations share how each branch is mixed in."""
    if searching and parameter.startswith("mix."):
        return f"{fusion}/{parameter}"
    return f"{fusion}/{ends}/{parameter}"


def _structural_violations(architecture: HyctasArchitecture) -> Iterator[Violation]:
    """The first three constraints: a path, descents that differ, no skip where a path goes down."""
    if not architecture.branches:
        yield Violation("paths", 1, "there is no path")
    for index, branch in enumerate(architecture.branches):
        if repeated := len(branch.downs) - len(set(branch.downs)):
            yield Violation("descents", repeated, f"branch {index} goes down twice at layer {branch.downs[0]}")
        for other in architecture.branches[:index]:
            if other.downs == branch.downs:
                yield Violation("descents", 1, f"branch {index} goes down where another does, at {branch.downs}")
        if skips := [layer for layer in branch.downs if branch.operators[layer] == "skip"]:
            yield Violation("skips", len(skips), f"branch {index} goes down by a skip at layer {skips[0]}")
