"""The drawing of a study's fronts: every candidate of every island, its front as a staircase."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from orchestrator.archive import front
from orchestrator.objectives import Objectives
from orchestrator.records import Event, Measurement
from orchestrator.report.words import COLOURS, LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PictureForm = Literal["png", "svg"]


def fronts_picture(
    title: str, objectives: Objectives, events: Mapping[str, Sequence[Event]], form: PictureForm = "png"
) -> bytes:
    """A picture of the first objective over the second (over the candidate's number if there is one objective only).

    events: by island.
    """
    from matplotlib.figure import Figure  # here: a search without pictures need not wait for it

    figure = Figure(figsize=(9, 5.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (island, found), colour in zip(events.items(), COLOURS * len(events), strict=False):
        _draw_island(axes, objectives, island, found, colour)
    vertical, *others = objectives.each
    axes.set_ylabel(LABELS.get(vertical.name, vertical.name))
    axes.set_xlabel(LABELS.get(others[0].name, others[0].name) if others else "candidate")
    if others and others[0].name in ("macs", "params"):
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value / 1e6:g} M")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if events:
        axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _draw_island(axes: Axes, objectives: Objectives, island: str, events: Sequence[Event], colour: str) -> None:
    points = _points(objectives, events)
    best = _points(objectives, front(objectives, events))
    axes.scatter(points[:, 0], points[:, 1], s=9, color=colour, alpha=0.3, linewidths=0)
    best = best[np.argsort(best[:, 0])]
    label = f"{island}: {len(best)} of {len(events)} on the front"
    if len(objectives.each) == 2:
        axes.step(best[:, 0], best[:, 1], where="post", color=colour, linewidth=1.5)
    axes.scatter(best[:, 0], best[:, 1], s=26, color=colour, label=label, zorder=3, edgecolors="white", linewidths=0.6)


def _points(objectives: Objectives, events: Sequence[Event]) -> np.ndarray:
    """float (n, 2): the second and the first objective of the measured events."""
    vertical, *others = objectives.each

    def x(event: Event, metrics: Mapping[str, float]) -> float:
        return metrics[others[0].name] if others else float(event.candidate.number)

    rows = [
        (x(event, event.result.metrics), event.result.metrics[vertical.name])
        for event in events
        if isinstance(event.result, Measurement)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)
