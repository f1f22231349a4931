"""Fitted numbers of the cost laws: versioned files, and the values resolved for one tool and device.

A file holds, all under `"schema": 1`: factors of terms per target, log offsets per key, timing
multipliers, interval quantiles per class, the fitted range of each parameter, the steps between
tool stages, and where it all came from (`provenance`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hw_models.errors import ModelError

SCHEMA = 1
DEFAULT_PATH = Path(__file__).parent / "default.json"
#: Half-widths (log) of a 90 % interval where nothing was fitted: a factor of three.
UNFITTED_LOG_WIDTH = math.log(3.0)


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Everything that fitting decides.

    Attributes:
        factors: factors[target][term], positive; 1 where missing.
        offsets: offsets[target][key], log of a factor; keys are "tool=...", "version=tool:...",
            "family=...", "strategy=...", "io=..."; 0 where missing.
        timing: multipliers of timing constants, by name; 1 where missing.
        intervals: intervals[target][class] = [low, high], log offsets from the value; class is
            one of `interval_classes`.
        widening: widening[kind], log half-width added for what was not seen in the fit
            ("tool", "version", "family", "strategy", "range", "recurrent").
        seen: keys with the number of records they were fitted on.
        ranges: ranges[parameter] = [low, high] of the fitted records.
        stages: stages[stage][target] = {"factor": ..., "low": ..., "high": ...}, the step from csynth.
        achieved_clock: constants of the achieved-clock law.
        energy_scale: multiplier of predicted energy, for whoever has measured power.
        scope: designs that the fit speaks for, as `scope_name` spells them; everything when empty.
        outside: coefficients for all other designs; those that ship by default.
        own_intervals: own_intervals[target][class], of intervals fitted to one user's designs: whether the
            weights of these were known.  They are not narrowed for known weights: they are as narrow already.
        provenance: source, number of records, date, held-out errors, versions.
    """

    factors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    offsets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    widening: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    achieved_clock: Mapping[str, float] = field(default_factory=dict)
    energy_scale: float = 1.0
    scope: Sequence[str] = ()
    outside: "Coefficients | None" = None
    own_intervals: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def factor(self, target: str, term: str) -> float:
        """Return the fitted factor of a term, 1 when not fitted."""
        return float(self.factors.get(target, {}).get(term, 1.0))

    def log_offset(self, target: str, keys: tuple[str, ...]) -> float:
        """Return the sum of the log offsets of several keys; unseen keys add nothing."""
        known = self.offsets.get(target, {})
        return float(sum(known.get(key, 0.0) for key in keys))

    def interval(self, target: str, strategy: str, io_type: str, kind: str) -> tuple[float, float]:
        """Return log offsets of the 90 % interval, of the nearest class that was fitted."""
        name = self.interval_class(target, strategy, io_type, kind)
        if name is None:
            return -UNFITTED_LOG_WIDTH, UNFITTED_LOG_WIDTH
        low, high = self.intervals[target][name]
        return float(low), float(high)

    def interval_class(self, target: str, strategy: str, io_type: str, kind: str) -> str | None:
        """Return the nearest class whose interval was fitted, None where none was."""
        known = self.intervals.get(target, {})
        classes = interval_classes(strategy, io_type, kind)
        return next((name for name in classes if name in known), None)


def scope_name(tool: str, family: str, io_type: str, kind: str, strategy: str) -> str:
    """Return the name of the designs that behave alike, as far as a fit is trusted to carry over.

    Args:
        tool, family, io_type: as in a batch's offset keys.
        kind, strategy: as in `interval_classes`.
    """
    return f"{tool}|{family}|{io_type}|{kind}|{strategy}"


def interval_classes(strategy: str, io_type: str, kind: str) -> tuple[str, ...]:
    """Return the interval classes of a design, the finest first.

    Args:
        strategy: name in MATVEC_STRATEGIES or "mixed".
        io_type: "io_parallel" or "io_stream".
        kind: "dense", or "spatial" for convolution, pooling and recurrence.
    """
    return (f"{strategy}|{io_type}|{kind}", f"{io_type}|{kind}", kind, "*")


def coefficients_from_json(document: Mapping[str, Any], *, source: str) -> Coefficients:
    """Build coefficients from a parsed file.

    Raises:
        ModelError: wrong schema, unknown keys, or numbers that are not finite and positive.
    """
    if document.get("schema") != SCHEMA:
        raise ModelError(
            f"{source}: schema {document.get('schema')!r}, expected {SCHEMA}; write it again with `codesign calibrate`"
        )
    known = set(Coefficients.__dataclass_fields__)
    extra = sorted(set(document) - known - {"schema"})
    if extra:
        raise ModelError(
            f"{source}: unknown key {extra[0]!r}; expected {', '.join(sorted(known))}; remove it"
        )
    for target, terms in document.get("factors", {}).items():
        for term, value in terms.items():
            if not (math.isfinite(value) and value > 0):
                raise ModelError(
                    f"{source}: factors.{target}.{term} is {value!r}, expected a positive number; calibrate again"
                )
    values = {k: v for k, v in document.items() if k not in ("schema", "outside")}
    if (outside := document.get("outside")) is not None:
        values["outside"] = coefficients_from_json({"schema": SCHEMA, **outside}, source=source)
    return Coefficients(**values)


@cache
def _load(path: Path, _modified_ns: int) -> Coefficients:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{path}: not JSON ({error}); write it again with `codesign calibrate`"
        ) from error
    return coefficients_from_json(document, source=str(path))


def load_coefficients(path: Path | str | None = None) -> Coefficients:
    """Read coefficients from a file; without one, those shipped with the package.

    Raises:
        ModelError: the file is missing, broken or of another schema.
    """
    chosen = DEFAULT_PATH if path is None else Path(path)
    if not chosen.is_file():
        if path is None:
            return Coefficients()
        raise ModelError(
            f"{chosen}: no such coefficients file; write one with `codesign calibrate`"
        )
    return _load(chosen, chosen.stat().st_mtime_ns)


def save_coefficients(coefficients: Coefficients, path: Path | str) -> None:
    """Write coefficients as JSON, schema 1, keys sorted, whole or not at all."""
    target = Path(path)
    text = json.dumps({"schema": SCHEMA, **asdict(coefficients)}, indent=1, sort_keys=True) + "\n"
    partial = target.with_suffix(target.suffix + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
