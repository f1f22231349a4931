"""How long-running stages tell a person how far they are, without knowing of terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One stage under way."""

    def update(self, done: float, text: str = "") -> None:
        """Say that `done` of the announced total is finished."""


class Reporter(Protocol):
    """Receives progress."""

    def stage(self, name: str, total: float) -> AbstractContextManager[Stage]:
        """Open a stage of `total` steps; leaving the context ends it."""

    def message(self, text: str) -> None:
        """Show one line that stays."""


class _SilentStage:
    def update(self, done: float, text: str = "") -> None:
        pass


class SilentReporter:
    """Shows nothing: for the Python API and for tests."""

    @contextmanager
    def stage(self, name: str, total: float) -> Iterator[Stage]:
        """Open a stage that shows nothing."""
        yield _SilentStage()

    def message(self, text: str) -> None:
        """Drop the line."""
