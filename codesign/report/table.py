"""The result of a study as terminal tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.results import Evidence

_LABELS = {
    "latency_cycles": "latency, cycles",
    "latency_ns": "latency, ns",
    "interval_cycles": "interval, cycles",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram_18k": "BRAM (18 kb)",
}
#: Columns of a winner's figures.
EVIDENCE = (
    Evidence.PREDICTED,
    Evidence.PREDICTED_WITH_WEIGHTS,
    Evidence.EMULATED,
    Evidence.SYNTHESIZED,
)


def number(value: Any) -> str:
    """Format a figure, or a predicted one with its 90 % interval."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}"


def cell(figures: dict[str, Any], evidence: Evidence) -> str:
    """Format one figure of a metric; a synthesized one with what was predicted for that very tool stage."""
    expected = figures.get("predicted_for_synthesis")
    if evidence != Evidence.SYNTHESIZED or expected is None:
        return number(figures.get(evidence))
    return f"{number(figures.get(evidence))} (predicted {number(expected)})"


def print_tables(summary: dict[str, Any], console: Console) -> None:
    """Print winner, comparisons and finalists of a study's summary; before training, the front."""
    if not summary["finalists"]:
        _print_front(summary["front"] or [], console)
        return
    finalists = Table(
        title="Finalists, trained at their precision (score predicted, validation, test; LUT and ns predicted with weights)",
        title_justify="left",
    )
    for column in ("candidate", "predicted", "valid.", "test", "LUT", "ns", "fits", ""):
        finalists.add_column(column, justify="left" if column in ("candidate", "") else "right")
    winner = summary["winner"]
    for row in summary["finalists"] or []:
        mean, std = row["predicted_score"]["mean"], row["predicted_score"]["std"]
        finalists.add_row(
            row["digest"],
            f"{mean:.3f} ± {std:.3f}",
            f"{row['validation_score']:.4f}",
            f"{row['test_score']:.4f}",
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
    for evidence in EVIDENCE:
        table.add_column(evidence.label, justify="right")
    score = summary["score"]
    predicted = score["predicted"]
    kind, tested = summary["score_kind"] or {}, summary["test_score_kind"] or {}
    if kind != tested:  # test rows are judged by another score than designs are chosen by
        table.add_row(
            f"{kind['name']}, validation",
            f"{predicted['mean']:.4f} ± {predicted['std']:.4f}",
            f"{score['validation']:.4f} (trained)",
            "-",
            "-",
        )
    table.add_row(
        f"{tested.get('name', 'score')}, test",
        f"{predicted['mean']:.4f} ± {predicted['std']:.4f}" if kind == tested else "-",
        f"{score['quantized']:.4f} (trained)",
        "-" if score["emulated"] is None else f"{score['emulated']:.4f}",
        "-",
    )
    for name, label in _LABELS.items():
        table.add_row(label, *(cell(summary[name], evidence) for evidence in EVIDENCE))
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
    for column in ("candidate", "flow", "score", "LUT", "ns", "MHz"):
        table.add_column(column, justify="left" if column in ("candidate", "flow") else "right")
    for point in ordered[::step]:
        table.add_row(
            point["digest"],
            point["flow"],
            f"{point['score']:.3f} ± {point['score_std']:.3f}",
            number(point["lut"]),
            number(point["latency_ns"]),
            number(point["clock_mhz"]),
        )
    console.print(table)
