"""The front of a study: every design it knows, predicted or trained, each figure from its best source.

One figure, one source, one label: whoever shows a design's cost or score asks here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from codesign.config import Strict
from codesign.errors import StudyError
from codesign.results import (
    Choice,
    Evidence,
    Exported,
    FrontPoint,
    NodeFacts,
    Preparation,
    ScoreKind,
    Search,
    Synthesized,
    TrainedDesign,
    Training,
)
from codesign.study import Study

#: Metrics of a design, in the order in which tables show them.
METRICS = ("latency_cycles", "latency_ns", "interval_cycles", "lut", "ff", "dsp", "bram_18k")


class Figure(Strict):
    """One figure of a design, and where it comes from.

    Attributes:
        value: the figure.
        low, high: ends of the 90 % interval of a predicted one.
        evidence: where it comes from.
    """

    value: float
    low: float | None = None
    high: float | None = None
    evidence: Evidence


class Design(Strict):
    """A design of a study.

    Attributes:
        digest: of the candidate.
        state: "trained" or "predicted".
        is_winner: the study's winner.
        is_finalist: trained by the study itself, not on demand.
        flow, io_type, clock_mhz: how it is realised.
        score, score_error: predicted, or estimated from prediction and validation; one standard error.
        test_score: on test rows, of a trained one; never chosen by.
        higher_is_better: direction of the score.
        figures: by metric.
        layers: its nodes, spelled out.
        fits: the budget holds; a predicted point of the front always does.
        is_efficient: no design of the same state is at least as good in score, LUT and latency, and better
            in one.
    """

    digest: str
    state: Literal["trained", "predicted"]
    is_winner: bool = False
    is_finalist: bool = False
    flow: str
    io_type: str
    clock_mhz: float
    score: float
    score_error: float
    test_score: float | None = None
    higher_is_better: bool = True
    figures: dict[str, Figure]
    layers: list[str] = []
    fits: bool = True
    is_efficient: bool = True

    @property
    def merit(self) -> float:
        """The score turned so that larger is better."""
        return self.score if self.higher_is_better else -self.score

    def is_as_good_as(self, score: float) -> bool:
        """Say whether the design reaches a score, in whichever direction that is."""
        return self.score >= score if self.higher_is_better else self.score <= score


def figures_of(
    design: TrainedDesign, synthesized: Synthesized | None, exported: Exported | None
) -> dict[str, dict[Evidence, Figure]]:
    """Return everything that is known of a trained design's cost: by metric, from the weakest source to the strongest."""
    known: dict[str, dict[Evidence, Figure]] = {name: {} for name in METRICS}
    for evidence, costs in (
        (Evidence.PREDICTED, design.predicted),
        (Evidence.PREDICTED_WITH_WEIGHTS, design.predicted_with_weights),
    ):
        for name, cost in costs.items():
            known[name][evidence] = Figure(**cost.model_dump(), evidence=evidence)
    for name, value in (exported.emulated if exported else {}).items():
        known[name][Evidence.EMULATED] = Figure(value=value, evidence=Evidence.EMULATED)
    if synthesized is not None:
        for name in ("lut", "ff", "dsp", "bram_18k"):
            known[name][Evidence.SYNTHESIZED] = Figure(
                value=getattr(synthesized, name), evidence=Evidence.SYNTHESIZED
            )
    return known


