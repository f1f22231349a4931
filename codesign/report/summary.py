"""Everything a study found, as one machine-readable object."""

from __future__ import annotations

from typing import Any

from codesign.study import Study, library_versions

#: Metrics reported for the winner, each as {stage: value}.
WINNER_METRICS = ("latency_cycles", "latency_ns", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


def summarize(study: Study) -> dict[str, Any]:
    """Return the study as JSON values.

    Keys: `winner` (candidate, digest, folder), `accuracy` (predicted mean and std, quantized,
    emulated), one key per metric in `WINNER_METRICS` holding {stage: value}, predicted ones with
    low and high (`predicted_for_synthesis`: what the synthesis was expected to say), `mismatches` per comparison, `front`, `finalists`, `predictor`, `rounds`,
    `seconds` per stage, `versions`, `task`, `budget`.  What a study has not reached yet is None.
    """
    progress = study.progress()
    rounds = [progress[key] for key in sorted(progress, key=_natural) if key.startswith("round_")]
    train = progress.get("train", {})
    export = progress.get("export", {})
    winner = train.get("winner")
    summary: dict[str, Any] = {
        "schema": 1,
        "study": study.config.name,
        "complete": "export" in progress,
        "winner": None,
        "accuracy": None,
        **dict.fromkeys(WINNER_METRICS),
        "mismatches": export.get("mismatches"),
        "front": progress.get("front", {}).get("points"),
        "finalists": train.get("finalists"),
        "predictor": rounds[-1]["predictor"] if rounds else None,
        "rounds": rounds,
        "seconds": {key: value["seconds"] for key, value in progress.items() if "seconds" in value},
        "versions": library_versions(),
        "task": progress.get("prepare", {}).get("task"),
        "space": progress.get("prepare", {}).get("space"),
        "device": progress.get("prepare", {}).get("device"),
        "coefficients": progress.get("prepare", {}).get("coefficients"),
        "synthesis": progress.get("synthesis"),
        "budget": progress.get("prepare", {}).get("budget"),
        "seed": study.config.seed,
    }
    if winner is not None:
        summary["winner"] = {
            "digest": winner["digest"],
            "candidate": winner["candidate"],
            "folder": str(study.candidate_folder(winner["digest"]).relative_to(study.folder)),
            "flow": winner["flow"],
            "per_node": winner["per_node"],
            "notes": winner["notes"],
            "selection": winner["selection"],
        }
        summary["accuracy"] = {
            "predicted": winner["predicted_accuracy"],
            "validation": winner["validation_accuracy"],
            "quantized": winner["test_accuracy"],
            "emulated": export.get("emulated_accuracy"),
        }
        for name in WINNER_METRICS:
            stages = {
                "predicted": winner["predicted"][name],
                "predicted_with_weights": winner["predicted_with_weights"][name],
            }
            for stage in ("emulated", "synthesized"):
                value = export.get(stage, {}).get(name)
                if value is not None:
                    stages[stage] = value
            expected = export.get("synthesized", {}).get("predicted", {}).get(name)
            if expected is not None:
                stages["predicted_for_synthesis"] = expected
            summary[name] = stages
    return summary


def _natural(key: str) -> tuple[str, int]:
    head, _, tail = key.rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (key, 0)
