"""Why a report could not become a record."""

from dataclasses import dataclass
from pathlib import Path

from hw_models.errors import ModelError


class ReportError(ModelError):
    """A synthesis report cannot be read: truncated, empty, localised, foreign or contradictory."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One file or folder that gave no record.

    Attributes:
        path: what was rejected.
        reason: one sentence.
    """

    path: Path
    reason: str
