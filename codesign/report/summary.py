"""Everything a study found, as one machine-readable object."""

from __future__ import annotations

from typing import Any

from codesign.results import (
    Choice,
    Costs,
    Evidence,
    Export,
    ExportFacts,
    Fit,
    Preparation,
    ScoreKind,
    Search,
    ToolRuns,
    TrainedDesign,
    Training,
)
from codesign.study import Study, library_versions

#: Metrics reported for the winner, each as {evidence: value}.
WINNER_METRICS = ("latency_cycles", "latency_ns", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


def summarize(study: Study) -> dict[str, Any]:
    """Return the study as JSON values.

    Keys: `winner` (digest, candidate, folder, nodes, reason), `score` (predicted mean and std, quantized,
    emulated), one key per metric in `WINNER_METRICS` holding {evidence: value}, predicted ones with
    low and high (`predicted_for_synthesis`: what the synthesis was expected to say), `mismatches` per
    comparison, `front`, `finalists`, `predictor`, `rounds`, `seconds` per stage, `versions`, `task`,
    `budget`.  What a study has not reached yet is None.
    """
    results = study.results()
    preparation, training = results.last(Preparation), results.last(Training)
    choice, export, runs = results.last(Choice), results.last(Export), results.last(ToolRuns)
    searches, fits = results.of(Search), results.of(Fit)
    front = searches[-1].points if searches else []
    summary: dict[str, Any] = {
        "schema": 2,
        "study": study.config.name,
        "complete": export is not None,
        "score_kind": None,
        "test_score_kind": None,
        "winner": None,
        "score": None,
        **dict.fromkeys(WINNER_METRICS),
        "mismatches": None,
        "front": [point.model_dump(mode="json") for point in front] or None,
        "finalists": None,
        "predictor": fits[-1].model_dump(mode="json") if fits else None,
        "rounds": [
            {
                "n_labels": found.n_labels,
                "n_evaluations": found.n_evaluations,
                "n_feasible": found.n_feasible,
                "n_front": len(found.front_genomes),
                "tau": fit.tau,
                "tau_parameters": fit.tau_parameters,
            }
            for found, fit in zip(searches, fits, strict=False)
        ],
        "seconds": {name: result.seconds for name, result in results.items() if result.seconds},
        "versions": library_versions(),
        "task": None,
        "space": None,
        "device": None,
        "coefficients": None,
        "synthesis": None if runs is None else runs.model_dump(mode="json"),
        "budget": None,
        "seed": study.config.seed,
    }
    if preparation is not None:
        facts = preparation.model_dump(mode="json")
        for key in ("task", "space", "device", "budget", "coefficients"):
            summary[key] = facts[key]
        summary["score_kind"] = facts["score"]
        summary["test_score_kind"] = facts["test_score"]
    if training is not None:
        summary["finalists"] = [
            design.model_dump(mode="json", exclude={"nodes", "notes", "candidate"})
            for design in training.designs
        ]
    if training is not None and choice is not None:
        winner = next(design for design in training.designs if design.digest == choice.winner)
        found = None if export is None else export.design
        summary |= _winner(study, winner, choice.reason, found)
    if preparation is not None:
        _show(summary, preparation.score, preparation.test_score)
    return summary


def _show(summary: dict[str, Any], kind: ScoreKind, test_kind: ScoreKind) -> None:
    """Turn all kept scores into those that people read, in place."""
    chosen, tested = kind.shown, test_kind.shown
    for point in summary["front"] or ():
        point["score"] = chosen(point["score"])
    for row in summary["finalists"] or ():
        row["predicted_score"]["mean"] = chosen(row["predicted_score"]["mean"])
        for key in ("validation_score", "estimated_score"):
            row[key] = chosen(row[key])
        row["test_score"] = tested(row["test_score"])
    if summary["predictor"]:
        held_out = summary["predictor"]["held_out"]
        for key in ("label", "mean"):
            held_out[key] = [chosen(value) for value in held_out[key]]
    if summary["score"]:
        score = summary["score"]
        score["predicted"]["mean"] = chosen(score["predicted"]["mean"])
        score["validation"] = chosen(score["validation"])
        for key in ("quantized", "emulated"):
            score[key] = None if score[key] is None else tested(score[key])


def _winner(
    study: Study, winner: TrainedDesign, reason: str, export: ExportFacts | None
) -> dict[str, Any]:
    """Return the keys of the summary that speak of the winner."""
    facts = winner.model_dump(mode="json")
    exact: dict[Evidence, dict[str, float]] = {}
    expected: Costs = {}
    if export is not None:
        exact[Evidence.EMULATED] = export.emulated
        if export.synthesized is not None:
            exact[Evidence.SYNTHESIZED] = export.synthesized.model_dump(
                include={"lut", "ff", "dsp", "bram_18k"}
            )
            expected = export.synthesized.predicted
    keys: dict[str, Any] = {
        "winner": {
            "folder": str(study.candidate_folder(winner.digest).relative_to(study.folder)),
            "reason": reason,
            **{key: facts[key] for key in ("digest", "candidate", "flow", "nodes", "notes")},
        },
        "heads": facts["heads"],
        "score": {
            "predicted": facts["predicted_score"],
            "validation": winner.validation_score,
            "quantized": winner.test_score,
            "emulated": None if export is None else export.emulated_score,
        },
        "mismatches": None
        if export is None
        else {name: c.model_dump() for name, c in export.comparisons.items()},
    }
    for name in WINNER_METRICS:
        keys[name] = {
            evidence.value: facts[evidence.value][name]
            for evidence in (Evidence.PREDICTED, Evidence.PREDICTED_WITH_WEIGHTS)
        }
        for evidence, values in exact.items():
            if name in values:
                keys[name][evidence.value] = values[name]
        if name in expected:
            keys[name]["predicted_for_synthesis"] = expected[name].model_dump()
    return keys
