"""The search units of an HR-NAS network: what each is worth, what its removal saves, and the network without some.

A unit is a hidden channel of one kernel size, or a token. Its importance is the absolute scale of a BatchNorm: of the
one after the depthwise convolution, or of the projector's. Units that stay become the leading ones, so that numbers of
units describe what is left as they do any other architecture.

A channel that is removed takes away what it added to its block, and nothing else; one whose scale is 0 added a constant
that the BatchNorm behind it takes away again. A token is attended to by the others, so they change with it: what is
left is the transformer in which nobody looks at it.

Source: HR-NAS, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from search_spaces.base import Operation
from search_spaces.complexity import Shape, step_cost
from search_spaces.hrnas.architecture import HrnasArchitecture, Units
from search_spaces.hrnas.layout import Place
from search_spaces.hrnas.positions import CHANNELS
from search_spaces.hrnas.settings import TransformerSettings
from search_spaces.hrnas.space import HrnasSpace
from search_spaces.hrnas.transformer import LightTransformer
from search_spaces.settings import ISLAND

BISECTIONS = 12
"""Of the scale at which a random network has the wanted size."""
Kept = Mapping[tuple[int, int], np.ndarray]
"""Positions of the units that stay, ascending, by block and kind."""


CHANNEL_AXES = {
    "expand.conv.weight": 0,
    "expand.norm.weight": 0,
    "expand.norm.bias": 0,
    "depthwise.conv.weight": 0,
    "depthwise.norm.weight": 0,
    "depthwise.norm.bias": 0,
    "reduce.weight": 1,
}
"""The axis along which a parameter of `MixPath` has a slice for each channel."""
TOKEN_AXES = {
    "project.conv.weight": 0,
    "project.norm.weight": 0,
    "project.norm.bias": 0,
    "queries": 0,
    "unproject.conv.weight": 1,
}
"""The axis along which a parameter of `LightTransformer` has a slice for each token."""


@dataclass(frozen=True)
class UnitGroup:
    """The units of one kind in one block."""

    block: int
    """Position in the architecture."""
    kind: int
    """Position of the kernel size; one more than the last of them: tokens."""
    count: int
    scale: str
    """Shared name of the BatchNorm scale (count,) whose absolute values are their importance."""
    saved_macs: int
    """Multiply-adds that the removal of one of them saves."""
    axes: Mapping[str, tuple[int, int]]
    """By shared name of a parameter: the axis along which it has a slice for each unit, and where on it they begin."""

    @property
    def key(self) -> tuple[int, int]:
        return self.block, self.kind


def unit_groups(space: HrnasSpace, architecture: HrnasArchitecture, image: Shape) -> tuple[UnitGroup, ...]:
    """The units of an architecture, block by block; kinds that a block has none of are left out.

    image: (1, 3, height, width) of the input at which multiply-adds are counted.
    """
    places = space.layout(f"{ISLAND}{architecture.branches}").places
    pairs = enumerate(zip(places, architecture.blocks, strict=True))
    return tuple(group for block, (place, units) in pairs for group in _groups(space, block, place, units, image))


def _groups(space: HrnasSpace, block: int, place: Place, units: Units, image: Shape) -> Iterator[UnitGroup]:
    kernels: tuple[int, ...] = space.settings.kernels
    transformer = space.settings.transformer
    height, width = (-(-length // 2 ** (place.branch + 2)) for length in image[2:])
    reduced = -(-height // place.stride) * -(-width // place.stride)
    for kind, (kernel, count) in enumerate(zip(kernels, units.channels, strict=True)):
        name = f"{place.name}/paths.{kernel}.{{}}".format
        saved = place.inputs * height * width + (kernel**2 + place.outputs) * reduced
        axes = {name(parameter): (axis, 0) for parameter, axis in CHANNEL_AXES.items()}
        if count:
            yield UnitGroup(block, kind, count, name("depthwise.norm.weight"), saved, axes)
    if units.tokens:
        name = f"{place.name}/transformer.{{}}".format
        shape = (1, place.inputs, height, width)
        macs = [_transformer_macs(transformer, place, tokens, shape) for tokens in (units.tokens - 1, units.tokens)]
        before = {"unproject.conv.weight": CHANNELS[transformer.positions] * (transformer.positions_in == "both")}
        axes = {name(parameter): (axis, before.get(parameter, 0)) for parameter, axis in TOKEN_AXES.items()}
        yield UnitGroup(block, len(kernels), units.tokens, name("project.norm.weight"), macs[1] - macs[0], axes)


@cache
def _transformer_macs(settings: TransformerSettings, place: Place, tokens: int, shape: Shape) -> int:
    def build(_: Operation) -> LightTransformer:
        return LightTransformer(place.inputs, place.outputs, tokens, settings, place.stride)

    return step_cost(build, Operation("transformer"), shape).macs if tokens else 0


def kept_units(groups: Sequence[UnitGroup], scales: Mapping[str, np.ndarray], threshold: float) -> Kept:
    """The units whose importance is not under the threshold.

    scales: by the groups' shared names.
    """
    return {group.key: np.flatnonzero(np.abs(scales[group.scale]) >= threshold) for group in groups}


def without(architecture: HrnasArchitecture, kept: Kept) -> HrnasArchitecture:
    """The architecture of the units that stay."""
    blocks = []
    for block, units in enumerate(architecture.blocks):
        counts = [len(kept.get((block, kind), ())) for kind in range(len(units.channels) + 1)]
        blocks.append(Units(tuple(counts[:-1]), counts[-1]))
    return HrnasArchitecture(architecture.branches, tuple(blocks))


def compacted(tensors: Mapping[str, np.ndarray], groups: Sequence[UnitGroup], kept: Kept) -> dict[str, np.ndarray]:
    """Copies of tensors that are shaped as the parameters of their names, without the slices of the other units."""
    result = dict(tensors)
    for group in groups:
        for name, (axis, first) in group.axes.items():
            if name in result and result[name].ndim:  # AdamW counts its steps for each tensor
                stays = np.concatenate([np.arange(first), first + kept[group.key]])
                result[name] = np.take(result[name], stays, axis)
    return result


def random_of_macs(space: HrnasSpace, macs: int, image: Shape, rng: np.random.Generator) -> HrnasArchitecture:
    """A random network of about so many multiply-adds, as near as a few channels come; the largest if it has fewer.

    Each kind of units of each block has a share of its most that is drawn uniformly; all of them are then made larger
    or smaller together. Random networks as they are sampled have half of the units, give or take little.
    """
    whole = space.largest(rng)
    groups = unit_groups(space, whole, image)
    shares = rng.random(len(groups))

    def network(scale: float) -> HrnasArchitecture:
        counts = [round(group.count * min(1.0, scale * share)) for group, share in zip(groups, shares, strict=True)]
        return without(whole, {group.key: np.arange(count) for group, count in zip(groups, counts, strict=True)})

    def too_large(scale: float) -> bool:
        return space.counter.count(space.lower(network(scale)), image).macs > macs

    low, high = 0.0, 1.0
    while not too_large(high) and high * min(shares) < 1:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if too_large(middle) else (middle, high)
    return network(low)
