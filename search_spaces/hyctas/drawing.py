"""A HyCTAS network as a picture: resolutions as rows, layers as columns, operators by colour and letter.

The height of a cell is the width of its output. A cell that several branches begin with is drawn once. To the right of
the cells each branch is brought up to 1/8 and merged, at every resolution on the way, with the last feature that it had
there (dashed); the branches are fused, and the head predicts the classes.

Source: HyCTAS, the figures of the searched networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape

from search_spaces.hyctas.architecture import LETTERS, STRIDES, WORDS, Branch, HyctasArchitecture

PALETTE = {"attention": "#d55e00", "conv": "#0072b2", "light": "#56b4e9", "light2": "#009e73", "skip": "#b8bec6"}
"""Colours of the operators, of Okabe and Ito."""
DARK = ("#d55e00", "#0072b2", "#009e73")
"""Colours that letters are white on."""
STYLE = (
    ".arch{font:600 12px system-ui,sans-serif;color:#3d444d}"
    ".arch text{text-anchor:middle;dominant-baseline:central;fill:currentColor}"
    ".arch .small{font-size:11px;font-weight:400}"
    ".arch .line{fill:none;stroke:currentColor;stroke-width:1.4}"
    ".arch .dash{stroke-dasharray:3 3;opacity:.6}"
    ".arch .row{fill:currentColor;opacity:.06}"
    ".arch .box{fill:none;stroke:currentColor;stroke-width:1.2}"
    "@media(prefers-color-scheme:dark){.arch{color:#c9d1d9}}"
)
LEFT, STEP, LANE, TOP, GAP = 92, 46, 48, 24, 8
"""Pixels: the first layer's centre, between layers, between branches, above the rows, between rows."""
CELL, FULL = 30, 38
"""Pixels: a cell's length, and its height at full width."""
BAR = 22
"""Pixels: the length of stem, fusion and head."""

Point = tuple[float, float]


