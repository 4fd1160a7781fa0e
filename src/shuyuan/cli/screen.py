"""What people see while a verb works: a bar with the time left on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from ..errors import ShuyuanError
from ..progress import Progress, Stage, Stop
from ..sizes import size
from ..visible import visible


def quantity(value: float, unit: str) -> str:
    """A count with its unit, short: 1.2 MB, 540 steps."""
    return size(value) if unit == "bytes" else f"{value:,.0f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as 1:05, 2:03:00, or 12.5 days."""
    if seconds is None:
        return "-:--"
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:,.1f} days"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


WIDE = 96  # columns of a terminal that has room for bars; a narrower one shows figures in their place


class _TimeLeft(ProgressColumn):
    max_refresh = 0.5

    def get_table_column(self) -> Column:
        return Column(no_wrap=True, min_width=10)

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"{duration(task.finished_time)} taken", style="green")
        return Text(f"{duration(task.time_remaining)} left", style="cyan")


class _Figures(ProgressColumn):
    """What a stage counts and measures. Where a terminal is narrow, the last of it is what is left out."""

    def render(self, task: Task) -> Text:
        text = f"{task.fields['count']}{task.fields['figures']}"
        return Text(text, no_wrap=True, overflow="ellipsis")


class _Bar(Stage):
    """A stage drawn by rich."""

    def __init__(self, name: str, total: float | None, unit: str, bars: Bars) -> None:
        super().__init__(name, total, unit)
        self._bars = bars
        self._task = bars.add_task(name, total=total, count="", figures="")

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        super().advance(amount)
        shown = " ".join(f"{name} {_short(value)}" for name, value in figures.items())
        count = "" if self.total is not None else quantity(self.done, self.unit)
        self._bars.update(self._task, advance=amount, count=count)
        if figures:
            self._bars.update(self._task, figures=shown)

    def end(self) -> None:
        done = self.total if self.total is not None else self.done or 1
        self._bars.update(self._task, total=done, completed=done)
        self._bars.stop_task(self._task)


class _Lines(Stage):
    """A stage told in plain lines: its start, at most one line in ten seconds, and its end."""

    EVERY = 10.0  # seconds

    def __init__(self, name: str, total: float | None, unit: str, console: Console) -> None:
        super().__init__(name, total, unit)
        self._console = console
        self._began = self._told = time.monotonic()
        self._figures = ""

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        super().advance(amount)
        if figures:
            self._figures = ", " + ", ".join(f"{name} {_short(value)}" for name, value in figures.items())
        now = time.monotonic()
        if now - self._told >= self.EVERY:
            self._told = now
            self._console.print(f"{self.name}: {self._state(now)}{self._figures}", highlight=False)

    def _state(self, now: float) -> str:
        if not self.total:
            return quantity(self.done, self.unit)
        left = (now - self._began) * (self.total - self.done) / max(self.done, 1e-9)
        return f"{quantity(self.done, self.unit)} of {quantity(self.total, self.unit)}, {duration(left)} left"

    def end(self) -> None:
        taken = duration(time.monotonic() - self._began)
        self._console.print(f"{self.name}: done in {taken}{self._figures}", highlight=False)


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Screen(Progress):
    """Draws progress on stderr and says what must be known.

    Attributes:
        console: for people, stderr.
        out: for answers, stdout.
        stop: set when the user asks to end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.out = Console(highlight=False)
        self.stop = Stop()
        self._bars: Bars | None = None

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Stage]:
        stage: _Bar | _Lines
        if self.console.is_terminal:
            stage = _Bar(name, total, unit, self._drawn())
        else:
            stage = _Lines(name, total, unit, self.console)
        yield stage
        stage.end()

    def show(self, text: str) -> None:
        self.console.print(visible(text), markup=False, style="dim" if self.console.is_terminal else None)

    def error(self, error: ShuyuanError) -> None:
        """One error in words: what, where, how to mend it, and its code.

        Args:
            error: any of ours.
        """
        self.console.print(Text("error: ", style="bold red") + Text(visible(error.what)))
        if error.where:
            self.console.print(Text(visible(f"  where: {error.where}")))
        self.console.print(Text(visible(f"  mend:  {error.mend}")))
        self.console.print(Text(f"  code:  {error.code}", style="dim"))

    def close(self) -> None:
        """Ends the drawing, so that an answer can be printed below it."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _drawn(self) -> Bars:
        if self._bars is None:
            bar = [BarColumn(bar_width=14)] if self.console.width >= WIDE else []
            self._bars = Bars(
                TextColumn("{task.description:<24.24}"),
                *bar,
                TextColumn("{task.percentage:>3.0f}%"),
                _TimeLeft(),
                _Figures(),
                console=self.console,
                speed_estimate_period=15,
            )
            self._bars.start()
        return self._bars


def promise_together(data_set: dict[str, Any]) -> str:
    """What all runs on a data set come to in one line, from `data_set` of a summary.

    Args:
        data_set: {id, runs, unit, epsilon, delta, uncovered}.
    """
    from ..report.wording import upper

    runs = f"{data_set['runs']:,} run{'' if data_set['runs'] == 1 else 's'}"
    if data_set["unit"] is None:
        return f"{data_set['id']}: nothing is promised, over {runs}"
    if data_set["epsilon"] is None:
        total = "ε is unbounded"
    else:
        total = (
            f"ε = {upper(data_set['epsilon'])}, δ = {upper(data_set['delta'])} for each {data_set['unit']}"
        )
    uncovered = f"; not covered: {', '.join(data_set['uncovered'])}" if data_set["uncovered"] else ""
    return f"{data_set['id']}: {total}, over {runs}{uncovered}"


def promise(privacy: dict[str, Any] | None, none: str) -> str:
    """The guarantee in one line, from `privacy` of a plan or summary; `none` where there is none.

    Args:
        privacy: {epsilon, delta, units, unit, steps, noise_multiplier, sampling_rate, expected_batch}.
        none: what to say without privacy.
    """
    if privacy is None:
        return none
    from ..report.wording import upper

    epsilon = "unbounded" if privacy["epsilon"] is None else upper(privacy["epsilon"])
    return (
        f"ε = {epsilon}, δ = {upper(privacy['delta'])} for each of {privacy['units']:,} {privacy['unit']}s after "
        f"{privacy['steps']:,} steps; noise multiplier {privacy['noise_multiplier']:.3g}, sampling rate "
        f"{privacy['sampling_rate']:.3g}, {privacy['expected_batch']:g} {privacy['unit']}s a step on average"
    )
