"""Everything a study found, as one machine-readable object."""

from __future__ import annotations

from typing import Any

from codesign.front import designs_of, figures_of
from codesign.results import (
    Choice,
    Fit,
    ImportedNetwork,
    Preparation,
    Result,
    ScoreKind,
    Search,
    ToolRuns,
    Training,
)
from codesign.study import Study, library_versions


def summarize(study: Study) -> dict[str, Any]:
    """Return the study as JSON values.

    Keys: `front` (every design, see `codesign.front.Design`), `winner` (digest, candidate, folder, nodes,
    reason), `score` (predicted, validation, estimated, test, emulated), `figures` of the winner
    ({metric: {evidence: value, low, high}}), `expected_synthesis` (what the synthesis was predicted to
    say), `mismatches` per comparison, `finalists`, `baselines`, `predictor`, `rounds`, `seconds` per stage,
    `versions`, `task`, `budget`, `imported` (a network that was trained elsewhere against its framework).  What a study has not reached yet is None.
    """
    results = study.results()
    preparation, training = results.last(Preparation), results.last(Training)
    choice, runs = results.last(Choice), results.last(ToolRuns)
    searches, fits = results.of(Search), results.of(Fit)
    known = study.designs()
    front = designs_of(study) if searches and searches[-1].points else None
    summary: dict[str, Any] = {
        "schema": 2,
        "study": study.config.name,
        "complete": "export" in results,
        "score_kind": None,
        "test_score_kind": None,
        "heads": None,
        "curves": None,
        "trigger": None,
        "winner": None,
        "score": None,
        "figures": None,
        "expected_synthesis": None,
        "mismatches": None,
        "not_exported": {},
        "front": None if front is None else [design.model_dump(mode="json") for design in front],
        "finalists": None,
        "baselines": None,
        "predictor": _json(fits[-1]) if fits else None,
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
        "synthesis": None if runs is None else _json(runs),
        "budget": None,
        "seed": study.config.seed,
        "imported": None,
    }
    if (imported := results.last(ImportedNetwork)) is not None:
        summary["imported"] = {**_json(imported), "verdict": imported.verdict}
    if preparation is not None:
        facts = preparation.model_dump(mode="json")
        for key in ("task", "space", "device", "budget", "coefficients"):
            summary[key] = facts[key]
        summary["score_kind"], summary["test_score_kind"] = facts["score"], facts["test_score"]
    if training is not None:
        summary["finalists"] = [
            known[digest].model_dump(
                mode="json", exclude={"candidate": True, "validation": {"replicates"}}
            )
            for digest in training.finalists
            if digest in known
        ]
        summary["baselines"] = [
            baseline.model_dump(mode="json", exclude={"validation": {"replicates"}})
            for baseline in training.baselines
        ]
    if choice is not None and choice.winner in known:
        summary |= _winner(study, choice)
    if preparation is not None:
        _show(summary, preparation.score, preparation.test_score)
    return summary


def _show(summary: dict[str, Any], kind: ScoreKind, test_kind: ScoreKind) -> None:
    """Turn all kept scores into those that people read, in place (the front is turned already)."""
    chosen, tested = kind.shown, test_kind.shown
    rows = [*(summary["finalists"] or ()), *(summary["baselines"] or ())]
    rows += [summary["score"]] if summary["score"] else []
    for row in rows:
        for key in ("validation", "estimated"):
            if key in row:
                row[key]["value"] = chosen(row[key]["value"])
        for key in ("predicted_score", "predicted"):
            if "mean" in row.get(key, ()):
                row[key]["mean"] = chosen(row[key]["mean"])
        row["test"]["value"] = tested(row["test"]["value"])
        if row.get("emulated") is not None:
            row["emulated"] = tested(row["emulated"])
    if summary["predictor"]:
        held_out = summary["predictor"]["held_out"]
        for key in ("label", "mean"):
            held_out[key] = [chosen(value) for value in held_out[key]]


def _json(result: Result) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True)


def _winner(study: Study, choice: Choice) -> dict[str, Any]:
    """Return the keys of the summary that speak of the winner."""
    winner = study.designs()[choice.winner]
    synthesized, exported = study.synthesized(winner), study.exported(winner)
    figures = figures_of(winner, synthesized, exported)
    return {
        "winner": {
            "folder": str(study.candidate_folder(winner.digest).relative_to(study.folder)),
            "reason": choice.reason,
            "against_trivial": choice.against_trivial,
            "steadiness": choice.steadiness,
            **winner.model_dump(
                mode="json",
                include={"digest", "candidate", "flow", "nodes", "notes", "clocks", "clock_mhz"},
            ),
        },
        "heads": {name: head.model_dump(mode="json") for name, head in winner.heads.items()},
        "curves": None if exported is None else [c.model_dump() for c in exported.curves],
        "trigger": exported.trigger.model_dump() if exported and exported.trigger else None,
        "score": {
            "predicted": winner.predicted_score.model_dump(),
            "validation": winner.validation.model_dump(exclude={"replicates"}),
            "estimated": winner.estimated.model_dump(),
            "test": winner.test.model_dump(),
            "emulated": None if exported is None else exported.emulated_score,
        },
        "figures": {
            name: {
                evidence.value: figure.model_dump(exclude={"evidence"}, exclude_none=True)
                for evidence, figure in known.items()
            }
            for name, known in figures.items()
        },
        "expected_synthesis": None
        if synthesized is None
        else {name: cost.model_dump() for name, cost in synthesized.predicted.items()},
        "mismatches": None
        if exported is None
        else {name: c.model_dump() for name, c in exported.comparisons.items()},
        "not_exported": {} if exported is None else exported.skipped,
    }
