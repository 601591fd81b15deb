"""A study's report, composed from its store: what it is in words, what it found, what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import yaml

from jobs.foretold import taken_sheets
from jobs.retrained import Ending
from jobs.selection import chosen_candidate, name_of
from jobs.study import Study
from jobs.tables import StudyReport
from jobs.trust_tables import noise, sheets
from orchestrator.config import ObjectiveSettings, Recipe
from orchestrator.objectives import Objectives
from orchestrator.report.columns import Found
from orchestrator.report.page import Texts, TrainedPoint, report_html
from orchestrator.report.sheet import Sheet
from orchestrator.report.words import LABELS
from orchestrator.retraining import Retrained, read_retrained
from orchestrator.study import read_study, read_weights
from orchestrator.trust import SEARCH, Evidence, read_evidence
from search_spaces.base import digest


def study_page(study: Study, where: str, now: datetime) -> str:
    """The report as an HTML page.

    where: the study as commands name it, `--store` included where it is needed.

    Raises:
        StudyMissing: there is no such study.
        JournalCorrupt: the journal is not what was written.
    """
    report = StudyReport.read(study)
    recipe = report.recipe
    found = Found(study.name, report.objectives, report.space, report.events, recipe.sampler.population_size)
    document = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)
    evidence = read_evidence(study.store, study.name) if recipe.training is not None else None
    texts = Texts(
        _facts(study, recipe),
        document,
        _commands(recipe, where),
        _footer(study, now),
        [
            *_retrained(study, report),
            *(sheets(evidence) if evidence else ()),
            *taken_sheets(study, recipe, report.events),
        ],
        _points(evidence) if evidence else (),
        _noise(evidence) if evidence else {},
        _scratch(study, report, evidence) if evidence else {},
    )
    return report_html(found, texts)


def _retrained(study: Study, report: StudyReport) -> list[Sheet]:
    """The candidates of the study that were trained from scratch, a sheet for each way of training."""
    results = read_retrained(study.store, study.name) if report.recipe.training is not None else ()
    names = {event.candidate.architecture_id: name_of(event) for events in report.events.values() for event in events}
    ways: dict[str, list[Retrained]] = {}
    for result in results:
        if result.trial.architecture_id in names:
            ways.setdefault(digest(dict(result.trial.settings)), []).append(result)
    return [_sheet(report, names, way) for way in ways.values()]


def _sheet(report: StudyReport, names: Mapping[str, str], results: Sequence[Retrained]) -> Sheet:
    by_architecture: dict[str, list[Retrained]] = {}
    for result in results:
        by_architecture.setdefault(result.trial.architecture_id, []).append(result)
    found = [(chosen_candidate(report, names[name]), mine) for name, mine in by_architecture.items()]
    sheet = Ending(found, 0, report.recipe.metric).sheet()
    return replace(sheet, title=f"{sheet.title}, {results[0].trial.settings['steps']:,} steps")


def _noise(evidence: Evidence) -> dict[str, float]:
    """By metric: what a candidate's score scatters by between recalibration subsets, where that is known."""
    deviation = noise(evidence)["recalibration_deviation"]
    return {} if deviation is None else {"miou": deviation}


def _scratch(study: Study, report: StudyReport, evidence: Evidence) -> dict[str, list[float]]:
    """By candidate: mIoU of each seed, of those that were trained from scratch as the evidence was."""
    names = {event.candidate.architecture_id: name_of(event) for events in report.events.values() for event in events}
    found: dict[str, list[float]] = {}
    for result in read_retrained(study.store, study.name):
        trial, same = result.trial, digest(dict(result.trial.settings)) == digest(dict(evidence.retraining))
        if same and result.score is not None and trial.architecture_id in names:
            found.setdefault(names[trial.architecture_id], []).append(result.score)
    return found


def _points(evidence: Evidence) -> list[TrainedPoint]:
    return [
        TrainedPoint(one.name, one.group, one.island, one.shared[SEARCH], sum(one.scratch) / len(one.scratch))
        for one in evidence.networks
        if one.scratch
    ]


def _facts(study: Study, recipe: Recipe) -> dict[str, str]:
    """What the study is."""
    objectives = Objectives.from_settings(recipe.objectives)
    sought = [_sought(one, each.maximised) for one, each in zip(recipe.objectives, objectives.each, strict=True)]
    sampler, budget = recipe.sampler, recipe.candidates_per_island
    facts = {"seeks": ", ".join(sought), "space": recipe.space.name}
    if recipe.data is not None:
        facts["data"] = recipe.data.name
    if recipe.training is not None:
        digest = read_weights(study.store, study.name)
        more = recipe.training.island_steps
        alone = f"and {more:,} for each island alone, " if more else ""
        facts["supernet"] = f"{recipe.training.steps:,} steps, {alone}" + (
            f"weights {digest[:12]}" if digest else "in training"
        )
    if recipe.shrinking is not None:
        penalties = ", ".join(f"{penalty:g}" for penalty in recipe.shrinking.penalties)
        removals = f"units removed every {recipe.shrinking.every_steps:,} steps, seed {recipe.seed}"
        return {**facts, "shrinking": f"under penalties {penalties}, {removals}", "store": study.where}
    facts["sampler"] = f"{sampler.name}, population {sampler.population_size}, seed {recipe.seed}"
    return {**facts, "budget": f"{budget:,} an island", "store": study.where}


def _sought(settings: ObjectiveSettings, maximised: bool) -> str:
    limits = [f" ≤ {settings.at_most:g}"] if settings.at_most is not None else []
    limits += [f" ≥ {settings.at_least:g}"] if settings.at_least is not None else []
    label = LABELS.get(settings.name, settings.name).partition(" (")[0]
    return f"{'high' if maximised else 'low'} {label}{''.join(limits)}"


def _commands(recipe: Recipe, where: str) -> tuple[str, ...]:
    """What to type to go on with a candidate; nothing in a space without networks."""
    if recipe.training is None:
        return ()
    study, _, store = where.partition(" ")
    rest = f" {store}" if store else ""
    return (
        f"archipelago export {study} {{candidate}} --format onnx --out {{file}}.onnx{rest}",
        f"archipelago retrain {study} {{candidate}}{rest}",
    )


def _footer(study: Study, now: datetime) -> str:
    versions = read_study(study.store, study.name).versions
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Written {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC. The study began with {named}."
