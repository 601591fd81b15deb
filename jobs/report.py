"""A study's report, composed from its store: what it is in words, what it found, what to type next."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from jobs.study import Study
from jobs.tables import StudyReport
from orchestrator.config import ObjectiveSettings, Recipe
from orchestrator.objectives import Objectives
from orchestrator.report.columns import Found
from orchestrator.report.page import Texts, report_html
from orchestrator.report.words import LABELS
from orchestrator.study import read_study, read_weights


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
    texts = Texts(_facts(study, recipe), document, _commands(recipe, where), _footer(study, now))
    return report_html(found, texts)


def _facts(study: Study, recipe: Recipe) -> dict[str, str]:
    """What the study is."""
    objectives = Objectives.from_settings(recipe.objectives)
    sought = [_sought(one, each.maximised) for one, each in zip(recipe.objectives, objectives.each, strict=True)]
    sampler, budget = recipe.sampler, recipe.budget.evaluations_per_island
    facts = {"seeks": ", ".join(sought), "space": recipe.space.name}
    if recipe.data is not None:
        facts["data"] = recipe.data.name
    if recipe.training is not None:
        digest = read_weights(study.store, study.name)
        facts["supernet"] = f"{recipe.training.steps:,} steps, " + (
            f"weights {digest[:12]}" if digest else "in training"
        )
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
