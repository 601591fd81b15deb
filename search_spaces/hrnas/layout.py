"""Where the searching blocks of a supernet are, and what each of them reads.

Branch 0 has stride 4, each further one twice that of the one before. Of a module's branches the lowest ones are kept,
as many as the island has. A fusion brings each branch together with its neighbours; a new branch comes from the lowest
one, after it was fused.

Source: HR-NAS, Figure 3 and section 3.2; where a new branch begins follows the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from search_spaces.hrnas.settings import HrnasSettings

STEM = -1
"""What a node reads for the stem's feature."""


@dataclass(frozen=True)
class Place:
    """Where a searching block is, and the most that it can hold."""

    name: str
    """Whose weights it takes."""
    branch: int
    """The branch whose feature it reads."""
    inputs: int
    outputs: int
    stride: int
    channels: int
    """Most hidden channels of each kernel size."""
    tokens: int
    """Most tokens; 0: it has no transformer."""


@dataclass(frozen=True)
class Node:
    """A searching block, or the sum of several features."""

    place: Place | None
    """None: a sum."""
    sources: tuple[int, ...]
    """Positions of the nodes that are read, or `STEM`."""


@dataclass(frozen=True)
class Layout:
    """The nodes of an island's largest network, each after those that it reads."""

    nodes: tuple[Node, ...]
    features: Mapping[int, tuple[int, int]]
    """Of the last module's branches: node and channels."""
    head: Place | None
    """The block that reads all of them; None: they are classified as they are."""

    @property
    def places(self) -> tuple[Place, ...]:
        """The searching blocks in order, the head's at the end."""
        places = [node.place for node in self.nodes if node.place is not None]
        return (*places, *([self.head] if self.head else []))


@cache
def layout(settings: HrnasSettings, branches: int) -> Layout:
    """The layout of the networks with at most so many branches beside each other."""
    builder = _Builder(settings)
    features = {0: (STEM, settings.stem[1])}
    for number, module in enumerate(settings.modules):
        kept = range(max(0, len(module.channels) - branches), len(module.channels))
        if number > 0 or settings.family == "published":
            features = builder.fuse(number, features, kept)
        for branch in kept:
            for index in range(module.blocks[branch]):
                name = f"module-{number}/{branch}/{index}"
                features[branch] = builder.block(name, branch, features[branch], module.channels[branch])
    head = None
    if settings.head_channels is not None:
        inputs = sum(channels for _, channels in features.values())
        head = builder.place(f"head-{branches}", min(features), inputs, settings.head_channels, 1)
    return Layout(tuple(builder.nodes), features, head)


class _Builder:
    """Collects nodes; a feature is its node and its channels."""

    def __init__(self, settings: HrnasSettings) -> None:
        self.settings = settings
        self.nodes: list[Node] = []

    def place(self, name: str, branch: int, inputs: int, outputs: int, stride: int) -> Place:
        settings = self.settings
        everywhere = settings.family == "paper" or (stride == 1 and inputs == outputs)
        tokens = settings.transformer.tokens if everywhere else 0
        return Place(name, branch, inputs, outputs, stride, settings.expansion * inputs, tokens)

    def block(self, name: str, branch: int, source: tuple[int, int], outputs: int, stride: int = 1) -> tuple[int, int]:
        node, inputs = source
        return self._add(Node(self.place(name, branch, inputs, outputs, stride), (node,))), outputs

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def fuse(self, number: int, features: Mapping[int, tuple[int, int]], kept: range) -> dict[int, tuple[int, int]]:
        """The features of the branches that module `number` keeps."""
        channels, lowest = self.settings.modules[number].channels, max(features)
        fused: dict[int, tuple[int, int]] = {}
        for target in (branch for branch in features if branch in kept or branch == lowest):
            parts = [
                self.block(f"fusion-{number}/{source}-{target}", source, features[source], channels[target],
                           stride=2 if source < target else 1)[0]
                for source in (target - 1, target, target + 1)
                if source in features
            ]  # fmt: skip
            fused[target] = self._add(Node(None, tuple(parts))), channels[target]
        if (new := lowest + 1) in kept:
            name = f"fusion-{number}/{lowest}-{new}"
            fused[new] = self.block(name, lowest, fused[lowest], channels[new], stride=2)
        return {branch: fused[branch] for branch in kept}
