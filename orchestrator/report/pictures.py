"""Pictures of a study for places that show no page: hypervolume, evolution of the fronts, what sits where."""

from __future__ import annotations

import io
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.report.columns import ABSENT, CODES, Columns, Found, columns
from orchestrator.report.words import COLOURS, LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of an island's candidates, after which its front is drawn."""


def pictures(found: Found) -> dict[str, bytes]:
    """PNGs by file name, those for which the study has something to show."""
    data = columns(found)
    drawn = {}
    if found.flat:
        drawn["report/hypervolume.png"] = hypervolume_png(data)
        if len(data["objectives"]) == 2:
            drawn["report/evolution.png"] = evolution_png(data)
        if len(data["choices"]["places"]) > 1:
            drawn["report/operators.png"] = operators_png(data)
    return drawn


def hypervolume_png(data: Columns) -> bytes:
    """Each island's hypervolume after so many evaluations, and after so many device-seconds where they are known."""
    timed = any(data["seconds"])
    figure = _figure(10 if timed else 6, 4)
    panels = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    for island, indices in _islands(data):
        share = [data["hypervolume"][index] for index in indices]
        spent_s = accumulate(data["seconds"][index] for index in indices)
        for axes, x in zip(panels, (range(1, len(indices) + 1), list(spent_s)), strict=False):
            axes.step(x, share, where="post", color=COLOURS[island % len(COLOURS)], label=data["islands"][island])
    for axes, label in zip(panels, ("evaluations of the island", "device-seconds"), strict=False):
        _style(axes, xlabel=label)
    panels[0].set_ylabel("hypervolume")
    panels[0].legend(frameon=False, loc="lower right")
    return _png(figure)


def evolution_png(data: Columns) -> bytes:
    """A panel for each island with two objectives: its front after more and more candidates, later ones darker."""
    upper, lower = (objective["name"] for objective in data["objectives"])
    islands = _islands(data)
    figure = _figure(4.2 * len(islands), 4)
    panels = figure.subplots(1, len(islands), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (island, indices) in zip(panels, islands, strict=True):
        for share in SHARES:
            after = max(1, round(share * len(indices)))
            front = [index for place, index in enumerate(indices) if _on_front(data["until"][index], place, after)]
            front.sort(key=lambda index: data["metrics"][lower][index])
            x, y = ([data["metrics"][name][index] for index in front] for name in (lower, upper))
            tone = {"color": COLOURS[island % len(COLOURS)], "alpha": 0.2 + 0.8 * share}
            axes.step(x, y, where="pre" if data["objectives"][1]["maximised"] else "post", **tone)
            axes.scatter(x, y, s=14, label=f"{after} candidates", linewidths=0, **tone)
        _style(axes, xlabel=LABELS.get(lower, lower), title=data["islands"][island])
        axes.legend(frameon=False, loc="lower right", fontsize="small")
    panels[0].set_ylabel(LABELS.get(upper, upper))
    return _png(figure)


def operators_png(data: Columns) -> bytes:
    """For each part of the architectures the share of each operator by place: of all candidates, and of the fronts."""
    choices, everyone = data["choices"], range(len(data["number"]))
    rows = list(dict.fromkeys(row for row, _ in choices["places"]))
    figure = _figure(11, 1.2 + 1.5 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False, sharey=True)
    fronts = [index for index in everyone if data["until"][index] is None]
    for down, row in enumerate(rows):
        for axes, group in zip(panels[down], (everyone, fronts), strict=True):
            shares, names = _shares(choices, [choices["each"][index] for index in group], row)
            low = np.zeros(len(names))
            for kind, colour, share in zip(choices["kinds"], choices["colours"], shares, strict=True):
                axes.bar(names, share, bottom=low, color=colour, label=kind)
                low += share
            _style(axes, ylabel=row if group is everyone else "")
            axes.grid(visible=False)
    panels[0, 0].set_title("all candidates", loc="left")
    panels[0, 1].set_title("on the fronts", loc="left")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return _png(figure)


def _shares(choices: Columns, each: list[str], row: str) -> tuple[np.ndarray, list[str]]:
    """Shares (n_kinds, n_places) of the architectures that have something there, and the places' names."""
    places = [at for at, (of, _) in enumerate(choices["places"]) if of == row]
    found = [[one[at] for one in each if one[at] != ABSENT] for at in places]
    counts = [[here.count(CODES[kind]) / max(1, len(here)) for here in found] for kind in range(len(choices["kinds"]))]
    return np.array(counts), [choices["places"][at][1] for at in places]


def _on_front(until: int | None, place: int, after: int) -> bool:
    """Whether the candidate at a place of its island's journal was on the front after so many events; see `until`."""
    return place < after and until != 0 and (until is None or until > after)


def _islands(data: Columns) -> list[tuple[int, list[int]]]:
    """The indices of each island that has candidates."""
    found: dict[int, list[int]] = {}
    for index, island in enumerate(data["island"]):
        found.setdefault(island, []).append(index)
    return list(found.items())


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # here: a search without pictures need not wait for it

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _style(axes: Axes, **words: Any) -> None:
    axes.set(**words)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
