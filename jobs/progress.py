"""What a person sees while a study runs: training with loss and time left, then a line for each island.

On a terminal the lines are redrawn; into a file or a pipe goes a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from jobs.tables import heading, quantity
from orchestrator.island import Progress
from search_spaces.training.settings import TrainingProgress, TrialProgress

QUIET_S = 15.0
"""Seconds between lines where they cannot be redrawn."""
T = TypeVar("T")


@dataclass(frozen=True)
class SyncProgress:
    """How far MLflow is with a study's candidates."""

    checking: bool
    """Whether all of them have been written, and are looked at once more."""
    done: int
    candidates: int
    new: int
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this pace; None: too early to say."""
        return self.elapsed_s * (self.candidates - self.done) / self.done if self.done else None

    @property
    def words(self) -> str:
        return "checking what MLflow has" if self.checking else "writing to MLflow"


class Display:
    """Progress on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """Prints a line as it is."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def training(self) -> Iterator[Callable[[TrainingProgress], None]]:
        """A function that shows how far training is."""
        with self._showing(_training_table, _training_line) as show:
            yield show

    @contextmanager
    def trials(self, what: str, names: Sequence[str]) -> Iterator[Callable[[TrialProgress], None]]:
        """A function that shows how far trials of these names are."""
        newest: dict[int, TrainingProgress] = {}

        def kept(progress: TrialProgress) -> dict[str, TrainingProgress]:
            newest[progress.trial] = progress.training
            return {names[place]: one for place, one in sorted(newest.items())}

        with self._showing(_trials_table, partial(_trials_line, what)) as show:
            yield lambda progress: show(kept(progress))

    @contextmanager
    def searching(self) -> Iterator[Callable[[Progress], None]]:
        """A function that shows how far the islands are."""
        with self._showing(_islands_table, _islands_line) as show:
            yield show

    @contextmanager
    def syncing(self) -> Iterator[Callable[[SyncProgress], None]]:
        """A function that shows how far MLflow is."""
        with self._showing(_sync_table, _sync_line) as show:
            yield show

    @contextmanager
    def _showing(self, table: Callable[[T], RenderableType], line: Callable[[T], str]) -> Iterator[Callable[[T], None]]:
        if not self.console.is_terminal:
            with self._lines(line) as show:
                yield show
            return
        with Live(console=self.console, refresh_per_second=4) as live:
            yield lambda progress: live.update(table(progress))

    @contextmanager
    def _lines(self, line: Callable[[T], str]) -> Iterator[Callable[[T], None]]:
        """Prints a line every `QUIET_S`, and the last one at the end."""
        printed_s, last = time.monotonic(), ""

        def show(progress: T) -> None:
            nonlocal printed_s, last
            last = line(progress)
            if time.monotonic() - printed_s > QUIET_S:
                self.say(last)
                printed_s, last = time.monotonic(), ""

        try:
            yield show
        finally:
            if last:
                self.say(last)


def duration(seconds: float | None) -> str:
    """Minutes and seconds, or hours and minutes; a dash where it is not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _training_table(progress: TrainingProgress) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row(
        _training_words(progress),
        ProgressBar(progress.steps, progress.step, width=20),
        f"{progress.step}/{progress.steps}",
        f"loss {progress.loss:.3f}",
        f"{duration(progress.left_s)} left",
    )
    return table


def _training_line(progress: TrainingProgress) -> str:
    return (
        f"{_training_words(progress)}: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}, "
        f"{duration(progress.left_s)} left"
    )


def _training_words(progress: TrainingProgress) -> str:
    return "training the supernet" + (f" for {progress.island}" if progress.island else "")


def _trials_table(trials: Mapping[str, TrainingProgress]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    running = {name: one for name, one in trials.items() if one.step < one.steps}
    for name, one in running.items():
        bar = ProgressBar(one.steps, one.step, width=20)
        words = f"{one.step}/{one.steps}", f"loss {one.loss:.3f}", f"{duration(one.left_s)} left"
        table.add_row(name, bar, *words)
    table.add_row(f"{len(trials) - len(running)} done")
    return table


def _trials_line(what: str, trials: Mapping[str, TrainingProgress]) -> str:
    running = {name: one for name, one in trials.items() if one.step < one.steps}
    each = "; ".join(f"{name} step {one.step} of {one.steps}, loss {one.loss:.3f}" for name, one in running.items())
    return f"{what}: {len(trials) - len(running)} done; {each}"


def _sync_table(progress: SyncProgress) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row(
        progress.words,
        ProgressBar(max(progress.candidates, 1), progress.done, width=20),
        f"{progress.done}/{progress.candidates}",
        f"{progress.new} new",
        f"{duration(progress.left_s)} left",
    )
    return table


def _sync_line(progress: SyncProgress) -> str:
    return (
        f"{progress.words}: {progress.done} of {progress.candidates} candidates, {progress.new} new, "
        f"{duration(progress.left_s)} left"
    )


def _islands_table(progress: Progress) -> RenderableType:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    best = f"best {heading(progress.islands[0].objective)}"
    for name in ("searching", "", "candidates", "failed", best, "hypervolume", "front"):
        table.add_column(name, justify="left" if name in ("searching", "") else "right", no_wrap=True)
    for island in progress.islands:
        table.add_row(
            island.island,
            ProgressBar(max(island.budget, 1), island.budget if island.finished else island.done, width=16),
            f"all {island.done}" if island.exhausted else f"{island.done}/{island.budget}",
            str(island.failed),
            quantity(island.objective, island.best),
            f"{island.hypervolume:.4f}",
            str(island.front_size),
        )
    table.caption = _time(progress)
    table.caption_justify = "left"
    return table


def _islands_line(progress: Progress) -> str:
    islands = (
        f"{one.island} {one.done}/{one.budget} best {heading(one.objective)} {quantity(one.objective, one.best)} "
        f"hypervolume {one.hypervolume:.4f}"
        for one in progress.islands
    )
    return f"searching: {'; '.join(islands)}; {_time(progress)}"


def _time(progress: Progress) -> str:
    if all(island.finished for island in progress.islands):
        return f"{duration(progress.elapsed_s)} in all"
    return f"{duration(progress.elapsed_s)} so far, {duration(progress.left_s)} left"
