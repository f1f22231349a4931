"""Estimates of records: the form of `codesign estimate --records`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hw_models.coefficients import Coefficients
from hw_models.compose import estimate
from hw_models.errors import ModelError
from hw_models.primitives.base import Array
from hw_models.record_lowering import Lowered, batch_records, lower_record
from hw_models.records import Record, in_schema_2, read_record
from hw_models.types import METRICS, Estimate


def summarize(
    metrics: Mapping[str, Estimate], utilization: Mapping[str, Array], i: int
) -> dict[str, Any]:
    """Return what is estimated of design `i`, JSON-ready.

    Returns:
        Value and interval per metric; "utilization": share of the part per resource, None where its capacity is
        not known; "over": the resources of which the part holds less.
    """
    summary: dict[str, Any] = {
        metric: {end: int(getattr(metrics[metric], end)[i]) for end in ("value", "low", "high")}
        for metric in METRICS
    }
    shares = {resource: round(float(share[i]), 4) for resource, share in utilization.items()}
    summary["utilization"] = shares or None
    summary["over"] = [resource for resource, share in utilization.items() if share[i] > 1]
    return summary


def _unsupported(identifier: object, stage: str, reason: str) -> dict[str, Any]:
    return {
        "id": identifier,
        "supported": False,
        "stage": stage,
        **dict.fromkeys(METRICS),
        "utilization": None,
        "over": [],
        "notes": [reason],
    }


def estimate_documents(
    documents: Iterable[tuple[str, object]],
    stage: str = "csynth",
    coefficients: Coefficients | None = None,
) -> list[dict[str, Any]]:
    """Estimate parsed lines of a records file; a record with a wrong field is answered with the reason.

    Args:
        documents: (where, parsed value), as `load_documents` reads them; the first of equal source and id counts.
        stage, coefficients: as in `estimate_records`.

    Raises:
        ModelError: a line is not JSON or of another schema.
    """
    results: list[dict[str, Any]] = []
    records: dict[int, Record] = {}
    seen: set[tuple[object, object]] = set()
    for where, document in documents:
        document = in_schema_2(document, where=where)
        key = (document.get("source"), document.get("id"))
        if key in seen:
            continue
        seen.add(key)
        try:
            records[len(results)] = read_record(document, where=where)
            results.append({})
        except ModelError as error:
            results.append(_unsupported(document.get("id"), stage, str(error)))
    answers = estimate_records(list(records.values()), stage, coefficients)
    for i, answer in zip(records, answers, strict=True):
        results[i] = answer
    return results


def estimate_records(
    records: Sequence[Record],
    stage: str = "csynth",
    coefficients: Coefficients | None = None,
) -> list[dict[str, Any]]:
    """Estimate each record's network; stage fields are ignored as inputs.

    Args:
        records: typed synthesis records.
        stage: "csynth", "vsynth" or "implemented".
        coefficients: those shipped with the package by default.

    Returns:
        Per record, in order: {"id", "supported", "stage", one {"value", "low", "high"} per metric,
        "utilization", "over", "notes"} (see `summarize`).  A network that no law covers has "supported": false, null metrics, and says why.
    """
    results: list[dict[str, Any]] = []
    kept: list[int] = []
    lowered: list[Lowered] = []
    for i, record in enumerate(records):
        results.append(_unsupported(record.id, stage, ""))
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
            result.update(summarize(metrics.metrics, metrics.utilization, position))
            result["notes"] = [*lowered[row].notes, *metrics.notes[position]]
    return results
