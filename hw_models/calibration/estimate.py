"""Estimates of records: the form of `codesign estimate --records`."""

from collections.abc import Sequence
from typing import Any

from hw_models.calibration.records import Lowered, Record, batch_records, lower_record
from hw_models.coefficients import Coefficients
from hw_models.compose import estimate
from hw_models.errors import ModelError
from hw_models.types import METRICS


def estimate_records(
    records: Sequence[Record],
    stage: str = "csynth",
    coefficients: Coefficients | None = None,
) -> list[dict[str, Any]]:
    """Estimate each record's network; stage fields are ignored as inputs.

    Args:
        records: in the schema of synthesis records.
        stage: "csynth", "vsynth" or "implemented".
        coefficients: those shipped with the package by default.

    Returns:
        Per record, in order: {"id", "supported", "stage", one {"value", "low", "high"} per metric,
        "notes"}.  A network that no law covers has "supported": false, null metrics, and says why.
    """
    results: list[dict[str, Any]] = []
    kept: list[int] = []
    lowered: list[Lowered] = []
    for i, record in enumerate(records):
        results.append({"id": record.get("id"), "supported": False, "stage": stage})
        results[i].update({metric: None for metric in METRICS})
        try:
            operations = lower_record(record)
            # one record at a time: a wrong part or tool must not take its neighbours down
            batch_records([record], [operations])
        except ModelError as error:
            results[i]["notes"] = [str(error)]
            continue
        kept.append(i)
        lowered.append(operations)
    for rows, batch in batch_records([records[i] for i in kept], lowered):
        try:
            metrics = estimate(batch, coefficients, stage=stage, with_notes=True)
        except ModelError as error:
            for row in rows:
                results[kept[row]]["notes"] = [str(error)]
            continue
        for position, row in enumerate(rows):
            result = results[kept[row]]
            result["supported"] = True
            for metric in METRICS:
                known = metrics.metrics[metric]
                result[metric] = {
                    "value": int(known.value[position]),
                    "low": int(known.low[position]),
                    "high": int(known.high[position]),
                }
            result["notes"] = [*lowered[row].notes, *metrics.notes[position]]
    return results
