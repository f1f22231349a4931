"""Stage "choose": the winner among the trained designs, and whether it is worth anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codesign.errors import CodesignError
from codesign.results import Baseline, Choice, Results, ScoreKind, TrainedDesign, Training
from codesign.stages.choosing import beats_constant, choose_winner
from codesign.stages.setting import Setting, score_kinds

KEYS = ("train.score_tolerance",)


def run(setting: Setting, earlier: Results) -> Choice:
    """Choose the winner.

    Raises:
        CodesignError: no design fits the budget once its weights are known, or none is better than a
            constant answer.
    """
    training, known = earlier.require(Training), setting.study.designs()
    constant = training.baselines[0]
    kinds = score_kinds(setting.task)
    kind = kinds[setting.task.target.score.name]
    finalists = [known[digest] for digest in training.finalists]
    useful = [d for d in finalists if beats_constant(d, constant)]
    if not useful:
        best = max(finalists, key=lambda d: d.validation.value)
        raise CodesignError(
            f"none of the {len(finalists)} finalists is better than {constant.description}"
            f" ({kind.title} {kind.shown(constant.validation.value):.4f} on the validation rows, the best finalist"
            f" {kind.shown(best.validation.value):.4f}), so none can be called a winner; judge by a metric that tells the classes apart"
            " (docs/tasks.md), balance the classes, or train longer; the trained designs are in `codesign front`"
        )
    winner, reason, steadiness = choose_winner(
        useful,
        luts=known_luts(setting, useful),
        tolerance=setting.study.config.train.score_tolerance,
    )
    if len(useful) < len(finalists):
        n = len(finalists) - len(useful)
        reason = f"{n} of {len(finalists)} finalists are no better than {constant.description} and left out. {reason}"
    against = against_trivial(winner, training.baselines, kind, kinds.get("events"))
    for sentence in (reason, against, steadiness):
        setting.reporter.message(sentence)
    return Choice(
        winner=winner.digest, reason=reason, against_trivial=against, steadiness=steadiness
    )


def known_luts(setting: Setting, designs: Sequence[TrainedDesign]) -> Mapping[str, float]:
    """Return the LUTs of designs: synthesized where that is known of every RTL design, else predicted with weights."""
    predicted = {d.digest: d.predicted_with_weights["lut"].value for d in designs}
    found = {d.digest: setting.study.synthesized(d) for d in designs if d.flow == "rtl"}
    if any(cells is None for cells in found.values()):
        return predicted
    return predicted | {digest: cells.lut for digest, cells in found.items() if cells is not None}


def against_trivial(
    design: TrainedDesign,
    baselines: Sequence[Baseline],
    kind: ScoreKind,
    events: ScoreKind | None,
) -> str:
    """Compare a design with trivial answers, in a sentence for the validation rows and one for known events.

    Args:
        design: the design.
        baselines: the trivial answers.
        kind: what the validation rows are judged by.
        events: what the events of the test rows are judged by, where these are known and others.
    """
    said = [
        _compared(
            f"On the validation rows {design.digest} reaches",
            kind,
            design.validation.value,
            [(b, b.validation.value, design.validation.error_of_difference(b.validation)) for b in baselines],
        )
    ]  # fmt: skip
    if events is not None:
        tests = [
            (b, b.test.value, float(np.hypot(design.test.standard_error, b.test.standard_error)))
            for b in baselines
        ]
        said.append(
            _compared("On the events of the test rows it reaches", events, design.test.value, tests)
        )
    return " ".join(said)


def _compared(
    opening: str, kind: ScoreKind, value: float, others: Sequence[tuple[Baseline, float, float]]
) -> str:
    parts = []
    for baseline, other, error in others:
        gain = value - other
        verdict = "better" if gain > error else "WORSE" if gain < -error else "NO BETTER"
        parts.append(
            f"{verdict} than {baseline.description} ({kind.shown(other):.4f}, {abs(gain):.4f} ± {error:.4f} apart)"
        )
    return f"{opening} {kind.title} {kind.shown(value):.4f}: {', '.join(parts)}."
