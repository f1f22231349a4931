"""Progress bars on stderr for long-running verbs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from codesign.reporter import Stage

#: Columns of tables where standard output is no terminal (files, CI logs).
COLUMNS_WITHOUT_TERMINAL = 200
#: A line every so many seconds when stderr is no terminal (CI logs).
LOG_INTERVAL_S = 15.0


def output_console(*, markup: bool = True) -> Console:
    """Return the console for results on standard output: as wide as the terminal, wide where there is none.

    Args:
        markup: read "[bold]" and the like; off for tables of other people's words.
    """
    console = Console(markup=markup, emoji=markup, highlight=markup)
    if not console.is_terminal:
        console.width = COLUMNS_WITHOUT_TERMINAL
    return console


class _BarStage:
    def __init__(self, reporter: RichReporter, name: str, task: TaskID, total: float) -> None:
        self._reporter, self._name, self._task, self._total = reporter, name, task, total
        self._started_s = self._logged_s = time.monotonic()

    def update(self, done: float, text: str = "") -> None:
        self._reporter.progress.update(self._task, completed=done, text=text)
        now = time.monotonic()
        if not self._reporter.console.is_terminal and now - self._logged_s > LOG_INTERVAL_S:
            self._logged_s = now
            elapsed = now - self._started_s
            left = f", about {elapsed / done * (self._total - done):.0f} s left" if done > 0 else ""
            # a stage of one step reports shares of it
            so_far = (
                f"{done:,.0f} of {self._total:,.0f}" if self._total > 1 else f"{100 * done:.0f} %"
            )
            self._reporter.message(f"  {self._name}: {so_far}{left} {text}".rstrip())


class RichReporter:
    """Shows one bar per stage with elapsed and remaining time; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> RichReporter:
        self.progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.progress.stop()

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[Stage]:
        """Open a bar of `total` steps."""
        started_s = time.monotonic()
        task = self.progress.add_task(name, total=total, text="")
        if not self.console.is_terminal:
            self.message(f"{name} ...")
        yield _BarStage(self, name, task, total)
        self.progress.update(task, completed=total, text="")
        if not self.console.is_terminal:
            self.message(f"{name}: done in {time.monotonic() - started_s:.1f} s")

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        wraps = self.console.is_terminal
        self.console.print(text, highlight=False, markup=False, soft_wrap=not wraps)
