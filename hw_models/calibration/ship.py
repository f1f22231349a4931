"""Makes the coefficients that the package carries: `python -m hw_models.calibration.ship --help`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hw_models.calibration.calibrate import calibrate, load_corpus
from hw_models.calibration.stages import fit_achieved_clock, fit_stage_steps, stage_step
from hw_models.coefficients import DEFAULT_PATH, Coefficients, save_coefficients
from hw_models.records import Record, load_records

#: Log half-widths of 90 % intervals of the adder-graph law: 504 random matrices (LUT), pipeline cuts of
#: random networks (FF), depth against alkaid's (cycles); the rest is exact by construction.
DISTRIBUTED_WIDTHS = {
    "lut": 0.20, "ff": 0.40, "latency_cycles": 0.25, "interval_cycles": 0.0, "dsp": 0.0, "bram_18k": 0.0,
}  # fmt: skip


#: Marks in the names of designs whose sources were edited so that the tool may not choose: multipliers forced
#: into LUTs.  They say nothing of what it would have chosen.
EDITED = ("LUT_reuse",)


def usable(records: Sequence[Record]) -> list[Record]:
    """Return the records of designs that the tool built as hls4ml wrote them."""
    return [record for record in records if not any(mark in str(record.id) for mark in EDITED)]


def ship(
    records: Sequence[Path], pairs: Path, post_route: Path, progress: Callable[[str], None]
) -> Coefficients:
    """Fit the shipped coefficients from the shared synthesis records, every author held out once."""
    result = calibrate(
        usable(load_records(records)),
        base=Coefficients(),
        source="shared synthesis records",
        progress=progress,
        is_general=True,
    )
    routed = load_records([post_route])
    steps = fit_stage_steps(load_records([pairs]))
    # the native stage of RTL is the adder graph; open synthesis is the project's own corpus
    corpus = load_corpus()
    names = [str(i) for i in range(len(corpus))]
    steps["rtl:vsynth"] = {
        target: stage_step(
            [float(getattr(record, fact)) for record in corpus],
            [float(getattr(record.reports["vsynth"], target)) for record in corpus],
            names,
        )
        for target, fact in (("lut", "adder_cost"), ("ff", "register_bits"))
    }
    steps["rtl:implemented"] = {
        "lut": {"factor": 1.0505, "low": -0.07, "high": 0.07, "n": float(len(routed))}
    }
    # the laws themselves are the base where the fit did not improve on them: intervals are needed anyway
    fitted = result.coefficients
    intervals = {metric: dict(classes) for metric, classes in fitted.intervals.items()}
    for metric, width in DISTRIBUTED_WIDTHS.items():
        intervals.setdefault(metric, {})["distributed_arithmetic|io_parallel|dense"] = (
            -width,
            width,
        )
    return replace(
        fitted,
        intervals=intervals,
        seen={**fitted.seen, "tool=alkaid": 504, "tool=yosys": 504},
        stages=steps,
        achieved_clock=fit_achieved_clock(routed),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, fit, write, and print the provenance as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--records", type=Path, required=True, nargs="+", help="synthesis records, JSONL"
    )
    parser.add_argument("--pairs", type=Path, required=True, help="designs with two stages, JSONL")
    parser.add_argument(
        "--post-route", type=Path, required=True, help="distributed-arithmetic designs, JSONL"
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_PATH, help="coefficients file")
    options = parser.parse_args(arguments)
    coefficients = ship(
        options.records,
        options.pairs,
        options.post_route,
        lambda group: print(f"held out: {group}", file=sys.stderr),
    )
    save_coefficients(coefficients, options.output)
    print(json.dumps(coefficients.provenance, indent=1))


if __name__ == "__main__":
    main()
