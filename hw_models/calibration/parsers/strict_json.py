"""JSON that others wrote: every defect is one clear error."""

import json
from typing import Any

from hw_models.calibration.parsers.errors import ReportError


def _refuse(name: str) -> float:
    raise ValueError(f"the number {name} is not JSON")


def load_json(text: str, *, origin: str) -> Any:
    """Parse one JSON value.

    Raises:
        ReportError: the text is no JSON, is nested beyond reason, or holds NaN or Infinity.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{origin}: not JSON ({error}); the file is truncated or foreign"
        ) from error
