"""The stages of a study, in order: prepare, rounds of (label, fit, search), train, export, report.

Each stage reads what earlier ones left in the study folder and skips itself when it is done, so a
killed run resumes and ends in the same result.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.batch import concatenate as join_batches
from codesign.encoding.population import encode_population
from codesign.errors import CodesignError, ConfigError, unknown_name
from codesign.export.rtl import solve_network
from codesign.files import write_atomically
from codesign.hardware.device import Budget, Device, load_budget, load_device
from codesign.hardware.scorer import HardwareScorer, HardwareScores, limits, violations
from codesign.ir import Candidate, FixedPoint, Population, QuantizedNetwork
from codesign.joint import JointProblem, check_budget, limit_problem, make_reward
from codesign.layers import LAYERS, infer_formats, run_words
from codesign.predictor.active import select_informative
from codesign.predictor.base import Predictor, load_predictor, save_predictor
from codesign.predictor.metrics import coverage, kendall_tau
from codesign.predictor.pretrained import encode_entries, load_pretrained
from codesign.predictor.train import fit_predictor
from codesign.processes import worker_pool
from codesign.reporter import Reporter, SilentReporter
from codesign.search.archive import Archive
from codesign.search.loop import Parallel, run_search
from codesign.search.problem import Problem
from codesign.search.store import EvaluationStore
from codesign.search.strategies.base import StrategySettings, make_strategy
from codesign.search.weight_sharing import SharedSpace, propose, share
from codesign.space import (
    SearchSpace,
    candidates_from_population,
    load_space,
    population_from_candidates,
)
from codesign.study import LabelSection, Study
from codesign.synthesis.estimates import open_coefficients
from codesign.tasks import InputScaling, TaskData, fit_scaling, load_task
from codesign.training.benchmark import load_benchmark, split_offset
from codesign.training.labels import label_candidates, task_digest
from codesign.training.options import TaskArrays, TrainingOptions, architecture_digest
from codesign.training.store import LabelStore
from codesign.training.train import even_chunk_size, train_population
from hw_models.types import Estimate
from hw_models.units import cycles_to_ns, period_to_mhz

STAGES: Final = ("prepare", "search", "train", "export", "report")
#: The benchmark id of the bundled jets, for which labels ship.
BUNDLED_BENCHMARK: Final = "codesign-jets-v1"
#: Training rows of the bundled jets, of which 2,000 validate.
BUNDLED_ROWS: Final = 16_000
#: Networks trained together at most: larger groups amortise the cost of a step (docs/training.md).
MAX_CHUNK: Final = 384
#: Keys of the search section that decide what a genome is worth.
_SCORING: Final = {"objectives", "filter", "accuracy_of", "accuracy_confidence", "hardware_of"}
#: Pairs scored at once: few enough that two workers share a batch, enough for arrays to pay.
EVALUATION_CHUNK: Final = 200
#: Predicted metrics kept for every reported candidate.
_METRICS: Final = (
    "latency_cycles",
    "latency_ns",
    "interval_cycles",
    "lut",
    "ff",
    "dsp",
    "bram_18k",
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all stages of a study share, built from its configuration.

    `coefficients_origin` says where the cost laws' coefficients come from: the user's own calibration
    (`codesign calibrate`) where there is one, else those that ship.
    """

    study: Study
    task: TaskData
    scaling: InputScaling
    space: SearchSpace
    device: Device
    budget: Budget
    scorer: HardwareScorer
    coefficients_origin: str


def open_setting(study: Study) -> Setting:
    """Load task, space, device and budget of a study.

    Raises:
        CodesignError: one of them is missing or wrong; the message names it.
    """
    config = study.config
    task = load_task(config.task.source, config.task.options)
    if len(task.input_shape) != 1:
        raise ConfigError(
            f"task {task.name!r} has inputs of shape {task.input_shape}; this version searches networks on flat"
            " feature vectors; choose a task with one axis"
        )
    device = load_device(config.device)
    coefficients, origin = open_coefficients(None)
    return Setting(
        study=study,
        task=task,
        scaling=fit_scaling(task),
        space=load_space(config.space, n_inputs=task.n_features, n_outputs=task.n_classes),
        device=device,
        budget=load_budget(config.budget),
        scorer=HardwareScorer(device=device, coefficients=coefficients),
        coefficients_origin=origin,
    )


def run_study(study: Study, *, until: str = "report", reporter: Reporter | None = None) -> None:
    """Run a study up to and including stage `until`; stages already done are skipped.

    Raises:
        CodesignError: whatever a stage refuses; the study folder stays valid and resumes.
    """
    if until not in STAGES:
        raise ConfigError(unknown_name("stage", until, STAGES))
    shown = reporter or SilentReporter()
    setting = open_setting(study)
    steps: dict[str, Callable[[Setting, Reporter], None]] = {
        "prepare": _prepare,
        "search": _search,
        "train": _train,
        "export": _export,
        "report": _report,
    }
    for name in STAGES[: STAGES.index(until) + 1]:
        steps[name](setting, shown)


