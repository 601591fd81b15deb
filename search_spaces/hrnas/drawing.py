"""An HR-NAS network as a picture: branches as rows, searching blocks as bars of what is left of them.

A bar's height is the share of a block's units that it has, its colours are kernel sizes and tokens; a block without
units is a line. Below, as in the paper's Figure 4, the shares of each block side by side, removed units included.

Source: HR-NAS, Figures 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

from search_spaces.hrnas.architecture import HrnasArchitecture, Units
from search_spaces.hrnas.layout import STEM, Layout, Place

KERNELS = {3: "#56b4e9", 5: "#0072b2", 7: "#009e73", 9: "#cc79a7"}
"""Colours by kernel size, of Okabe and Ito."""
TOKENS, REMOVED = "#d55e00", "#b8bec6"
STYLE = (
    ".units{font:600 12px system-ui,sans-serif;color:#3d444d}"
    ".units text{text-anchor:middle;dominant-baseline:central;fill:currentColor}"
    ".units .small{font-size:11px;font-weight:400}"
    ".units .line{fill:none;stroke:currentColor;stroke-width:1.2;opacity:.55}"
    ".units .row{fill:currentColor;opacity:.06}"
    ".units .box{fill:none;stroke:currentColor;stroke-width:1.2}"
    "@media(prefers-color-scheme:dark){.units{color:#c9d1d9}}"
)
LEFT, STEP, LANE, TOP, GAP = 84, 34, 78, 26, 8
"""Pixels: the first block's centre, between columns, a branch's height, above the branches, between them."""
WIDE, FULL, THIN = 20, 40, 18
"""Pixels: a bar's width, its height with all units in a module and in a fusion."""
BARS, LEGEND = 84, 46
"""Pixels: the height of Figure 4's bars, and of what is above them."""

Part = tuple[str, str, int]
"""What, its colour, and how many units."""


def parts_of(place: Place, units: Units, kernels: Sequence[int]) -> tuple[Part, ...]:
    """The units of a block by kind, and in the end those that it could have and has not."""
    found = [(f"{kernel}x{kernel}", KERNELS[kernel], n) for kernel, n in zip(kernels, units.channels, strict=True)]
    found.append(("tokens", TOKENS, units.tokens))
    return (*found, ("removed", REMOVED, most_of(place, kernels) - sum(n for *_, n in found)))


def most_of(place: Place, kernels: Sequence[int]) -> int:
    """How many units a block can have."""
    return len(kernels) * place.channels + place.tokens


