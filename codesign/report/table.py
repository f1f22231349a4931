"""The result of a study as terminal tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_LABELS = {
    "latency_cycles": "latency, cycles",
    "latency_ns": "latency, ns",
    "interval_cycles": "interval, cycles",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram_18k": "BRAM (18 kb)",
}
_STAGES = ("predicted", "predicted_with_weights", "emulated", "synthesized")


def number(value: Any) -> str:
    """Format a figure, or a predicted one with its 90 % interval."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}"


def stage_cell(figures: dict[str, Any], stage: str) -> str:
    """Format one stage of a metric; a synthesized figure with what was predicted for that very stage."""
    expected = figures.get("predicted_for_synthesis")
    if stage != "synthesized" or expected is None:
        return number(figures.get(stage))
    return f"{number(figures.get(stage))} (predicted {number(expected)})"


def print_tables(summary: dict[str, Any], console: Console) -> None:
    """Print winner, comparisons and finalists of a study's summary; before training, the front."""
    if not summary["finalists"]:
        _print_front(summary["front"] or [], console)
        return
    finalists = Table(
        title="Finalists, trained at their precision (accuracy predicted, validation, test; LUT and ns predicted with weights)",
        title_justify="left",
    )
    for column in ("candidate", "predicted", "valid.", "test", "LUT", "ns", "fits", ""):
        finalists.add_column(column, justify="left" if column in ("candidate", "") else "right")
    winner = summary["winner"]
    for row in summary["finalists"] or []:
        mean, std = row["predicted_accuracy"]["mean"], row["predicted_accuracy"]["std"]
        finalists.add_row(
            row["digest"],
            f"{mean:.3f} ± {std:.3f}",
            f"{row['validation_accuracy']:.4f}",
            f"{row['test_accuracy']:.4f}",
            number(row["predicted_with_weights"]["lut"]["value"]),
            number(row["predicted_with_weights"]["latency_ns"]["value"]),
            "yes" if row["fits"] else "no",
            "winner" if winner and row["digest"] == winner["digest"] else "",
        )
    console.print(finalists)
    if winner is None:
        return
    table = Table(title=f"Winner {winner['digest']} ({winner['flow']})", title_justify="left")
    table.add_column("")
    for stage in _STAGES:
        table.add_column(stage.replace("_", " "), justify="right")
    accuracy = summary["accuracy"]
    predicted = accuracy["predicted"]
    table.add_row(
        "test accuracy",
        f"{predicted['mean']:.4f} ± {predicted['std']:.4f}",
        f"{accuracy['quantized']:.4f} (trained)",
        "-" if accuracy["emulated"] is None else f"{accuracy['emulated']:.4f}",
        "-",
    )
    for name, label in _LABELS.items():
        table.add_row(label, *(stage_cell(summary[name], stage) for stage in _STAGES))
    console.print(table)
    if summary["mismatches"]:
        proof = Table(
            title="Bit-for-bit comparison with the integer reference", title_justify="left"
        )
        for column in ("implementation", "vectors", "different words", "status"):
            proof.add_column(
                column, justify="left" if column in ("implementation", "status") else "right"
            )
        for name, row in summary["mismatches"].items():
            proof.add_row(name, f"{row['vectors']:,}", number(row["mismatches"]), row["status"])
        console.print(proof)


def _print_front(points: list[dict[str, Any]], console: Console) -> None:
    """Print up to a dozen points of the predicted front, spread over LUT."""
    ordered = sorted(points, key=lambda point: float(point["lut"]))
    step = max(1, len(ordered) // 12)
    table = Table(
        title=f"{len(ordered)} designs on the front (all predicted), some of them",
        title_justify="left",
    )
    for column in ("candidate", "flow", "accuracy", "LUT", "ns", "MHz"):
        table.add_column(column, justify="left" if column in ("candidate", "flow") else "right")
    for point in ordered[::step]:
        table.add_row(
            point["digest"],
            point["flow"],
            f"{point['accuracy']:.3f} ± {point['accuracy_std']:.3f}",
            number(point["lut"]),
            number(point["latency_ns"]),
            number(point["clock_mhz"]),
        )
    console.print(table)