# ---- prepare ---------------------------------------------------------------------------------------
def _prepare(setting: Setting, reporter: Reporter) -> None:
    study = setting.study
    if "prepare" in study.progress():
        return
    started_s = time.monotonic()
    share = check_budget(setting.space, setting.scorer, setting.budget, seed=study.config.seed)
    _check_search(setting)
    for check in setting.task.checks:
        if check.outcome == "noted":
            reporter.message(f"data: {check.detail}")
    reporter.message(
        f"task {setting.task.benchmark}: {len(setting.task.y_train)} training, {len(setting.task.y_test)} test events;"
        f" space {setting.space.name}: 10^{setting.space.log10_size:.1f} pairs, {100 * share:.2f} % of random ones fit"
        f" {setting.budget.name} on {setting.device.name}"
    )
    study.record(
        "prepare",
        {
            "seconds": time.monotonic() - started_s,
            "task": setting.task.summary(),
            "scaling": setting.scaling.to_json(),
            "space": {
                "name": setting.space.name,
                "log10_size": setting.space.log10_size,
                "feasible_share": share,
            },
            "device": setting.device.model_dump(),
            "budget": {
                "name": setting.budget.name,
                "limits": limits(setting.budget, setting.device),
                "stage": setting.scorer.stage,
                "source": setting.budget.source,
            },
            "coefficients": setting.coefficients_origin,
        },
    )