def hrnas_svg(architecture: HrnasArchitecture, plan: Layout, kernels: Sequence[int]) -> str:
    """The network and the shares of its blocks' units as one SVG element."""
    drawn = _Drawn(plan, architecture.blocks, tuple(kernels))
    parts = [*_rows(drawn), *_network(drawn), *_shares(drawn)]
    size = f"{drawn.width} {drawn.height}"
    return (
        f'<svg class="units" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{drawn.width}" '
        f'role="img" aria-label="{escape(str(architecture))}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Drawn:
    """Where things are: a row for each branch, a column for each step from the stem."""

    plan: Layout
    blocks: tuple[Units, ...]
    kernels: tuple[int, ...]

    @cached_property
    def columns(self) -> list[int]:
        """The column of each node."""
        found: list[int] = []
        for node in self.plan.nodes:
            found.append(1 + max((found[source] for source in node.sources if source != STEM), default=-1))
        return found

    @cached_property
    def lanes(self) -> list[int]:
        """The branch of each node's result; of a sum that of its parts."""
        found: list[int] = []
        for node in self.plan.nodes:
            found.append(found[node.sources[0]] if node.place is None else _target(node.place))
        return found

    @cached_property
    def present(self) -> list[int]:
        return sorted({0, *self.lanes})

    @cached_property
    def end_x(self) -> float:
        """The centre of the concatenation."""
        return LEFT + (max(self.columns) + 1) * STEP

    @property
    def width(self) -> int:
        ends = 2.4 if self.plan.head is None else 3.6
        return max(LEFT + 84 * (len(self.kernels) + 2), round(self.end_x + ends * STEP))

    @property
    def below(self) -> float:
        """Where the branches end."""
        return TOP + len(self.present) * (LANE + GAP)

    @property
    def height(self) -> int:
        return round(self.below + LEGEND + BARS + 26)

    def lane_y(self, branch: int) -> float:
        return TOP + self.present.index(branch) * (LANE + GAP) + LANE / 2

    def at(self, index: int) -> tuple[float, float]:
        """The centre of a node; the parts of a sum are above each other, by where they come from."""
        place, lane = self.plan.nodes[index].place, self.lanes[index]
        aside = 0
        if place is not None and place.name.startswith("fusion") and self._is_part(index):
            aside = place.branch - lane
        return LEFT + self.columns[index] * STEP, self.lane_y(lane) + 29 * aside

    def _is_part(self, index: int) -> bool:
        return any(node.place is None and index in node.sources for node in self.plan.nodes)


def _target(place: Place) -> int:
    """The branch that a block's result belongs to."""
    return int(place.name.rpartition("-")[2]) if place.name.startswith("fusion") else place.branch


def _rows(drawn: _Drawn) -> Iterator[str]:
    """Bands with the resolutions."""
    for branch in drawn.present:
        y = drawn.lane_y(branch)
        yield f'<rect class="row" x="0" y="{y - LANE / 2:g}" width="{drawn.width}" height="{LANE}" rx="4"/>'
        yield _text(18, y, f"1/{4 << branch}")


def _network(drawn: _Drawn) -> Iterator[str]:
    """Stem, blocks, sums, and what brings the branches together."""
    stem_x, stem_y = LEFT - 1.1 * STEP, drawn.lane_y(0)
    yield _upright(stem_x, stem_y, LANE - 8, "stem")
    units = iter(drawn.blocks)
    for index, node in enumerate(drawn.plan.nodes):
        x, y = drawn.at(index)
        for source in node.sources:
            start = (stem_x + 9, stem_y) if source == STEM else _right(drawn, source)
            yield _line(start, (x - (WIDE / 2 if node.place else 6), y))
        if node.place is None:
            yield f'<circle class="box" cx="{x:g}" cy="{y:g}" r="6"/>' + _text(x, y, "+", "small")
        else:
            yield _block(drawn, node.place, next(units), x, y)
    first, last = drawn.lane_y(drawn.present[0]), drawn.lane_y(drawn.present[-1])
    middle = (first + last) / 2
    yield _upright(drawn.end_x, middle, last - first + LANE - 8, "concatenated")
    for feature, _ in drawn.plan.features.values():
        start = (stem_x + 9, stem_y) if feature == STEM else _right(drawn, feature)
        yield _line(start, (drawn.end_x - 9, start[1]))
    x = drawn.end_x
    if drawn.plan.head is not None:
        yield _line((x + 9, middle), (x + 1.2 * STEP - WIDE / 2, middle))
        x += 1.2 * STEP
        yield _block(drawn, drawn.plan.head, next(units), x, middle)
    yield _line((x + (9 if drawn.plan.head is None else WIDE / 2), middle), (x + 1.4 * STEP - 9, middle))
    yield _upright(x + 1.4 * STEP, middle, LANE - 8, "classes")


def _right(drawn: _Drawn, index: int) -> tuple[float, float]:
    """The right edge of a node."""
    x, y = drawn.at(index)
    return x + (6 if drawn.plan.nodes[index].place is None else WIDE / 2), y


def _block(drawn: _Drawn, place: Place, units: Units, x: float, y: float) -> str:
    """The bar of a block, its removed units left out."""
    parts = parts_of(place, units, drawn.kernels)
    full = THIN if place.name.startswith("fusion") else FULL
    per_unit = full / most_of(place, drawn.kernels)
    left = [part for part in parts[:-1] if part[2]]
    if not left:
        return f"<g><title>{_words(place, parts)}</title>{_line((x - WIDE / 2, y), (x + WIDE / 2, y))}</g>"
    top = y - per_unit * sum(n for *_, n in left) / 2
    return f"<g><title>{_words(place, parts)}</title>{_stack(left, x - WIDE / 2, top, WIDE, per_unit)}</g>"


def _shares(drawn: _Drawn) -> Iterator[str]:
    """Figure 4: of each block, in order, the shares of its units."""
    places, kinds = drawn.plan.places, parts_of(drawn.plan.places[0], drawn.blocks[0], drawn.kernels)
    step = (drawn.width - LEFT - 8) / len(places)
    top = drawn.below + LEGEND
    for at, (kind, colour, _) in enumerate(kinds):
        left = LEFT + 84 * at
        yield f'<rect x="{left}" y="{drawn.below + 10:g}" width="12" height="12" rx="2" fill="{colour}"/>'
        yield f'<text x="{left + 18}" y="{drawn.below + 16.5:g}" style="text-anchor:start">{kind}</text>'
    for share in (0, 0.5, 1):
        yield _text(LEFT - 24, top + BARS * (1 - share), f"{100 * share:.0f} %", "small")
    before = ""
    for index, (place, units) in enumerate(zip(places, drawn.blocks, strict=True)):
        parts, x = parts_of(place, units, drawn.kernels), LEFT + index * step
        per_unit = BARS / most_of(place, drawn.kernels)
        yield f"<g><title>{_words(place, parts)}</title>{_stack(parts, x, top, 0.8 * step, per_unit)}</g>"
        group = place.name.partition("/")[0]
        if group != before:
            yield f'<path class="line" d="M{x - 0.1 * step:g} {top:g}v{BARS + 8}"/>'
            count = sum(one.name.partition("/")[0] == group for one in places)
            kind, _, number = group.partition("-")
            words = f"{kind} {number}" if count * step > 60 and kind != "head" else f"{kind[0]}{number}"
            yield _text(x + count * step / 2, top + BARS + 14, words, "small")
        before = group


def _stack(parts: Sequence[Part], x: float, top: float, wide: float, per_unit: float) -> str:
    """Rectangles above each other, as high as they have units."""
    drawn, y = [], top
    for _, colour, n in parts:
        if n:
            high = n * per_unit
            drawn.append(f'<rect x="{x:.4g}" y="{y:.5g}" width="{wide:.4g}" height="{high:.4g}" fill="{colour}"/>')
            y += high
    return "".join(drawn)


def _words(place: Place, parts: Sequence[Part]) -> str:
    return escape(f"{place.name}: " + ", ".join(f"{n} {kind}" for kind, _, n in parts))


def _upright(x: float, y: float, high: float, word: str) -> str:
    return (
        f'<rect class="box" x="{x - 9:g}" y="{y - high / 2:g}" width="18" height="{high:g}" rx="4"/>'
        f'<text class="small" transform="translate({x:g} {y:g}) rotate(-90)">{word}</text>'
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """From left to right, in a curve close to its end where the heights differ."""
    (x, y), (to_x, to_y) = start, end
    bend = max(x, to_x - 14)
    path = f"H{to_x:g}" if y == to_y else f"H{bend:g}C{(bend + to_x) / 2:g} {y:g} {bend:g} {to_y:g} {to_x:g} {to_y:g}"
    return f'<path class="line" d="M{x:g} {y:g}{path}"/>'


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(words)}</text>'