def designs_of(study: Study) -> list[Design]:
    """Return every design that a study knows, trained ones first, then by LUT.

    Raises:
        StudyError: the study has not searched yet.
    """
    results = study.results()
    points = {
        point.digest: point for point in results.require(Search, where=str(study.folder)).points
    }
    choice, training = results.last(Choice), results.last(Training)
    preparation = results.require(Preparation, where=str(study.folder))
    kind = preparation.score
    finalists = set(training.finalists) if training else set()
    found = []
    for digest, design in study.designs().items():
        known = figures_of(design, study.synthesized(design), study.exported(design))
        found.append(
            Design(
                digest=digest,
                state="trained",
                is_winner=choice is not None and digest == choice.winner,
                is_finalist=digest in finalists,
                flow=design.flow,
                io_type=str(design.candidate.get("hardware", {}).get("io_type", "io_parallel")),
                clock_mhz=design.clock_mhz,
                score=kind.shown(design.estimated.value),
                higher_is_better=kind.higher_is_better,
                score_error=design.estimated.standard_error,
                test_score=preparation.test_score.shown(design.test.value),
                figures={name: list(f.values())[-1] for name, f in known.items() if f},
                layers=[_spell(node) for node in design.nodes],
                fits=design.fits,
            )
        )
        points.pop(digest, None)
    found = [
        d.model_copy(update={"is_efficient": not any(_dominates(o, d) for o in found)})
        for d in found
    ]
    found += [_predicted(point, kind) for point in points.values()]
    return sorted(found, key=lambda d: (d.state == "predicted", d.figures["lut"].value, d.digest))


def _spell(node: NodeFacts) -> str:
    facts = [f"{node.width} x {node.format}"]
    facts += [] if node.weights == "-" else [f"weights {node.weights}, {node.pruned} pruned"]
    facts += [] if node.lut < 1 else [f"about {node.lut:,.0f} LUT"]
    return f"{node.name}: {', '.join(facts)}"


def _predicted(point: FrontPoint, kind: ScoreKind) -> Design:
    facts = point.model_dump()
    return Design(
        digest=point.digest,
        state="predicted",
        flow=point.flow,
        io_type=point.io_type,
        clock_mhz=point.clock_mhz,
        score=kind.shown(point.score),
        higher_is_better=kind.higher_is_better,
        score_error=point.score_std,
        layers=point.layers,
        figures={
            name: Figure(value=facts[name], evidence=Evidence.PREDICTED)
            for name in METRICS
            if name in facts
        },
    )


def _dominates(a: Design, b: Design) -> bool:
    """Say whether a is at least as good as b in score, LUT and latency, and better in one."""

    def values(d: Design) -> tuple[float, float, float]:
        return (-d.merit, d.figures["lut"].value, d.figures["latency_ns"].value)

    pairs = list(zip(values(a), values(b), strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


class Limits(Strict):
    """What a design must keep to; None: no limit.

    Attributes:
        at_most_lut, at_most_ns: on the best figure that is known.
        at_least_score: on predicted or estimated score.
        flow: how it is realised.
    """

    at_most_lut: float | None = None
    at_most_ns: float | None = None
    at_least_score: float | None = None
    flow: str | None = None

    def hold(self, design: Design) -> bool:
        """Say whether a design keeps to all of them."""
        return (
            (self.at_most_lut is None or design.figures["lut"].value <= self.at_most_lut)
            and (self.at_most_ns is None or design.figures["latency_ns"].value <= self.at_most_ns)
            and (self.at_least_score is None or design.is_as_good_as(self.at_least_score))
            and (self.flow is None or design.flow == self.flow)
        )


def pick(designs: Iterable[Design], limits: Limits, *, where: str) -> Design:
    """Choose the design to export: the best score below a cost, or the cheapest above a score.

    Trained designs go before predicted ones, those that fit the budget before others.

    Raises:
        StudyError: nothing keeps to the limits; the message says how near the front comes.
    """
    known = list(designs)
    holding = [d for d in known if limits.hold(d)]
    if not holding:
        nearest_lut = min((d.figures["lut"].value for d in known), default=float("nan"))
        best = max(known, key=lambda d: d.merit).score if known else float("nan")
        raise StudyError(
            f"{where} knows no design within {limits.model_dump(exclude_none=True)}; its cheapest takes {nearest_lut:,.0f} LUT,"
            f" its best scores {best:.4f}; relax a limit, or search on with more evaluations"
        )
    trained = [d for d in holding if d.state == "trained" and d.fits]
    chosen = trained or [d for d in holding if d.fits] or holding
    if limits.at_least_score is not None:
        return min(chosen, key=lambda d: (d.figures["lut"].value, d.digest))
    return max(chosen, key=lambda d: (d.merit, d.digest))