# ---- choices -------------------------------------------------------------------------------------
def choose_spread(
    population: Population, n: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose n candidates spread evenly over the logarithm of their bit operations.

    Args:
        population: candidates to choose from.
        n: how many.
        generator: source of randomness.

    Returns:
        int64[min(n, n_candidates)] distinct indices, in random order.
    """
    columns = population.columns
    operations = columns["n_in"] * columns["n_out"] * (1 - columns["pruned_fraction"])
    operations = operations * columns["weight_bits"] * columns["input_bits"]
    cost = np.log2(
        1 + np.bincount(population.candidate, operations, minlength=population.n_candidates)
    )
    order = np.argsort(cost + 1e-6 * generator.random(cost.size))
    targets = np.linspace(cost[order[0]], cost[order[-1]], n)
    chosen: list[int] = []
    taken = np.zeros(cost.size, dtype=bool)
    for target in targets:
        distance = np.where(taken, np.inf, np.abs(cost - target))
        pick = int(np.argmin(distance))
        if not taken[pick]:
            taken[pick] = True
            chosen.append(pick)
    return generator.permutation(np.array(chosen, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class PredictedAccuracy:
    """A fitted predictor as the search's accuracy model; goes to worker processes."""

    predictor: Predictor

    def __call__(self, population: Population) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        predicted = self.predictor.predict(encode_population(population))
        return predicted.mean, np.nan_to_num(predicted.std, nan=0.0)


def unknown_accuracy(
    population: Population,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Answer 0 for every candidate: for questions that accuracy has no part in."""
    return np.zeros(population.n_candidates), np.zeros(population.n_candidates)


def _problem(setting: Setting, accuracy: Callable[[Population], tuple[Any, Any]]) -> Problem:
    """Build what the search optimises: the joint problem, behind cheap limits where there are any."""
    search = setting.study.config.search
    problem = JointProblem(
        space=setting.space,
        scorer=setting.scorer,
        budget=setting.budget,
        accuracy=accuracy,
        objectives=search.objectives,
        pessimism=1.0 if search.accuracy_of == "pessimistic" else 0.0,
        accuracy_confidence=search.accuracy_confidence,
        hardware_confidence=0.5 if search.hardware_of == "mean" else None,
    )
    if search.filter is None:
        return problem
    return limit_problem(problem, search.filter, setting.space, setting.scorer)


def _check_search(setting: Setting) -> None:
    """Refuse a strategy, reward or filter that does not fit the study now, not after hours of labels.

    Raises:
        DesignError: which one, and why.
    """
    search = setting.study.config.search
    problem = _problem(setting, unknown_accuracy)
    settings = _strategy_settings(setting, None)
    make_strategy(search.strategy, problem, seed=0, settings=settings)
    if search.weight_sharing is not None:
        _share(setting)
    scored = problem.evaluate(setting.space.sample(1, np.random.default_rng(0)))
    if settings.reward is not None:
        settings.reward(
            replace(scored, objectives=np.ones_like(scored.objectives)), problem.objective_names
        )


def _strategy_settings(setting: Setting, initial: NDArray[np.int64] | None) -> StrategySettings:
    search = setting.study.config.search
    return StrategySettings(
        population_size=search.population_size,
        reward=None if search.reward is None else make_reward(search.reward),
        initial=initial,
    )


def _front_points(setting: Setting, archive: Archive) -> list[dict[str, Any]]:
    """Describe a Pareto archive as JSON values, least error first."""
    candidates = decode_candidates(setting, archive.genomes)
    points = []
    for i in np.argsort(archive.objectives[:, 0], kind="stable"):
        values = {name: float(v[i]) for name, v in archive.metrics.items()}
        points.append(
            {
                "digest": candidates[i].digest,
                "genome": archive.genomes[i].tolist(),
                "flow": candidates[i].hardware.flow,
                "io_type": candidates[i].hardware.io_type,
                "clock_mhz": float(period_to_mhz(values["clock_period_ns"])),
                **values,
            }
        )
    return points


def decode_candidates(setting: Setting, genomes: NDArray[np.int64]) -> list[Candidate]:
    """Spell genomes out as candidates for the study's device."""
    return candidates_from_population(setting.space.decode(genomes), part=setting.device.part)


#: Finalists have a predicted accuracy within this of the best one on the front.
NEAR_BEST: Final = 0.015


def choose_finalists(points: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Choose front points to train to the end: spread over cost, half of them from each flow.

    Args:
        points: the front, as `_front_points` describes it.
        n: how many at most.

    Returns:
        Points whose predicted accuracy is within `NEAR_BEST` of the best, the cheapest first.
    """
    best = max(p["accuracy"] for p in points)
    close = [p for p in points if p["accuracy"] >= best - NEAR_BEST]
    rtl = [p for p in close if p["flow"] == "rtl"]
    hls = [p for p in close if p["flow"] == "hls"]
    n_rtl = min(len(rtl), max(n - len(hls), (n + 1) // 2))
    return sorted(_spread(rtl, n_rtl) + _spread(hls, n - n_rtl), key=lambda p: float(p["lut"]))


def _spread(points: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Choose the most accurate point of each of n bins, even in log LUT; fill up by accuracy."""
    if n == 0 or not points:
        return []
    cost = np.log([1.0 + p["lut"] for p in points])
    edges = np.linspace(cost.min(), cost.max() + 1e-9, n + 1)
    bins = np.clip(np.searchsorted(edges, cost, side="right") - 1, 0, n - 1)
    chosen: dict[int, dict[str, Any]] = {}
    for point, index in zip(points, bins, strict=True):
        if int(index) not in chosen or point["accuracy"] > chosen[int(index)]["accuracy"]:
            chosen[int(index)] = point
    result = list(chosen.values())
    seen = {p["digest"] for p in result}
    rest = sorted((p for p in points if p["digest"] not in seen), key=lambda p: -p["accuracy"])
    return result + rest[: n - len(result)]


def choose_winner(rows: Sequence[dict[str, Any]], tolerance: float) -> tuple[dict[str, Any], str]:
    """Choose the smallest finalist among the accurate ones that fit.

    Designs whose cycles and resources can be emulated and synthesised here (plain RTL) go before
    designs whose cost stays a prediction until a vendor tool has run.

    Args:
        rows: finalists with `fits`, `estimated_accuracy` and `predicted_with_weights`.
        tolerance: how far below the best estimated accuracy a smaller design may lie.

    Returns:
        The winner, and one sentence that says why.

    Raises:
        CodesignError: no finalist fits the budget once its weights are known.
    """
    fitting = [row for row in rows if row["fits"]]
    if not fitting:
        nearest = min(rows, key=lambda row: row["worst_excess"])
        raise CodesignError(
            f"none of the {len(rows)} finalists fits the budget once its weights are known; {nearest['digest']} comes"
            f" nearest ({100 * nearest['worst_excess']:.0f} % over); raise the budget's confidence or train.n_finalists"
        )
    best = max(row["estimated_accuracy"] for row in fitting)
    close = [row for row in fitting if row["estimated_accuracy"] >= best - tolerance]
    provable = [row for row in close if row["flow"] == "rtl"]
    winner = min(provable or close, key=lambda row: row["predicted_with_weights"]["lut"]["high"])
    return winner, (
        f"Of {len(rows)} finalists {len(fitting)} fit the budget; {len(close)} of these lie within {tolerance:g} of the"
        f" best accuracy ({best:.4f}, validation and prediction combined), {len(provable)} as plain RTL, whose cost can be proved here;"
        f" {winner['digest']} is the smallest of {'those' if provable else 'them'} (upper end of its LUT interval)."
    )


def combine_accuracy(predicted: float, std: float, validation: float, n_validation: int) -> float:
    """Combine a predicted and a validated accuracy, each weighted by its inverse variance.

    The validation accuracy of n rows has the binomial variance a (1 - a) / n; at 2,000 rows that is
    one point, more than most differences between finalists.
    """
    validated_variance = max(validation * (1.0 - validation), 1e-6) / n_validation
    weight = validated_variance / (validated_variance + max(std, 1e-4) ** 2)
    return weight * predicted + (1.0 - weight) * validation


def interval_json(known: Estimate, i: int) -> dict[str, float]:
    """Return one predicted figure with its 90 % interval as JSON values."""
    return {
        "value": float(known.value[i]),
        "low": float(known.low[i]),
        "high": float(known.high[i]),
    }


def metrics_json(scores: HardwareScores, i: int) -> dict[str, dict[str, float]]:
    """Return the predicted metrics of candidate i as JSON values."""
    return {name: interval_json(scores.metrics[name], i) for name in _METRICS}


def _short_type(fmt: FixedPoint) -> str:
    return f"{'' if fmt.signed else 'u'}fixed<{fmt.bits},{fmt.integer_bits}>"


def describe_nodes(network: QuantizedNetwork, per_op: Sequence[Any]) -> list[dict[str, Any]]:
    """Describe a trained network node by node, with each node's share of the predicted cost."""
    ranges = infer_formats(network)
    population = population_from_candidates([network.candidate])
    stages = {
        node.name: int(population.stage[row])
        for row, node in enumerate(network.candidate.network.nodes)
    }
    costs: dict[int, list[Any]] = {}
    for row in per_op:
        costs.setdefault(row["stage"], []).append(row)
    result = []
    for node in network.network.nodes:
        known = ranges[node.name]
        words = network.weight_words.get(node.name)
        primitive = "matvec" if LAYERS.get(node.layer).has_multipliers else None
        shares = [
            c
            for c in costs.get(stages[node.name], [])
            if (c["primitive"] == "matvec") == (primitive == "matvec")
        ]
        priced = bool(shares) and node.layer not in ("input", "concat", "flatten")
        hardware = network.candidate.hardware
        result.append(
            {
                "name": node.name,
                "layer": node.layer,
                "inputs": list(node.inputs),
                "width": int(known.low.size),
                "bits": str(known.format.bits),
                "format": _short_type(known.format),
                "weights": "-" if words is None else _short_type(network.weight_format[node.name]),
                "pruned": f"{100 * float((words == 0).mean()):.0f} %" if words is not None else "-",
                "strategy": hardware.strategy.get(node.name, "-"),
                "reuse_factor": str(hardware.reuse_factor.get(node.name, "-")),
                "lut": sum(c["lut"] for c in shares) if priced else 0.0,
                "latency_cycles": max((c["latency_cycles"] for c in shares), default=0.0)
                if priced
                else 0.0,
            }
        )
    return result


# ---- search ----------------------------------------------------------------------------------------
def _initial_genomes(setting: Setting, n: int) -> NDArray[np.int64]:
    """Choose candidates to label first: distinct architectures that fit, spread over their size."""
    generator = np.random.default_rng([setting.study.config.seed, 1])
    genomes = setting.space.sample(max(4000, 20 * n), generator)
    population = setting.space.decode(genomes)
    fits = (violations(setting.scorer.score(population), setting.budget, setting.device) <= 0).all(
        axis=1
    )
    genomes = genomes[fits] if fits.sum() >= n else genomes
    return genomes[choose_spread(setting.space.decode(genomes), n, generator)]


def _informative_genomes(setting: Setting, archive: Archive, n: int) -> NDArray[np.int64]:
    """Choose front candidates whose training is expected to improve the front most; none twice."""
    labelled = _labelled(setting)
    if not labelled:
        return archive.genomes[np.argsort(archive.metrics["accuracy"])[-n:]]
    known = {architecture_digest(candidate.network) for _, candidate in labelled}
    scores = setting.scorer.score(
        population_from_candidates([candidate for _, candidate in labelled])
    )
    labelled_points = np.column_stack(
        [
            [label for label, _ in labelled],
            scores.metrics["lut"].value,
            scores.metrics["latency_ns"].value,
        ]
    )
    candidates = decode_candidates(setting, archive.genomes)
    keys = [architecture_digest(c.network) for c in candidates]
    fresh = np.array(
        [i for i, key in enumerate(keys) if key not in known and keys.index(key) == i],
        dtype=np.int64,
    )
    if fresh.size == 0:
        return archive.genomes[:0]
    metrics = archive.metrics
    chosen = select_informative(
        metrics["accuracy"][fresh],
        metrics["accuracy_std"][fresh],
        np.stack([metrics["lut"][fresh], metrics["latency_ns"][fresh]], axis=1),
        front=labelled_points,
        n=n,
    )
    return archive.genomes[fresh[chosen]]


def _label(setting: Setting, genomes: NDArray[np.int64], k: int, reporter: Reporter) -> None:
    """Train the labels of round k; those already in the store are not trained again."""
    study = setting.study
    options = _label_options(setting)
    with (
        reporter.stage(f"round {k}: training {len(genomes)} labels", 1.0) as stage,
        LabelStore(study.label_store) as store,
        worker_pool() as pool,
    ):
        label_candidates(
            decode_candidates(setting, genomes),
            task_arrays(setting),
            options,
            store=store,
            seeds=(study.config.seed,),
            executor=pool,
            progress=stage.update,
        )
    study.record(f"labels_{k}", {"genomes": genomes.tolist()})


def _label_options(setting: Setting) -> TrainingOptions:
    """Training options of labels."""
    return TrainingOptions(epochs=setting.study.config.labels.epochs, chunk_size=MAX_CHUNK)


def label_offset(section: LabelSection, task: TaskData) -> float:
    """Say how much own labels must be lowered to join those that ship.

    Own labels are accuracies on the 2,000 validation rows of the bundled jets, all off by nearly the
    same sampling error; the labels that ship were measured on 60,000 other jets, and say by how much
    (`split_offset`).  0 where no shipped labels take part, or the rows are others.
    """
    joins = section.n_shipped > 0 or section.start_from == "shipped"
    if not joins or task.benchmark != BUNDLED_BENCHMARK or len(task.y_train) != BUNDLED_ROWS:
        return 0.0
    return split_offset(load_benchmark())


def _labelled(setting: Setting) -> list[tuple[float, Candidate]]:
    """Return (accuracy, candidate) of every label so far, in the order of training.

    The accuracy is that on the validation rows, less `label_offset`.
    """
    study = setting.study
    progress = study.progress()
    rounds = sorted(
        int(key.removeprefix("labels_")) for key in progress if key.startswith("labels_")
    )
    genomes = [row for k in rounds for row in progress[f"labels_{k}"]["genomes"]]
    if not genomes:
        return []
    candidates = decode_candidates(setting, np.array(genomes, dtype=np.int64))
    with LabelStore(study.label_store) as store:
        known = store.lookup(
            options=_label_options(setting).digest, task=task_digest(task_arrays(setting))
        )
    seed, offset = study.config.seed, label_offset(study.config.labels, setting.task)
    return [
        (known[architecture_digest(c.network), seed].validation_accuracy - offset, c)
        for c in candidates
    ]


#: Share of the first labels that the predictor never trains on: they say how well it ranks.
HELD_OUT_SHARE: Final = 0.25


def _fit_predictor(
    setting: Setting, k: int, reporter: Reporter
) -> tuple[Predictor, dict[str, Any]]:
    """Fit the predictor of round k on all labels but the held-out ones, or load it from a killed run."""
    study = setting.study
    path = study.predictor_file(k)
    if path.exists():
        predictor, notes = load_predictor(path)
        return predictor, notes
    batch, labels, held_out = _training_labels(setting)
    with reporter.stage(f"round {k}: fitting the predictor", 1.0):
        predictor, why = _fit_method(
            study.config.labels,
            batch.take(~held_out),
            labels[~held_out],
            study.config.seed,
        )
    judged = batch.take(held_out)
    predicted = predictor.predict(judged)
    parameters = judged.extras[:, judged.extra_names.index("log2_parameters")].astype(np.float64)
    figures: dict[str, Any] = {
        "method": predictor.method,
        "why": why,
        "n_train": int((~held_out).sum()),
        "n_held_out": int(held_out.sum()),
        "tau": kendall_tau(labels[held_out], predicted.mean),
        "tau_parameters": kendall_tau(labels[held_out], parameters),
        "coverage": coverage(labels[held_out], predicted, 0.9),
        "held_out": {
            "label": labels[held_out].tolist(),
            "mean": predicted.mean.tolist(),
            "std": predicted.std.tolist(),
        },
    }
    save_predictor(predictor, path, notes=figures)
    return predictor, figures


def _training_labels(
    setting: Setting,
) -> tuple[GraphBatch, NDArray[np.float64], NDArray[np.bool_]]:
    """Collect own and shipped labels; hold out a quarter of the first own ones, else of the shipped.

    Raises:
        ConfigError: shipped labels are asked for, but the task is another one.
    """
    section = setting.study.config.labels
    batches, labels, held_out = [], [], []

    def add(batch: GraphBatch, values: NDArray[np.float64], n_first: int) -> None:
        n_held = max(4, round(HELD_OUT_SHARE * n_first)) if n_first else 0
        batches.append(batch)
        labels.append(values)
        held_out.append(np.arange(len(values)) < n_held)

    own = _labelled(setting)
    if own:
        population = population_from_candidates([candidate for _, candidate in own])
        values = np.array([label for label, _ in own])
        add(encode_population(population), values, min(section.n_initial, len(values)))
    if section.n_shipped:
        if setting.task.benchmark != BUNDLED_BENCHMARK:
            raise ConfigError(
                f"labels.n_shipped: the labels that ship are for {BUNDLED_BENCHMARK}, the task is"
                f" {setting.task.benchmark}; set it to 0 and n_initial to 96 or so"
            )
        known = {architecture_digest(candidate.network) for _, candidate in own}
        # those of the study's own space first; within a space, their order is random
        shipped = sorted(load_benchmark(), key=lambda e: e.space != setting.space.name)
        entries = [e for e in shipped[: section.n_shipped] if e.digest not in known]
        batch, values = encode_entries(entries)
        add(batch, values, 0 if section.n_initial else len(values))
    return join_batches(batches), np.concatenate(labels), np.concatenate(held_out)


def _fit_method(
    section: LabelSection, batch: GraphBatch, labels: NDArray[np.float64], seed: int
) -> tuple[Predictor, str]:
    """Fit the method asked for, or whichever is best for these labels; also say why."""
    pretrained = None
    if section.start_from == "shipped":
        pretrained = load_pretrained()
    elif section.start_from is not None:
        pretrained, _ = load_predictor(Path(section.start_from))
    choice = fit_predictor(
        batch, labels, seed=seed, method=section.predictor, pretrained=pretrained
    )
    return choice.predictor, choice.reason


def _share(setting: Setting) -> SharedSpace:
    """Set up weight sharing for a study.

    Raises:
        DesignError: its space has no plain chains of layers.
    """
    return share(setting.space, setting.scorer, setting.budget, task_arrays(setting))


def _shared_designs(setting: Setting, reporter: Reporter) -> list[list[int]] | None:
    """Return the genomes that weight sharing proposes for the first generation, once per study."""
    study, section = setting.study, setting.study.config.search.weight_sharing
    if section is None:
        return None
    done = study.progress().get("weight_sharing")
    if done is None:
        shared = _share(setting)
        found: dict[str, Any] = {}
        for method in section.methods:
            started_s = time.monotonic()
            with reporter.stage(f"weight sharing: {method}", 1.0) as stage:
                genomes = propose(
                    shared,
                    method,
                    epochs=section.epochs,
                    prices=section.prices,
                    n_designs=section.n_designs,
                    seed=study.config.seed,
                    progress=stage.update,
                )
            found[method] = {
                "seconds": time.monotonic() - started_s,
                "genomes": genomes.tolist(),
            }
            reporter.message(
                f"weight sharing: {method} proposes {len(genomes)} pairs in {found[method]['seconds']:.0f} s"
            )
        done = found
        study.record("weight_sharing", done)
    rows = [row for method in section.methods for row in done[method]["genomes"]]
    return rows or None


def _search(setting: Setting, reporter: Reporter) -> None:
    study, search = setting.study, setting.study.config.search
    if "front" in study.progress():
        return
    points: list[dict[str, Any]] = []
    for k in range(1, search.n_rounds + 1):
        done = study.progress()
        if f"round_{k}" in done:
            continue
        n_label_set = study.config.labels.n_initial
        if k == 1:
            genomes = (
                _initial_genomes(setting, n_label_set)
                if n_label_set
                else np.zeros((0, setting.space.upper.size), dtype=np.int64)
            )
        else:
            genomes = np.array(done[f"round_{k - 1}"]["to_label"], dtype=np.int64).reshape(
                -1, setting.space.upper.size
            )
        started_s = time.monotonic()
        if len(genomes):
            _label(setting, genomes, k, reporter)
        label_seconds = time.monotonic() - started_s

        started_s = time.monotonic()
        fitted, figures = _fit_predictor(setting, k, reporter)
        fit_seconds = time.monotonic() - started_s
        reporter.message(_ranking_sentence(k, figures))

        started_s = time.monotonic()
        previous = (
            _shared_designs(setting, reporter)
            if k == 1
            else done.get(f"round_{k - 1}", {}).get("front_genomes")
        )
        archive = _search_round(setting, k, fitted, previous, reporter)
        search_seconds = time.monotonic() - started_s
        if len(archive) == 0:
            raise CodesignError(
                f"search round {k} found no design that fits budget {setting.budget.name!r}; raise search.n_evaluations"
                " or relax the budget"
            )
        points = _front_points(setting, archive)
        last = k == search.n_rounds
        chosen = (
            archive.genomes[:0]
            if last
            else _informative_genomes(setting, archive, study.config.labels.n_per_round)
        )
        study.record(
            f"round_{k}",
            {
                "seconds": label_seconds + fit_seconds + search_seconds,
                "label_seconds": label_seconds,
                "fit_seconds": fit_seconds,
                "search_seconds": search_seconds,
                "n_labels": len(_labelled(setting)),
                "n_evaluations": archive.n_evaluations,
                "n_feasible": archive.n_feasible,
                "n_front": len(archive),
                "predictor": figures,
                "front_genomes": archive.genomes.tolist(),
                "to_label": chosen.tolist(),
                "points": points if last else None,
            },
        )
    if not points:
        points = study.progress()[f"round_{search.n_rounds}"]["points"]
    study.record("front", {"points": points})


def _search_round(
    setting: Setting,
    k: int,
    fitted: Predictor,
    previous: list[list[int]] | None,
    reporter: Reporter,
) -> Archive:
    study, search = setting.study, setting.study.config.search
    problem = _problem(setting, PredictedAccuracy(predictor=fitted))
    n_evaluations = search.n_evaluations // search.n_rounds + (
        1 if k <= search.n_evaluations % search.n_rounds else 0
    )
    settings = _strategy_settings(
        setting,
        None
        if previous is None
        else np.array(previous, dtype=np.int64).reshape(-1, setting.space.upper.size),
    )
    identity = json.dumps(
        [
            hashlib.sha256(study.predictor_file(k).read_bytes()).hexdigest(),
            setting.budget.model_dump(),
            setting.device.model_dump(),
            setting.scorer.stage,
            setting.coefficients_origin,
            search.model_dump(mode="json", include=_SCORING),
        ],
        sort_keys=True,
    )
    with (
        reporter.stage(f"round {k}: searching pairs", n_evaluations) as stage,
        EvaluationStore(study.search_store, run=f"round_{k}") as store,
        worker_pool(search.n_workers) as pool,
    ):
        return run_search(
            problem,
            search.strategy,
            n_evaluations=n_evaluations,
            seed=study.config.seed + k,
            settings=settings,
            store=store,
            problem_digest=hashlib.sha256(identity.encode()).hexdigest(),
            progress=lambda p: stage.update(p.n_evaluations, f"{p.n_front} on the front"),
            parallel=Parallel(executor=pool, chunk_size=EVALUATION_CHUNK),
        )


def _ranking_sentence(k: int, figures: dict[str, Any]) -> str:
    verdict = (
        ""
        if figures["tau"] > figures["tau_parameters"]
        else "; NO BETTER than the number of parameters"
    )
    return (
        f"round {k}: predictor {figures['method']} on {figures['n_train']} labels ranks {figures['n_held_out']} held-out labels"
        f" with Kendall tau {figures['tau']:.3f} (number of parameters: {figures['tau_parameters']:.3f}){verdict}"
    )


# ---- train -----------------------------------------------------------------------------------------
def task_arrays(setting: Setting) -> TaskArrays:
    """Return the task's rows as the network sees them: scaled, float32."""
    task = setting.task
    return TaskArrays(
        x_train=setting.scaling.apply(task.x_train),
        y_train=task.y_train,
        x_test=setting.scaling.apply(task.x_test),
        y_test=task.y_test,
    )


def _train_splits(
    setting: Setting, candidates: Sequence[Candidate], reporter: Reporter
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[QuantizedNetwork]]:
    """Train every finalist once per split.

    Returns:
        Per finalist: its validation accuracy, mean over the splits; and of the training that did best
        beside the other finalists of its split, the test accuracy and the network.
    """
    options, seed = setting.study.config.train, setting.study.config.seed
    results = []
    with (
        reporter.stage(
            f"training {len(candidates)} finalists, {options.n_splits} times each", 1.0
        ) as stage,
        worker_pool() as pool,
    ):
        for split in range(options.n_splits):

            def update(share: float, split: int = split) -> None:
                stage.update((split + share) / options.n_splits)

            results.append(
                train_population(
                    candidates,
                    task_arrays(setting),
                    TrainingOptions(
                        epochs=options.epochs,
                        split=split,
                        chunk_size=even_chunk_size(len(candidates), at_most=MAX_CHUNK),
                    ),
                    seed=seed + split,
                    progress=update,
                    executor=pool,
                )
            )
    validation = np.stack([result.validation_accuracy for result in results])
    best = (validation - validation.mean(axis=1, keepdims=True)).argmax(axis=0)
    networks = [results[k].networks[i] for i, k in enumerate(best)]
    test = np.array([results[k].test_accuracy[i] for i, k in enumerate(best)])
    return validation.mean(axis=0), test, networks


def _train(setting: Setting, reporter: Reporter) -> None:
    study, options = setting.study, setting.study.config.train
    if "train" in study.progress():
        return
    started_s = time.monotonic()
    finalists = choose_finalists(study.progress()["front"]["points"], options.n_finalists)
    candidates = decode_candidates(
        setting, np.array([point["genome"] for point in finalists], dtype=np.int64)
    )
    validation, test, networks = _train_splits(setting, candidates, reporter)
    for network in networks:
        network.save(study.weights_file(network.candidate.digest))
        folder = study.candidate_folder(network.candidate.digest)
        write_atomically(
            folder / "candidate.json", json.dumps(network.candidate.to_json(), indent=1)
        )
    n_validation = options.n_splits * round(
        TrainingOptions().validation_fraction * len(setting.task.y_train)
    )
    before = setting.scorer.score(population_from_candidates(candidates))
    after = setting.scorer.score_quantized(
        networks, with_notes=True, with_nodes=True, solve=solve_network
    )
    excess = violations(after, setting.budget, setting.device)
    rows = []
    for i, (point, network) in enumerate(zip(finalists, networks, strict=True)):
        rows.append(
            {
                "digest": network.candidate.digest,
                "network_digest": network.digest,
                "candidate": network.candidate.to_json(),
                "flow": point["flow"],
                "clock_mhz": float(period_to_mhz(network.candidate.hardware.clock_period_ns)),
                "predicted_accuracy": {"mean": point["accuracy"], "std": point["accuracy_std"]},
                "validation_accuracy": float(validation[i]),
                "estimated_accuracy": combine_accuracy(
                    point["accuracy"],
                    point["accuracy_std"],
                    float(validation[i]),
                    n_validation,
                ),
                "test_accuracy": float(test[i]),
                "predicted": metrics_json(before, i),
                "predicted_with_weights": metrics_json(after, i),
                "fits": bool((excess[i] <= 0).all()),
                "worst_excess": float(excess[i].max()),
            }
        )
    winner, sentence = choose_winner(rows, options.accuracy_tolerance)
    i = rows.index(winner)
    reporter.message(sentence)
    study.record(
        "train",
        {
            "seconds": time.monotonic() - started_s,
            "finalists": rows,
            "winner": {
                **winner,
                "selection": sentence,
                "per_node": describe_nodes(networks[i], after.per_node[i]),
                "notes": list(after.notes[i]),
            },
        },
    )


# ---- export ----------------------------------------------------------------------------------------
def export_network(
    setting: Setting, digest: str, *, reporter: Reporter, backends: Sequence[str] | None = None
) -> dict[str, Any]:
    """Export and prove one trained candidate of a study; synthesise its RTL where there is one.

    Args:
        setting: the study's setting.
        digest: the candidate.
        reporter: receives progress.
        backends: hls4ml back ends; default those of the study.

    Returns:
        JSON values: folder, mismatches per comparison, emulated and synthesized figures.

    Raises:
        MismatchError: two implementations differ in one word; the message says where.
    """
    from codesign.export.bundle import export_candidate
    from codesign.synthesis.open_flow import synthesize_verilog
    from codesign.validate.certificate import certify

    study, options = setting.study, setting.study.config.export
    network = QuantizedNetwork.load(study.weights_file(digest))
    arrays = task_arrays(setting)
    words = network.input_format.words_from_values(arrays.x_test)
    is_rtl = options.rtl and network.candidate.hardware.flow == "rtl"
    folder = study.firmware_folder(digest)
    steps = [0]
    with reporter.stage("exporting and comparing bit for bit", 16.0 if is_rtl else 12.0) as stage:

        def say(line: str) -> None:
            steps[0] += 1
            stage.update(float(steps[0]), line)

        exported = export_candidate(
            network,
            folder,
            scaling=setting.scaling.to_json(),
            vectors=words,
            backends=options.backends if backends is None else backends,
            with_rtl=is_rtl,
            progress=say,
            study=study.config.name,
        )
        certificate = certify(
            exported,
            test_words=words,
            inputs=np.concatenate([arrays.x_train, arrays.x_test]),
            seed=study.config.seed,
            progress=say,
        )
    outputs = run_words(network, words)
    assert isinstance(outputs, np.ndarray)
    emulated: dict[str, float] = {}
    synthesized: dict[str, Any] = {}
    if certificate.latency_cycles is not None:
        emulated = {
            "latency_cycles": certificate.latency_cycles,
            "latency_ns": float(
                cycles_to_ns(certificate.latency_cycles, network.candidate.hardware.clock_period_ns)
            ),
            "interval_cycles": 1,  # the emulation took one vector every cycle, and every word was right
        }
    if is_rtl and options.open_synthesis:
        with reporter.stage("open synthesis of the RTL (Yosys)", 1.0):
            found = synthesize_verilog(exported.rtl_sources, exported.name, timeout_s=1800.0)
        synthesized = {
            "lut": found.lut,
            "ff": found.ff,
            "dsp": found.dsp,
            "bram_18k": found.bram_18k,
            "tool": "yosys",
        }
        # Yosys counts LUTs before placement: compare it with the estimate of that stage
        scorer = replace(setting.scorer, stage="vsynth")
        expected = metrics_json(scorer.score_quantized([network], solve=solve_network), 0)
        synthesized["predicted"] = {name: expected[name] for name in ("lut", "ff")}
    for name, reason in exported.skipped.items():
        reporter.message(f"not exported: {name}: {reason}")
    return {
        "folder": str(folder.relative_to(study.folder)),
        "verdict": certificate.verdict,
        "mismatches": {
            c.name: {
                "mismatches": c.mismatches,
                "vectors": sum(c.vectors.values()),
                "status": c.status + (f": {c.note}" if c.note else ""),
            }
            for c in certificate.comparisons
        },
        "input_audit": dict(certificate.input_audit),
        "emulated": emulated,
        "emulated_accuracy": float((outputs.argmax(axis=1) == arrays.y_test).mean())
        if emulated
        else None,
        "synthesized": synthesized,
    }


def _export(setting: Setting, reporter: Reporter) -> None:
    study = setting.study
    if "export" in study.progress():
        return
    started_s = time.monotonic()
    found = export_network(
        setting, study.progress()["train"]["winner"]["digest"], reporter=reporter
    )
    reporter.message(found["verdict"])
    study.record("export", {"seconds": time.monotonic() - started_s, **found})


# ---- report ----------------------------------------------------------------------------------------
def _report(setting: Setting, reporter: Reporter) -> None:
    from codesign.report.page import render
    from codesign.report.summary import summarize

    write_atomically(setting.study.report_page, render(summarize(setting.study)))