def hyctas_svg(architecture: HyctasArchitecture, head_width: int = 12) -> str:
    """The network as one SVG element.

    head_width: the width of the last cells, in twelfths.
    """
    layout = _Layout(architecture)
    parts = [*_rows(layout), *_ends(layout), *_cells(layout, head_width), *_merges(layout)]
    size = f"{layout.width} {layout.height}"
    return (
        f'<svg class="arch" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{layout.width}" '
        f'role="img" aria-label="{escape(str(architecture))}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Layout:
    """Where things are: a row for each resolution, in it a lane for each branch that comes there."""

    architecture: HyctasArchitecture

    @property
    def branches(self) -> tuple[Branch, ...]:
        return self.architecture.branches

    @property
    def layers(self) -> int:
        return max(len(branch.operators) for branch in self.branches)

    @property
    def deepest(self) -> int:
        return max(self.architecture.ends)

    def lanes(self, scale: int) -> int:
        """Branches that come to the scale."""
        return sum(end >= scale for end in self.architecture.ends)

    def row(self, scale: int) -> tuple[float, float]:
        """Upper edge and height of a row."""
        above = sum(self.lanes(finer) * LANE + GAP for finer in range(scale))
        return TOP + above, self.lanes(scale) * LANE

    def x(self, layer: int) -> float:
        return LEFT + layer * STEP

    def y(self, branch: int, scale: int) -> float:
        """The centre of a branch's lane: branches that end earlier are above."""
        lane = sum(end >= scale for end in self.architecture.ends[:branch])
        return self.row(scale)[0] + (lane + 0.5) * LANE

    def owner(self, branch: int, layer: int) -> int:
        """The first branch that begins with the same cells up to this layer."""
        prefixes = [_prefix(one, layer) for one in self.branches]
        return prefixes.index(prefixes[branch])

    def before(self, branch: int, layer: int) -> Point:
        """The right edge of what the branch's cell at `layer` reads; below 0: of the stem, at the branch's height."""
        if layer == 0:
            return LEFT - STEP + BAR / 2, self.y(self.owner(branch, 0), 0)
        scale = self.branches[branch].scale(layer - 1)
        return self.x(layer - 1) + CELL / 2, self.y(self.owner(branch, layer - 1), scale)

    @property
    def fusion_x(self) -> float:
        return self.x(self.layers + len(STRIDES) - 1)  # the same in all pictures, so that they compare

    @cached_property
    def width(self) -> int:
        return round(self.fusion_x + 2.3 * STEP)

    @cached_property
    def height(self) -> int:
        return round(sum(self.row(self.deepest)) + GAP)


def _prefix(branch: Branch, layer: int) -> tuple[object, ...]:
    """What a branch's cells up to a layer depend on."""
    downs = tuple(down for down in branch.downs if down <= layer)
    return branch.operators[: layer + 1], branch.widths[: layer + 1], downs, layer < len(branch.operators)


def _rows(layout: _Layout) -> Iterator[str]:
    """Bands with the resolutions, and the layers' numbers."""
    for scale in range(layout.deepest + 1):
        top, height = layout.row(scale)
        yield f'<rect class="row" x="0" y="{top:g}" width="{layout.width}" height="{height:g}" rx="4"/>'
        yield _text(18, top + height / 2, f"1/{STRIDES[scale]}")
    for layer in range(layout.layers):
        yield _text(layout.x(layer), TOP / 2, str(layer + 1), "small")


def _ends(layout: _Layout) -> Iterator[str]:
    """Stem, fusion and head."""
    top, height = layout.row(0)
    middle = top + height / 2
    for x, word in ((LEFT - STEP, "stem"), (layout.fusion_x, "fusion"), (layout.fusion_x + 1.4 * STEP, "head")):
        yield (
            f'<rect class="box" x="{x - BAR / 2:g}" y="{top + 3:g}" width="{BAR}" height="{height - 6:g}" rx="4"/>'
            f'<text class="small" transform="translate({x:g} {middle:g}) rotate(-90)">{word}</text>'
        )
    yield _line((layout.fusion_x + BAR / 2, middle), (layout.fusion_x + 1.4 * STEP - BAR / 2, middle))


def _cells(layout: _Layout, head_width: int) -> Iterator[str]:
    """Each distinct cell with the line that leads to it."""
    for index, branch in enumerate(layout.branches):
        for layer, (operator, width) in enumerate(zip(branch.operators, (*branch.widths, head_width), strict=True)):
            if layout.owner(index, layer) != index:
                continue
            scale = branch.scale(layer)
            x, y, tall = layout.x(layer), layout.y(index, scale), FULL * width / 12
            yield _line(layout.before(index, layer), (x - CELL / 2, y))
            words = f"layer {layer + 1}: {WORDS[operator]}, width {width}/12" + ", down" * (layer in branch.downs)
            yield (
                f'<g><title>{words}</title><rect x="{x - CELL / 2:g}" y="{y - tall / 2:.4g}" width="{CELL}" '
                f'height="{tall:.4g}" rx="3" fill="{PALETTE[operator]}"/>'
            )
            yield _text(x, y, LETTERS[operator], colour="#fff" if PALETTE[operator] in DARK else "#111") + "</g>"


def _merges(layout: _Layout) -> Iterator[str]:
    """From each branch's end up to 1/8, and into the fusion."""
    for index, branch in enumerate(layout.branches):
        at = layout.before(index, len(branch.operators))
        for step, scale in enumerate(reversed(range(branch.end))):
            x, y = layout.x(layout.layers + step), layout.y(index, scale)
            yield _line(at, (x, y + 8), upwards=True)
            yield _kept(layout.before(index, branch.downs[scale]), layout.x(branch.downs[scale]), (x - 8, y))
            yield f'<circle class="box" cx="{x:g}" cy="{y:g}" r="8"/>' + _text(x, y, "+")
            at = (x + 8, y)
        yield _line(at, (layout.fusion_x - BAR / 2, at[1]))


def _line(start: Point, end: Point, upwards: bool = False) -> str:
    """From left to right, in a curve where the heights differ; `upwards`: it arrives from below."""
    (x, y), (to_x, to_y) = start, end
    if y == to_y:
        path = f"H{to_x:g}"
    elif upwards:
        path = f"C{to_x:g} {y:g} {to_x:g} {y:g} {to_x:g} {to_y:g}"
    else:
        middle = max(to_x - STEP + CELL, x)  # bends in the gap before its end
        path = f"H{middle:g}C{(middle + to_x) / 2:g} {y:g} {(middle + to_x) / 2:g} {to_y:g} {to_x:g} {to_y:g}"
    return f'<path class="line" d="M{x:g} {y:g}{path}"/>'


def _kept(start: Point, down_x: float, end: Point) -> str:
    """The feature before a descent, led over the cell that goes down to where it is merged."""
    (x, y), (to_x, to_y) = start, end
    over, past = to_y - FULL / 2 - 3, down_x + CELL / 2
    path = f"M{x:g} {y:g}C{x + 8:g} {y:g} {x:g} {over:g} {x + 14:g} {over:g}"
    path += f"H{past:g}C{past + 14:g} {over:g} {past + 4:g} {to_y:g} {past + 18:g} {to_y:g}H{to_x:g}"
    return f'<path class="line dash" d="{path}"/>'


def _text(x: float, y: float, words: str, kind: str = "", colour: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:g}" y="{y:g}"{kind}{style}>{escape(words)}</text>'
