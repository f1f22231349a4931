"""Every error raised on purpose.

CodesignError
├── ConfigError          a YAML file, a key or a value is wrong                (ValueError)
├── DataError            data to train or test on is unusable                  (ValueError)
├── DesignError          a network, precision or hardware choice is illegal    (ValueError)
├── BudgetError          no design can meet the budget                         (ValueError)
├── CalibrationError     coefficients cannot be fitted or read                 (ValueError)
├── ReportError          a synthesis report cannot be read                     (ValueError)
├── PredictorError       the score predictor cannot be trained or used      (ValueError)
├── StudyError           a study folder is missing, foreign or of another schema (ValueError)
├── ExportError          a project cannot be generated                         (ValueError)
├── MismatchError        two implementations of one network disagree           (AssertionError-like, ValueError)
├── ToolError            an external tool is missing or failed                 (RuntimeError)
├── DeviceError          a device under test misbehaves                        (RuntimeError)
└── FileError            a file or folder cannot be written                    (OSError)

A message has three parts: what is wrong (the value, and where it came from), what was expected,
what to do.  The command line prints it as one line and exits with 1.
"""

import difflib
from collections.abc import Iterable


class CodesignError(Exception):
    """Base of every error that codesign raises on purpose."""


class ConfigError(CodesignError, ValueError):
    """A YAML file, a key or a value is wrong."""


class DataError(CodesignError, ValueError):
    """Data to train or test on is unusable."""


class DesignError(CodesignError, ValueError):
    """A network, precision or hardware choice is illegal."""


class BudgetError(CodesignError, ValueError):
    """No design can meet the budget."""


class CalibrationError(CodesignError, ValueError):
    """Coefficients cannot be fitted, or a fit would make estimates worse."""


class ReportError(CodesignError, ValueError):
    """A synthesis report cannot be read."""


class PredictorError(CodesignError, ValueError):
    """The score predictor cannot be trained or used."""


class StudyError(CodesignError, ValueError):
    """A study folder is missing, foreign or of another schema."""


class ExportError(CodesignError, ValueError):
    """A project cannot be generated."""


class MismatchError(CodesignError, ValueError):
    """Two implementations of one network disagree."""


class ToolError(CodesignError, RuntimeError):
    """An external tool is missing or failed."""


class DeviceError(CodesignError, RuntimeError):
    """A device under test misbehaves."""


class FileError(CodesignError, OSError):
    """A file or folder cannot be written: the disk is full, or the place is not ours."""


class CodesignWarning(UserWarning):
    """The result is right, but the user should know something."""


def unknown_name(kind: str, name: object, available: Iterable[str]) -> str:
    """Say that `name` is not one of `available`, with the nearest match.

    Args:
        kind: what was looked up, in the singular ("device", "layer type").
        name: the name that was not found.
        available: the names that exist.

    Returns:
        One sentence for an error message.
    """
    names = sorted(available)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}{hint} (available: {', '.join(names) or 'none'})"
