"""A search space of your own, in one file: short and long chains of residual blocks.

    space:
      name: own
      of: own_space:ChainSpace
      options: {layers: 6}

Each layer is left out, or has a kernel size and a width. Networks share the weights of a layer: a narrower block has
the leading channels of a wider one; the depthwise convolution of each kernel size is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from search_spaces.base import IMAGE, Genotype, InvalidGenotype, Json, Operation, Program, ProgramBuilder, Violation
from search_spaces.checks import check_fields, check_genotype, check_island
from search_spaces.layers import ConvNorm

ISLANDS = ("short", "long")
"""Each is searched on its own; they share the layers that both have. All networks give logits of one size."""
BLOCKS = ((0, 0), (3, 16), (3, 32), (5, 16), (5, 32))
"""What a gene chooses from: kernel size and hidden channels; the first leaves the layer out."""


@dataclass(frozen=True)
class Chain:
    """An architecture: hashable, compared by value, and free of what cannot matter."""

    island: str
    blocks: tuple[int, ...]
    """For each layer the index of its block in `BLOCKS`."""

    def to_json(self) -> dict[str, Json]:
        return {"island": self.island, "blocks": list(self.blocks)}

    def __str__(self) -> str:
        blocks = [BLOCKS[block] for block in self.blocks if block]
        return f"{self.island}: " + " ".join(f"{kernel}x{kernel}/{hidden}" for kernel, hidden in blocks)


class ResidualBlock(nn.Module):
    """(B, channels, H, W) -> the same shape."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.wide = ConvNorm(channels, hidden, 1, relu=True)
        self.depthwise = ConvNorm(hidden, hidden, kernel, relu=True, groups=hidden)
        self.narrow = ConvNorm(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.depthwise(self.wide(x)))


class ChainSpace:
    """Implements `search_spaces.base.NetworkSpace`, whose methods say what is promised."""

    name = "chains"
    islands = ISLANDS

    def __init__(
        self, classes: int, training_shape: tuple[int, int, int, int], layers: int = 6, channels: int = 24
    ) -> None:
        self.classes, self.layers, self.channels = classes, layers, channels

    # ---- genotypes and architectures

    def cardinalities(self, island: str) -> tuple[int, ...]:
        check_island(island, self.islands)
        return (len(BLOCKS),) * (self.layers if island == "long" else self.layers // 2)

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        return tuple(int(gene) for gene in rng.integers(0, self.cardinalities(island)))

    def decode(self, island: str, genotype: Genotype) -> Chain:
        check_genotype(genotype, self.cardinalities(island), island)
        return Chain(island, genotype)

    def encode(self, architecture: Chain) -> tuple[str, Genotype]:
        return architecture.island, architecture.blocks

    def violations(self, architecture: Chain) -> tuple[Violation, ...]:
        return ()  # every chain may be built

    def architecture_from_json(self, description: Mapping[str, Json]) -> Chain:
        check_fields(description, ("island", "blocks"))
        blocks = description["blocks"]
        if not isinstance(blocks, list):
            raise InvalidGenotype(f"blocks must be a list of integers, got {blocks!r}")
        return self.decode(str(description["island"]), tuple(blocks))

    # ---- networks

    def largest(self, rng: np.random.Generator) -> Chain:
        return Chain("long", (len(BLOCKS) - 1,) * self.layers)

    def lower(self, architecture: Chain, training: bool = False) -> Program:
        build = ProgramBuilder()
        feature = build.add(Operation.of("stem"), IMAGE)
        for layer, block in enumerate(architecture.blocks):
            kernel, hidden = BLOCKS[block]
            if kernel:
                feature = build.add(Operation.of("block", layer=layer, kernel=kernel, hidden=hidden), feature)
        return build.program(build.add(Operation.of("classifier"), feature))

    def build(self, operation: Operation) -> nn.Module:
        match operation.name:
            case "stem":
                return nn.Sequential(
                    *(ConvNorm(inputs, self.channels, 3, 2, relu=True) for inputs in (3, self.channels))
                )
            case "block":
                return ResidualBlock(self.channels, operation.integer("hidden"), operation.integer("kernel"))
            case "classifier":
                return nn.Conv2d(self.channels, self.classes, 1)
        raise ValueError(f"chains have no operation {operation.name!r}")

    def shared_names(self, operation: Operation) -> Callable[[str], str]:
        """Blocks of a layer share tensors by name, those that are of a kernel size have one for each."""
        if operation.name != "block":
            return f"{operation.name}/{{}}".format
        sizes = f"{operation['layer']}/{operation['kernel']}x/"
        return lambda name: sizes + name if name.startswith("depthwise") else f"{operation['layer']}/{name}"

    def largest_operations(self) -> Iterator[Operation]:
        yield Operation.of("stem")
        yield Operation.of("classifier")
        for layer in range(self.layers):
            for kernel in (3, 5):
                yield Operation.of("block", layer=layer, kernel=kernel, hidden=32)
