"""What the stages of a study find: frozen, typed, versioned values that read and write JSON.

Every stage of a study (`codesign.pipeline`) leaves one `Result` in the study folder; later stages, the
report and other verbs read it back as the same type.  A figure says where it comes from by one word,
its `Evidence`; *stage* always means a stage of the study, *tool stage* the point in a vendor's flow
(csynth, vsynth, implemented) that a cost law speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from codesign.config import Strict
from codesign.errors import StudyError

#: Version of the results in a study folder.
SCHEMA: Literal[2] = 2


class Evidence(StrEnum):
    """Where a figure comes from, from the weakest to the strongest."""

    PREDICTED = "predicted"
    PREDICTED_WITH_WEIGHTS = "predicted_with_weights"
    EMULATED = "emulated"
    SYNTHESIZED = "synthesized"
    MEASURED = "measured"

    @property
    def label(self) -> str:
        """As people read it."""
        return self.value.replace("_", " ")


class Interval(Strict):
    """A predicted figure with the ends of its 90 % interval."""

    value: float
    low: float
    high: float


#: Predicted figures by metric ("lut", "latency_ns").
Costs = dict[str, Interval]


class Result(Strict):
    """What one stage found.

    Attributes:
        schema_: version of the format.
        depends_on: digest of everything that the result depends on; the stage is done again where
            that differs.
        seconds: wall-clock time of the stage.
    """

    KIND: ClassVar[str]
    schema_: Literal[2] = Field(default=SCHEMA, alias="schema")
    depends_on: str = ""
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return the result as JSON text."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False)


Kind = TypeVar("Kind", bound=Result)


def read_result(kind: type[Kind], text: str, *, where: str) -> Kind:
    """Read a result from JSON text.

    Args:
        kind: the type expected.
        text: JSON.
        where: file that it came from, for the message.

    Raises:
        StudyError: damaged, or of another schema; only this stage need be done again.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StudyError(
            f"{where} is damaged or of another version ({key}: {first['msg']}); delete this one file, and the next"
            f" run does the stage {kind.KIND!r} again and keeps all others"
        ) from error


class Results:
    """Results by the name of their stage, in the order in which the stages ran."""

    def __init__(self, known: Mapping[str, Result]) -> None:
        self._known = dict(known)

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Return all results of a kind, in order."""
        return tuple(r for r in self._known.values() if isinstance(r, kind))

    def last(self, kind: type[Kind]) -> Kind | None:
        """Return the latest result of a kind, None where there is none yet."""
        return next(reversed(self.of(kind)), None)

    def require(self, kind: type[Kind], *, where: str = "this study") -> Kind:
        """Return the latest result of a kind.

        Raises:
            StudyError: its stage has not run.
        """
        found = self.last(kind)
        if found is None:
            raise StudyError(
                f"{where} has not reached its stage {kind.KIND!r} yet; run `codesign run` with its study file"
            )
        return found

    def items(self) -> Iterator[tuple[str, Result]]:
        """Yield stage names and results."""
        yield from self._known.items()

    def __contains__(self, name: str) -> bool:
        return name in self._known


# ---- prepare -----------------------------------------------------------------------------------
class ScoreKind(Strict):
    """The quantity by which designs are judged; the one home of its name.

    Scores of designs are kept turned so that larger is better (the negative of one that is better the
    smaller); `shown` turns them back.

    Attributes:
        name: as people read it.
        unit: "" for a share in 0..1.
        higher_is_better: its direction.
    """

    name: str = "score"
    unit: str = ""
    higher_is_better: bool = True

    def shown(self, score: float) -> float:
        """Return a kept score as people read it."""
        return score if self.higher_is_better else abs(score)

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


class HeadScore(Strict):
    """What one head of a network is worth on the test rows, as people read it, with one standard error."""

    kind: ScoreKind
    score: float
    error: float


class SpaceFacts(Strict):
    """A search space as the study found it; `feasible_share` is that of random pairs, 0..1."""

    name: str
    log10_size: float
    feasible_share: float


class BudgetFacts(Strict):
    """A budget on the study's device; `tool_stage` is the one whose figures it limits."""

    name: str
    limits: dict[str, float]
    tool_stage: str
    source: str


