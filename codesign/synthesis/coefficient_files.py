"""A user's coefficients: every version that `codesign calibrate` wrote, the one in use, and the reports behind them.

They live in the user's configuration folder, not in a cache that anyone may clear:
`coefficients-0001.json`, `coefficients-0002.json`, ..., beside each `records-NNNN.jsonl` with all reports
that it was fitted to, and `in-use`, the number of the version that estimates start from (0: those that
ship).  Nothing is ever overwritten or deleted but `in-use`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import CalibrationError
from codesign.files import write_atomically
from codesign.tools import configuration_folder
from hw_models.coefficients import Coefficients, load_coefficients, save_coefficients
from hw_models.errors import ModelError
from hw_models.records import Record, load_records, record_json

if TYPE_CHECKING:
    from rich.table import Table

_NAME = re.compile(r"coefficients-(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a user's coefficients.

    Attributes:
        number: counted from 1; 0 are the coefficients that ship.
        path: the file; None for those that ship.
        is_in_use: whether estimates start from it.
        provenance: what the file says of itself.
        problem: why it cannot be used; empty when it can.
    """

    number: int
    path: Path | None
    is_in_use: bool
    provenance: dict[str, Any]
    problem: str = ""


def coefficients_folder() -> Path:
    """Return where a user's coefficients are kept."""
    return configuration_folder() / "coefficients"


def _numbers() -> list[int]:
    folder = coefficients_folder()
    names = (_NAME.fullmatch(path.name) for path in folder.glob("coefficients-*.json"))
    return sorted(int(match[1]) for match in names if match)


def version_path(number: int) -> Path:
    """Return the file of a version, there or not."""
    return coefficients_folder() / f"coefficients-{number:04d}.json"


def records_path(number: int) -> Path:
    """Return the file of the reports behind a version, there or not."""
    return coefficients_folder() / f"records-{number:04d}.jsonl"


def version_in_use() -> int:
    """Return the number of the version that estimates start from: the one chosen, else the newest; 0 for none.

    Raises:
        CalibrationError: the choice names a version that is gone.
    """
    numbers, pointer = _numbers(), coefficients_folder() / "in-use"
    if not pointer.is_file():
        return numbers[-1] if numbers else 0
    text = pointer.read_text(encoding="utf-8").strip()
    if not text.isdigit() or int(text) not in (0, *numbers):
        raise CalibrationError(
            f"{pointer} names version {text!r}, which is not there; expected one of 0, "
            f"{', '.join(map(str, numbers)) or 'none'}; choose one with `codesign calibrate --revert VERSION`"
        )
    return int(text)


def path_in_use() -> Path | None:
    """Return the user's coefficients file that estimates start from; None: those that ship."""
    number = version_in_use()
    return version_path(number) if number else None


def history() -> list[Version]:
    """Return every version, those that ship first."""
    used = version_in_use()
    versions = [
        Version(
            number=0,
            path=None,
            is_in_use=used == 0,
            provenance=dict(load_coefficients().provenance),
        )
    ]
    for number in _numbers():
        path = version_path(number)
        try:
            provenance, problem = dict(load_coefficients(path).provenance), ""
        except ModelError as error:
            provenance, problem = {}, str(error)
        versions.append(
            Version(
                number=number,
                path=path,
                is_in_use=number == used,
                provenance=provenance,
                problem=problem,
            )
        )
    return versions


def use_version(number: int) -> None:
    """Let estimates start from a version from now on.

    Raises:
        CalibrationError: there is no such version, or it cannot be read.
    """
    known = (0, *_numbers())
    if number not in known:
        raise CalibrationError(
            f"no version {number} of your coefficients; expected one of {', '.join(map(str, known))}; "
            "see `codesign calibrate --history`"
        )
    try:
        if number:
            load_coefficients(version_path(number))
    except ModelError as error:
        raise CalibrationError(str(error)) from error
    write_atomically(coefficients_folder() / "in-use", f"{number}\n")


def previous_version() -> int:
    """Return the version that the one in use was made after; those that ship after the first."""
    used = version_in_use()
    return max((number for number in _numbers() if number < used), default=0)


def save_version(coefficients: Coefficients, records: Sequence[Record]) -> Path:
    """Write the next version with the reports behind it, and let estimates start from it.

    Returns:
        The coefficients file.
    """
    number = max(_numbers(), default=0) + 1
    folder = coefficients_folder()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(
        records_path(number), "".join(json.dumps(record_json(r)) + "\n" for r in records)
    )
    save_coefficients(coefficients, version_path(number))
    use_version(number)
    return version_path(number)


def records_behind(number: int) -> list[Record] | None:
    """Return the reports that a version was fitted to; None when they are not there.

    Raises:
        CalibrationError: the file cannot be read.
    """
    path = records_path(number)
    if not number or not path.is_file():
        return None
    try:
        return load_records([path])
    except ModelError as error:
        raise CalibrationError(str(error)) from error


def history_json(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """Return versions as JSON-ready objects."""
    return [
        {
            "version": version.number,
            "path": None if version.path is None else str(version.path),
            "is_in_use": version.is_in_use,
            "problem": version.problem or None,
            **{
                key: version.provenance.get(key)
                for key in ("date", "n_records", "base_file", "covers", "flows")
            },
        }
        for version in versions
    ]


def history_table(versions: Sequence[Version]) -> "Table":
    """Tabulate versions: when, from how many designs, for whom they speak, how well they do."""
    from rich.table import Table

    table = Table("version", "in use", "date", "designs", "speaks for", "held-out SMAPE")
    for version in versions:
        known = version.provenance
        covers = known.get("covers") or {}
        flows = known.get("flows") or {"": known}
        table.add_row(
            str(version.number) if version.number else "0 (shipped)",
            "yes" if version.is_in_use else "",
            str(known.get("date", "")),
            str(known.get("n_records", "")),
            version.problem
            or "; ".join(", ".join(names) for names in covers.values() if names)
            or "every flow",
            "\n".join(
                f"{label}: " * bool(label)
                + ", ".join(
                    f"{m} {value:g} %" for m, value in flow.get("held_out_smape", {}).items()
                )
                for label, flow in flows.items()
            ),
        )
    return table
