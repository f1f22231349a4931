"""Two designs side by side, of one study or of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from codesign.errors import StudyError
from codesign.front import METRICS, Design, Limits, designs_of
from codesign.report.table import LABELS, marked, number
from codesign.results import Preparation, TrainedDesign
from codesign.study import Study

#: LUT budgets at which two studies are compared.
_LUTS = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)


def compare_designs(first: str, second: str) -> dict[str, Any]:
    """Compare two designs, and what each LUT budget buys in their studies.

    Args:
        first, second: a study folder (its winner is compared), or FOLDER:DIGEST.

    Returns:
        JSON values: `designs` (study, task, device, budget, design), `difference` of the validation
        scores with its standard error where both were judged on the same rows, `budgets`, `notes`.

    Raises:
        StudyError: no such study or design.
    """
    sides = [_side(first), _side(second)]
    notes, difference = [], None
    (study_a, a, facts_a), (study_b, b, facts_b) = sides
    trained = [study_a.designs().get(a.digest), study_b.designs().get(b.digest)]
    if facts_a.task["digest"] != facts_b.task["digest"]:
        notes.append("The two were judged on different data: their scores cannot be compared.")
    elif facts_a.score != facts_b.score:
        notes.append("The two were judged by different metrics: their scores cannot be compared.")
    elif all(trained):
        difference = _difference(trained[0], trained[1])
    else:
        notes.append("One of the two is not trained: its score is predicted.")
    return {
        "designs": [
            {
                "study": str(study.folder),
                "task": facts.task["benchmark"],
                "space": facts.space.name,
                "device": facts.device["name"],
                "budget": facts.budget.name,
                "score": facts.score.name,
                "design": design.model_dump(mode="json"),
            }
            for study, design, facts in sides
        ],
        "difference": difference,
        "budgets": [
            {"at_most_lut": lut, "designs": [_best(study, lut) for study, _, _ in sides]}
            for lut in _LUTS
        ],
        "notes": notes,
    }


def _side(text: str) -> tuple[Study, Design, Preparation]:
    folder, colon, digest = text.rpartition(":")
    if not colon or Path(text).is_dir():
        folder, digest = text, ""
    study = Study.open(Path(folder))
    digest = digest or study.winner()
    design = next((d for d in designs_of(study) if d.digest == digest), None)
    if design is None:
        raise StudyError(f"{folder} knows no design {digest!r}; see `codesign front {folder}`")
    return study, design, study.results().require(Preparation, where=folder)


def _difference(a: TrainedDesign | None, b: TrainedDesign | None) -> dict[str, float] | None:
    if a is None or b is None or len(a.validation.splits) != len(b.validation.splits):
        return None
    return {
        "value": b.validation.value - a.validation.value,
        "standard_error": a.validation.error_of_difference(b.validation),
    }


def _best(study: Study, lut: float) -> dict[str, Any] | None:
    """Return the best trained design of a study within a LUT budget."""
    limits = Limits(at_most_lut=lut)
    held = [d for d in designs_of(study) if d.state == "trained" and d.fits and limits.hold(d)]
    return max(held, key=lambda d: d.score).model_dump(mode="json") if held else None


def comparison_tables(found: dict[str, Any]) -> list[Table]:
    """Tabulate what `compare_designs` returns."""
    table = Table(title="Side by side", title_justify="left")
    designs = [Design.model_validate(side["design"]) for side in found["designs"]]
    table.add_column("")
    for side in found["designs"]:
        table.add_column(side["study"], justify="right")
    for key in ("task", "space", "device", "budget"):
        table.add_row(key, *(side[key] for side in found["designs"]))
    table.add_row("candidate", *(d.digest for d in designs))
    table.add_row("state", *(d.state for d in designs))
    table.add_row("flow", *(f"{d.flow}, {number(d.clock_mhz)} MHz" for d in designs))
    table.add_row(
        found["designs"][0]["score"], *(f"{d.score:.4f} ± {d.score_error:.4f}" for d in designs)
    )
    table.add_row(
        "on test rows", *("-" if d.test_score is None else f"{d.test_score:.4f}" for d in designs)
    )
    for name in METRICS:
        cells = [marked(d.figures[name]) if name in d.figures else "-" for d in designs]
        table.add_row(LABELS[name], *cells)
    if found["difference"]:
        gap = found["difference"]
        text = f"{gap['value']:+.4f} ± {gap['standard_error']:.4f}"
        table.add_row("second minus first, same validation rows", "", text)
    budgets = Table(title="The best trained design, by LUT budget", title_justify="left")
    budgets.add_column("at most LUT", justify="right")
    for side in found["designs"]:
        budgets.add_column(side["study"], justify="right")
    for row in found["budgets"]:
        cells = []
        for value in row["designs"]:
            best = None if value is None else Design.model_validate(value)
            cells.append(
                "-" if best is None else f"{best.score:.4f} ({marked(best.figures['lut'])})"
            )
        budgets.add_row(f"{row['at_most_lut']:,}", *cells)
    return [table, budgets]