class Preparation(Result):
    """Stage "prepare": what is searched, for what, on which data.

    Attributes:
        score: what designs are chosen by, on validation rows.
        test_score: what the test rows are judged by: the same, or, where the task knows what events they
            are, how well these are told from the background.
        task: `TaskData.summary()`.
        scaling: `InputScaling.to_json()`.
        device: `Device.model_dump()`.
        coefficients: where the coefficients of the cost laws come from.
    """

    KIND = "prepare"
    score: ScoreKind = ScoreKind()
    test_score: ScoreKind = ScoreKind()
    task: dict[str, Any]
    scaling: dict[str, Any]
    space: SpaceFacts
    device: dict[str, Any]
    budget: BudgetFacts
    coefficients: str


# ---- networks trained elsewhere ------------------------------------------------------------------
class ProofFacts(Strict):
    """An imported network against its own framework, on vectors of one kind.

    Attributes:
        vectors: how many.
        outputs: values compared.
        differing: of them, those half a last bit apart or more.
        largest: greatest difference, in the framework's own values.
        largest_steps: the same, in last bits of our outputs.
    """

    vectors: int
    outputs: int
    differing: int
    largest: float
    largest_steps: float


class ImportedNetwork(Result):
    """A network that was trained elsewhere: where it came from, and how it compares with its framework.

    Attributes:
        source: file name.
        sha256: of the file.
        framework: what ran the original.
        network_digest: of the network here.
        notes: what could not be kept exactly.
        proof: by kind of vectors: "random", "normal", "corners", "given"; "answers": the given ones against given
            outputs, which no framework ran for.
    """

    KIND = "imported"
    source: str
    sha256: str
    framework: str
    network_digest: str
    notes: list[str]
    proof: dict[str, ProofFacts]

    @property
    def verdict(self) -> str:
        """Say in one sentence how the network here compares with the original."""
        n = sum(p.outputs for p in self.proof.values())
        differing = sum(p.differing for p in self.proof.values())
        largest = max((p.largest for p in self.proof.values()), default=0.0)
        if differing == 0 and largest == 0.0:
            return f"{n:,} output words equal those of {self.framework}, word for word"
        steps = max((p.largest_steps for p in self.proof.values()), default=0.0)
        return (
            f"{differing:,} of {n:,} outputs differ from {self.framework}'s by half a last bit or more;"
            f" the largest difference is {largest:.6g} ({steps:.3g} last bits)"
        )


# ---- rounds ------------------------------------------------------------------------------------
class Labels(Result):
    """Stage "label": candidates trained in this round, and their scores on the validation rows.

    Attributes:
        costs: what each trained network costs, by name, where widths are learned: then that is an outcome, too.
    """

    KIND = "label"
    genomes: list[list[int]]
    scores: list[float]
    costs: list[dict[str, float]] = Field(default_factory=list)


class HeldOut(Strict):
    """Labels that the predictor never saw, and what it says of them."""

    label: list[float]
    mean: list[float]
    std: list[float]


class Fit(Result):
    """Stage "fit": the score predictor of this round.

    Attributes:
        method: registered name.
        why: why this method, one sentence.
        n_train, n_held_out: labels.
        tau, tau_parameters: Kendall's tau on held-out labels, of the predictor and of the number of
            parameters.
        coverage: share of held-out labels in the 90 % interval.
        held_out: the labels themselves.
    """

    KIND = "fit"
    method: str
    why: str
    n_train: int
    n_held_out: int
    tau: float
    tau_parameters: float
    coverage: float
    held_out: HeldOut


class Proposal(Strict):
    """Genomes that one weight-sharing method proposes."""

    seconds: float
    genomes: list[list[int]]


class Sharing(Result):
    """Stage "share": what weight sharing proposes for the first generation, by method."""

    KIND = "share"
    proposals: dict[str, Proposal]

    @property
    def genomes(self) -> list[list[int]]:
        """All proposals, in the order of the methods."""
        return [row for proposal in self.proposals.values() for row in proposal.genomes]


#: How a design is realised; see `codesign.ir.HardwareConfig.flow`.
Flow = str


class FrontPoint(Strict):
    """A design on the predicted front; all figures are predicted.

    Attributes:
        layers: its nodes, spelled out for people.
    """

    digest: str
    genome: list[int]
    layers: list[str]
    flow: Flow
    io_type: str
    score: float
    score_std: float
    clock_mhz: float
    latency_cycles: float
    latency_ns: float
    lut: float
    ff: float
    dsp: float
    bram_18k: float
    utilization: float


