"""The report of a study: one HTML file that needs nothing else, and no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib import resources
from string import Template

from orchestrator.archive import Archive
from orchestrator.records import Measurement, Source
from orchestrator.report.columns import Found, columns
from orchestrator.report.sheet import Sheet
from orchestrator.report.words import COLOURS

SCRIPTS = ("study.js", "figures.js", "page.js")


@dataclass(frozen=True)
class TrainedPoint:
    """A network that was scored with shared weights and trained from scratch."""

    name: str
    group: str
    island: str
    shared: float
    """mIoU with shared weights."""
    scratch: float
    """mIoU from scratch, mean of its seeds."""


@dataclass(frozen=True)
class Texts:
    """What the page says of a study besides what was found."""

    facts: Mapping[str, str]
    """What the study is, in words, by a word or two."""
    recipe: str
    """The recipe as it would be written into a file."""
    commands: Sequence[str]
    """What to type to go on with a candidate: `{candidate}` stands for its name, `{file}` for that as a file name."""
    footer: str = ""
    sheets: Sequence[Sheet] = ()
    """What is known beyond the search: networks trained from scratch, evidence for the scores."""
    trained: Sequence[TrainedPoint] = ()
    noise: Mapping[str, float] = field(default_factory=dict)
    """By metric: the standard deviation of a candidate's score where nothing but chance differs."""
    scratch: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By candidate: mIoU from scratch, a value for each seed."""


def report_html(found: Found, texts: Texts) -> str:
    """The page, with everything in it: data, drawings, plotly."""
    from plotly.offline import get_plotlyjs  # here: a study without a report need not wait for it

    data = {
        **columns(found),
        "colours": COLOURS,
        "commands": list(texts.commands),
        "sheets": [asdict(sheet) for sheet in texts.sheets],
        "trained": [asdict(point) for point in texts.trained],
        "noise": dict(texts.noise),
        "scratch": {name: list(values) for name, values in texts.scratch.items()},
    }
    facts = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in texts.facts.items())
    return Template(_asset("page.html")).substitute(
        title=escape(found.study),
        css=_asset("page.css"),
        summary=escape(_summary(found)),
        facts="".join(facts),
        recipe=escape(texts.recipe),
        footer=escape(texts.footer),
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script="".join(map(_asset, SCRIPTS)),
    )


def _asset(name: str) -> str:
    return resources.files("orchestrator.report").joinpath("assets", name).read_text(encoding="utf-8")


def _summary(found: Found) -> str:
    """One sentence: how many candidates, and what became of them."""
    results = [event.result for event in found.flat]
    fronts = sum(len(Archive(found.objectives, events).front) for events in found.events.values())
    failed = sum(not isinstance(result, Measurement) for result in results)
    known = sum(isinstance(result, Measurement) and result.source is Source.MEMO for result in results)
    islands = f"{len(found.events)} island{'s' if len(found.events) != 1 else ''}"
    memo = f", {known:,} known from other studies" if known else ""
    return f"{len(results):,} candidates of {islands}: {fronts} on their islands' fronts, {failed:,} failed{memo}."
