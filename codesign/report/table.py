"""The result of a study as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.front import METRICS, Design, Figure
from codesign.results import Evidence, ScoreKind

#: What people read for each metric.
LABELS = {
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
#: One letter for each source of a figure, in tables that mix them.
_MARKS = {
    Evidence.PREDICTED: "p",
    Evidence.PREDICTED_WITH_WEIGHTS: "w",
    Evidence.EMULATED: "e",
    Evidence.SYNTHESIZED: "s",
    Evidence.MEASURED: "m",
}
#: Says what the letters mean.
KEY = ", ".join(f"{mark}: {evidence.label}" for evidence, mark in _MARKS.items())


def number(value: Any) -> str:
    """Format a figure, or a predicted one with its 90 % interval; counts are whole."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        if value.get("low") is None:
            return number(value["value"])
        return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{round(value):,}"
    return f"{value:,.1f}"


def cell(summary: Mapping[str, Any], metric: str, evidence: Evidence) -> str:
    """Format one figure of the winner; a synthesized one with what was predicted for that very tool stage."""
    text = number(summary["figures"][metric].get(evidence.value))
    expected = (summary["expected_synthesis"] or {}).get(metric)
    if evidence != Evidence.SYNTHESIZED or expected is None:
        return text
    return f"{text} (predicted {number(expected)})"


def marked(figure: Figure) -> str:
    """Format a figure with the letter of its source."""
    return f"{number(figure.value)} {_MARKS[figure.evidence]}"


def front_table(
    designs: Sequence[Design], *, title: str, score: str = "score", test: str = "test"
) -> Table:
    """Tabulate designs: score with its standard error, costs each with the letter of its source."""
    table = Table(title=title, title_justify="left", caption=KEY, caption_justify="left")
    for column in ("candidate", "flow", score, test, "LUT", "FF", "ns", "MHz", ""):
        table.add_column(
            column,
            justify="left" if column in ("candidate", "flow", "") else "right",
            no_wrap=True,
        )
    for d in designs:
        notes = ["winner"] if d.is_winner else []
        notes += [] if d.fits else ["too dear"]
        notes += [] if d.is_efficient else ["beaten"]
        notes += [] if d.state == "trained" else ["predicted"]
        table.add_row(
            d.digest,
            d.flow,
            f"{d.score:.4f}±{d.score_error:.4f}",
            "-" if d.test_score is None else f"{d.test_score:.4f}",
            *(marked(d.figures[name]) for name in ("lut", "ff", "latency_ns")),
            number(d.clock_mhz),
            ", ".join(notes),
        )
    return table


def title_of(kind: Mapping[str, Any] | None) -> str:
    """Return the name of a score with its unit."""
    return "score" if kind is None else ScoreKind.model_validate(kind).title


def print_tables(summary: dict[str, Any], console: Console) -> None:
    """Print the front, the winner and its proof; before training, the predicted front."""

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)

    designs = [Design.model_validate(value) for value in summary["front"] or []]
    score, tested = title_of(summary["score_kind"]), title_of(summary["test_score_kind"])
    trained = [d for d in designs if d.state == "trained"]
    if not trained:
        step = max(1, len(designs) // 12)
        title = f"{len(designs)} designs on the front (all predicted), some of them"
        console.print(front_table(designs[::step], title=title, score=score))
        return
    title = (
        f"The front, trained: {score} estimated from prediction and validation ± one standard error"
    )
    test = "test" if tested == score else f"test, {tested}"
    console.print(front_table(trained, title=title, score=score, test=test))
    winner = summary["winner"]
    if winner is None:
        return
    table = Table(title=f"Winner {winner['digest']} ({winner['flow']})", title_justify="left")
    table.add_column("", no_wrap=True)
    for evidence in EVIDENCE:
        table.add_column(evidence.label, justify="right")
    known = summary["score"]
    table.add_row(
        f"{tested}, test rows",
        "-",
        f"{known['test']['value']:.4f} ± {known['test']['standard_error']:.4f} (trained)",
        "-" if known["emulated"] is None else f"{known['emulated']:.4f}",
        "-",
    )
    for name in METRICS:
        table.add_row(LABELS[name], *(cell(summary, name, evidence) for evidence in EVIDENCE))
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
    for name, why in summary["not_exported"].items():
        say(f"not exported: {name}: {why}")
    for key in ("reason", "against_trivial", "steadiness"):
        say(winner[key])