class Search(Result):
    """Stage "search": the Pareto archive of one round.

    Attributes:
        n_labels: labels behind its predictor.
        n_evaluations, n_feasible: pairs scored, and those that fit the budget.
        front_genomes: the archive.
        to_label: genomes whose training would improve the front most; none in the last round.
        points: the front described, least error first; in the last round only.
    """

    KIND = "search"
    n_labels: int
    n_evaluations: int
    n_feasible: int
    front_genomes: list[list[int]]
    to_label: list[list[int]]
    points: list[FrontPoint]


# ---- finalists ---------------------------------------------------------------------------------
class PredictedScore(Strict):
    """A predicted score and its standard deviation."""

    mean: float
    std: float


class NodeFacts(Strict):
    """One node of a trained network, with its share of the predicted cost."""

    name: str
    layer: str
    inputs: list[str]
    width: int
    bits: str
    format: str
    weights: str
    pruned: str
    strategy: str
    reuse_factor: str
    lut: float
    latency_cycles: float


class JudgedScore(Strict):
    """A score with its statistical error.

    Attributes:
        value: the score.
        standard_error: one standard deviation over the rows that it was measured on.
    """

    value: float
    standard_error: float


class ValidatedScore(JudgedScore):
    """A score on validation rows, the mean over the splits.

    Attributes:
        splits: score per split.
        replicates: the score on resamplings of the rows, the same resamplings for every design of a
            study: the spread of a difference of two is the error of the difference of their designs.
    """

    splits: list[float]
    replicates: list[float]

    def error_of_difference(self, other: ValidatedScore, training_noise: float = 0.0) -> float:
        """Return the standard error of the difference to another score on the same rows.

        Args:
            other: the other score; what the rows have in common cancels.
            training_noise: standard deviation of one training's score about its design's
                (`codesign.stages.statistics.training_noise`).

        Returns:
            The greater of what the rows and what the trainings explain.
        """
        rows = float(np.std(np.subtract(self.replicates, other.replicates), ddof=1))
        return max(rows, training_noise * float(np.sqrt(2.0 / len(self.splits))))


class ClockFigures(Strict):
    """What a trained RTL design takes when it is cut for one clock; predicted with weights."""

    clock_mhz: float
    latency_cycles: float
    latency_ns: float
    register_bits: float


class TrainedDesign(Result):
    """A design trained to the end; lies beside its weights.

    Attributes:
        digest: of the candidate.
        network_digest: of the trained network.
        candidate: `Candidate.to_json()`.
        genome: that decodes to it.
        predicted_score: before training; mean and standard deviation.
        validation: score on validation rows.
        estimated: prediction and validation combined.
        test: score of the network that is kept, on test rows; never chosen by.
        heads: every head on the test rows.
        predicted, predicted_with_weights: cost before and after training.
        clocks: at every clock of the space; plain RTL only.
        fits: the budget holds, weights known.
        worst_excess: greatest relative excess over a limit, at most 0 where it fits.
        nodes: layer by layer.
        notes: what the predicted costs rest on.
    """

    KIND = "design"
    digest: str
    network_digest: str
    candidate: dict[str, Any]
    genome: list[int]
    flow: Flow
    clock_mhz: float
    predicted_score: PredictedScore
    validation: ValidatedScore
    estimated: JudgedScore
    test: JudgedScore
    heads: dict[str, HeadScore] = Field(default_factory=dict)
    predicted: Costs
    predicted_with_weights: Costs
    clocks: list[ClockFigures]
    fits: bool
    worst_excess: float
    nodes: list[NodeFacts]
    notes: list[str]


class Baseline(Strict):
    """A trivial answer to the task, on the same rows.

    Attributes:
        name: "constant" or "linear".
        description: what answers.
        validation, test: its scores.
    """

    name: str
    description: str
    validation: ValidatedScore
    test: JudgedScore


class Training(Result):
    """Stage "train": which designs were trained, and what trivial answers reach on the same rows.

    Attributes:
        finalists: digests of the trained designs, the cheapest first.
        baselines: the trivial answers.
    """

    KIND = "train"
    finalists: list[str]
    baselines: list[Baseline]


class Synthesized(Result):
    """Cells that an open synthesis tool maps a design's RTL to; lies beside its weights.

    Attributes:
        network_digest: of the network.
        tool: its name.
        predicted: what this very tool stage was expected to say.
    """

    KIND = "synthesized"
    network_digest: str
    tool: str
    lut: float
    ff: float
    dsp: float
    bram_18k: float
    predicted: Costs


class Synthesis(Result):
    """Stage "synthesize": which designs' RTL was synthesized, and why others were not.

    Attributes:
        designs: digests.
        failed: reason by digest.
    """

    KIND = "synthesize"
    designs: list[str]
    failed: dict[str, str]


class Choice(Result):
    """Stage "choose": the winner, and why.

    Attributes:
        winner: its digest.
        reason: why it wins.
        against_trivial: how it compares with trivial answers.
        steadiness: how sure the choice is.
    """

    KIND = "choose"
    winner: str
    reason: str
    against_trivial: str
    steadiness: str


# ---- export ------------------------------------------------------------------------------------
class ComparisonFacts(Strict):
    """One implementation against the integer reference; `mismatches` is None where it did not run."""

    mismatches: int | None
    vectors: int
    status: str


class CurveFacts(Strict):
    """A curve of one head on the test rows; `kind` is roc, histogram, response, resolution or turn_on."""

    head: str
    kind: str
    label: str
    x_title: str
    y_title: str
    x: list[float]
    y: list[float]
    error: list[float]


class TriggerFacts(Strict):
    """A threshold on the first output: it fires where the output's word is at or above it.

    Attributes:
        threshold_word: in units of the output's last bit.
        fraction_bits: of the output.
        rate_khz: of the background that fires on the test rows.
        input_rate_khz: that the background stands for.
        efficiency: share of each signal that fires.
    """

    threshold_word: int
    fraction_bits: int
    rate_khz: float
    input_rate_khz: float
    efficiency: dict[str, float]


class Exported(Result):
    """A design exported and proved; lies beside its weights.

    Attributes:
        network_digest: of the network.
        folder: inside the study folder.
        verdict: of the certificate.
        comparisons: by implementation.
        input_audit: of the certificate.
        emulated: figures of the RTL simulated cycle by cycle, by metric; empty without RTL.
        emulated_score: score of the emulated words on test rows.
        skipped: reason per artefact that could not be made.
        curves: what the network answers on the test rows, for the report.
        trigger: its threshold, where the test rows' events are judged at a rate.
    """

    KIND = "exported"
    network_digest: str
    folder: str
    verdict: str
    comparisons: dict[str, ComparisonFacts]
    input_audit: dict[str, Any]
    emulated: dict[str, float]
    emulated_score: float | None
    skipped: dict[str, str]
    curves: list[CurveFacts] = Field(default_factory=list)
    trigger: TriggerFacts | None = None


class Export(Result):
    """Stage "export": the winner was exported."""

    KIND = "export"
    digest: str


class Page(Result):
    """Stage "report": the page was written."""

    KIND = "report"


# ---- runs of synthesis tools --------------------------------------------------------------------
class ToolStageFacts(Strict):
    """What one tool stage reported, beside what was predicted for it."""

    obtained: dict[str, int | None]
    predicted: dict[str, dict[str, int]]


class ToolRun(Strict):
    """One run of a synthesis tool on an export."""

    name: str
    status: str
    message: str
    tool: str | None
    tool_stages: dict[str, ToolStageFacts]


class ToolRuns(Result):
    """What `codesign synthesize` found; no stage of a run, but kept beside them."""

    KIND = "tool_runs"
    runs: list[ToolRun]


#: Every kind of result, in the order of a run.
KINDS: tuple[type[Result], ...] = (
    ImportedNetwork,
    Preparation,
    Labels,
    Fit,
    Sharing,
    Search,
    Training,
    Synthesis,
    Choice,
    Export,
    Page,
    ToolRuns,
)


def kind_of(name: str) -> tuple[type[Result], int] | None:
    """Return the type and round (0: no rounds) of the result called "search_2"; None for another name."""
    head, _, tail = name.rpartition("_")
    kind, number = (head, int(tail)) if tail.isdigit() else (name, 0)
    return next(((known, number) for known in KINDS if kind == known.KIND), None)
