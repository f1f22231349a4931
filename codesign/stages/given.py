"""Stages of a study of one network that was trained elsewhere: import it, search its hardware, price it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError, DataError
from codesign.export.rtl import solve_at_clocks
from codesign.files import replacing, write_atomically
from codesign.hardware.scorer import HardwareScores, exact_population
from codesign.importing import Imported, read_model
from codesign.importing.proof import compare, compare_answers, drawn_inputs
from codesign.ir import HardwareConfig, QuantizedNetwork
from codesign.metrics import load_metric
from codesign.reporter import Reporter
from codesign.results import (
    Choice,
    FrontPoint,
    ImportedNetwork,
    Preparation,
    ProofFacts,
    Results,
    Search,
    TrainedDesign,
    Training,
)
from codesign.search.hardware import search_hardware
from codesign.space import SearchSpace
from codesign.space.given import GivenNetwork, given_space
from codesign.stages import choose
from codesign.stages.prepare import preparation
from codesign.stages.search import spell_layers
from codesign.stages.setting import Setting, costs_of
from codesign.stages.statistics import trivial_answers
from codesign.stages.train import TrainedFinalist, describe_designs
from codesign.study import NetworkSection, Study
from codesign.synthesis.onnx_config import OnnxConfig
from codesign.tasks.base import TaskData, build_task_data
from codesign.tasks.target import Head, Target
from codesign.training.judge import judge_outputs
from codesign.training.options import TaskArrays
from codesign.training.shrink import shrink
from hw_models.lowering import WEIGHT_FACTS
from hw_models.units import mhz_to_period, period_to_mhz

#: Vectors of each kind that the proof runs; every one is drawn, none was fitted on.
N_PROOF = 4096
#: Vectors whose answers stand for data where a study names none: to choose by, and to report on.
N_CHOOSE, N_REPORT = 4096, 2048
#: Adder graphs of more LUT, by the law, are not solved before the search.
_SOLVED_LUT = 100_000.0


# ---- the network -----------------------------------------------------------------------------------
def import_given(
    study: Study, *, part: str, task: TaskData | None, reporter: Reporter
) -> ImportedNetwork:
    """Read the study's network, prove it against its framework, and store both; once per study.

    Args:
        study: its configuration names the network; it begins when the network has been read.
        part: of the study's device.
        task: that it is judged on, where the study names one.
        reporter: is told the verdict.

    Raises:
        DesignError: it cannot be read; names the node.
        DataError: the given inputs do not fit.
        ConfigError: the network is none for the task.
    """
    section, known = study.config.network, study.results().last(ImportedNetwork)
    assert section is not None, "a study of a network names one"
    if known is not None and study.given_network.exists() and study.given_answers.exists():
        return known
    imported = read_model(
        Path(section.file), config=_given_config(section, part), precision=section.precision
    )
    if task is not None and task.input_shape != imported.network.input_type.shape:
        raise ConfigError(
            f"task: its inputs have shape {task.input_shape}, the network takes"
            f" {imported.network.input_type.shape}; name the task that it was trained on"
        )
    drawn = drawn_inputs(imported, n=N_PROOF, seed=study.config.seed)
    if section.inputs is not None:
        drawn["given"] = _read_inputs(Path(section.inputs), imported.shape)
    proof: dict[str, ProofFacts] = {}
    with reporter.stage(f"proving it against {imported.framework}", float(len(drawn))) as stage:
        for kind, inputs in drawn.items():
            difference, _ = compare(imported, inputs)
            proof[kind] = ProofFacts(**asdict(difference))
            stage.update(float(len(proof)), kind)
    if section.outputs is not None:
        if section.inputs is None:
            raise ConfigError("network.outputs answers no inputs; give network.inputs, too")
        answers = _read_array(Path(section.outputs), "outputs")
        theirs = answers.reshape(len(answers), -1)
        given = np.asarray(drawn["given"], dtype=np.float32).astype(np.float64)
        difference = compare_answers(imported, given, theirs, of=section.outputs)
        proof["answers"] = ProofFacts(**asdict(difference))
    study.begin()
    _store_answers(study, imported)
    imported.network.save(study.given_network)
    found = ImportedNetwork(
        source=Path(section.file).name,
        sha256=imported.source_digest,
        framework=imported.framework,
        network_digest=imported.network.digest,
        notes=list(imported.notes),
        proof=proof,
    )
    study.record("imported", found)
    reporter.message(found.verdict)
    for note in found.notes:
        reporter.message(note)
    return found


def _given_config(section: NetworkSection, part: str) -> OnnxConfig:
    return OnnxConfig(
        part=part,
        clock_period_ns=float(mhz_to_period(section.clock_mhz)),
        io_type=section.io_type,
        flow=section.flow,
        strategy="distributed_arithmetic" if section.flow == "rtl" else section.strategy,
        reuse_factor=section.reuse_factor,
    )


def _read_inputs(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    inputs = _read_array(path, "inputs")
    if inputs.shape[1:] != shape:
        raise DataError(f"{path}: expected inputs of shape (n, {', '.join(map(str, shape))})")
    return inputs


def _read_array(path: Path, what: str) -> NDArray[np.float64]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: no NumPy array of {what} ({error}); save one with numpy.save"
        ) from error
    if not isinstance(values, np.ndarray) or values.ndim < 1 or len(values) == 0:
        raise DataError(f"{path}: expected one array of {what}, a row per event")
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DataError(f"{path}: holds values that are no finite numbers; clean them")
    return np.asarray(values, dtype=np.float64)


def _store_answers(study: Study, imported: Imported) -> None:
    """Store what the framework answers on inputs as our network reads them: real values of its words."""
    inputs = drawn_inputs(imported, n=N_CHOOSE + N_REPORT, seed=study.config.seed + 1)["normal"]
    words = imported.words_of_inputs(inputs.astype(np.float32).astype(np.float64))
    _, answers = compare(imported, inputs)
    known = imported.network.input_type
    x = known.values_from_words(words.reshape(len(words), *known.shape))
    y = imported.our_outputs(answers)
    with replacing(study.given_answers) as stream:
        np.savez_compressed(
            stream, x=x.astype(np.float32), y=y.astype(np.float32), n_choose=np.array(N_CHOOSE)
        )


def answers_task(study: Study) -> TaskData:
    """Return what the framework answers as a task: designs are judged by how near they come to it."""
    with np.load(study.given_answers, allow_pickle=False) as archive:
        x, y, n = archive["x"], archive["y"], int(archive["n_choose"])
    names = tuple(f"output_{i}" for i in range(y.shape[1]))
    head = Head(
        name="answer",
        kind="values",
        names=names,
        metric=load_metric("mean_absolute_error", where="network"),
        loss="squared",
        offset=(0.0,) * len(names),
        scale=(1.0,) * len(names),
    )
    return build_task_data(
        name="answers",
        benchmark=None,
        x_train=x[:n],
        y_train=y[:n],
        x_test=x[n:],
        y_test=y[n:],
        feature_names=tuple(f"input_{i}" for i in range(x.shape[-1])),
        class_names=(),
        split=f"drawn with seed {study.config.seed + 1}: {n} vectors to choose by, {len(x) - n} to report on",
        provenance={"kind": "what the imported network's own framework answers"},
        target=Target(heads=(head,)),
        may_be_constant=True,  # a trigger's bit hardly ever fires
    )


def shrink_given(study: Study, arrays: TaskArrays, reporter: Reporter) -> None:
    """Drop bits and weights of the study's network down to the loss that it states; once per study.

    Moves are judged on training rows; what test rows say of the result is reported, not chosen by.
    """
    section = study.config.network
    assert section is not None, "a study of a network names one"
    if section.score_loss is None or study.shrunk_network.exists():
        return
    network = QuantizedNetwork.load(study.given_network)
    rows = np.arange(min(len(arrays.y_train), N_CHOOSE))
    x, head = arrays.x_train[rows], arrays.target.score

    def merit(outputs: NDArray[np.float64]) -> float:
        judged = judge_outputs(outputs, arrays, part="train", rows=rows)[head.name]
        return float(head.metric.merit(judged.score))

    with reporter.stage("dropping bits and weights", 1.0) as stage:
        found = shrink(
            network,
            network.input_words(x),
            merit,
            loss=section.score_loss,
            progress=lambda share: stage.update(1.0 - share),
        )
    found.network.save(study.shrunk_network)
    reporter.message(
        f"precision after training: {found.products / max(found.products_before, 1.0):.0%} of the products' bits are"
        f" left; {head.metric.name.replace('_', ' ')} {abs(found.merit_before):.6g} as given, {abs(found.merit):.6g} now,"
        f" on the {len(rows):,} rows that it was chosen by"
    )


def searched_network(study: Study) -> QuantizedNetwork:
    """Return the network whose hardware is searched: as given, or with less precision where that is asked for."""
    section = study.config.network
    assert section is not None, "a study of a network names one"
    path = study.given_network if section.score_loss is None else study.shrunk_network
    return QuantizedNetwork.load(path)


def space_of(study: Study) -> SearchSpace:
    """Return the space of the imported network's hardware."""
    section = study.config.network
    assert section is not None, "a study of a network names one"
    network = searched_network(study)
    base = exact_population([network])
    settled = ("output_bits", "input_bits", "pruned_fraction")
    clocks = (
        sorted({*section.clocks_mhz, section.clock_mhz}) if section.search else [section.clock_mhz]
    )
    return given_space(
        network,
        {name: base.columns[name] for name in (*settled, *WEIGHT_FACTS)},
        clocks_mhz=clocks,
        strategies=section.strategies,
    )


# ---- stages ------------------------------------------------------------------------------------------
def prepare(setting: Setting, earlier: Results) -> Preparation:
    """Say what is searched."""
    return preparation(setting, feasible_share=1.0)


def search(setting: Setting, earlier: Results) -> Search:
    """Search the hardware; the first point is the network as it is given."""
    section = setting.study.config.network
    assert section is not None, "a study of a network names one"
    network = QuantizedNetwork.load(setting.study.given_network)
    searched = searched_network(setting.study)
    genomes: list[NDArray[np.int64]] = []
    n_evaluations = n_feasible = 1
    rtl = None
    if section.search:
        rtl = _solved_rtl(setting, searched)
        n_total = 10.0 ** min(setting.space.log10_size, 6.0)
        with setting.reporter.stage("searching the hardware", n_total) as stage:
            front = search_hardware(
                setting.space,
                setting.scorer,
                setting.budget,
                setting.device,
                rtl=rtl,
                progress=lambda n: stage.update(float(min(n, n_total))),
            )
        fits = front.excess <= 0
        genomes += list(front.genomes[fits] if fits.any() else front.genomes[:20])
        n_evaluations, n_feasible = front.n_evaluations, front.n_feasible
    template = setting.space.template
    assert isinstance(template, GivenNetwork), "the space of a given network"
    own = template.genome_of(network.candidate)
    rows = np.array([own, *genomes])
    points = _points(setting, searched, rows, rtl)
    points[0] = _given_point(setting, network, points[0])
    kept = [0] + [i for i in range(1, len(points)) if points[i].digest != points[0].digest]
    rows, points = rows[kept], [points[i] for i in kept]
    return Search(
        n_labels=0,
        n_evaluations=n_evaluations,
        n_feasible=n_feasible,
        front_genomes=rows.tolist(),
        to_label=[],
        points=points,
    )


def _solved_rtl(setting: Setting, network: QuantizedNetwork) -> HardwareScores | None:
    """Price plain RTL at every clock by its adder graph, which knows what the weights leave of it.

    The law of adder graphs prices weights, not what becomes of them: of a network whose activations hardly ever leave
    their ends (TOPO v5 with random weights) it makes seven times too much.

    Returns:
        Prices, one per clock; None where the graph would take minutes to solve, which is said.
    """
    template = setting.space.template
    genomes = np.zeros((len(template.genes[0].domain), len(template.genes)), dtype=np.int64)
    genomes[:, 0] = np.arange(len(genomes))
    by_law = float(setting.scorer.score(setting.space.decode(genomes[:1])).metrics["lut"].value[0])
    if by_law > _SOLVED_LUT:
        setting.reporter.message(
            f"plain RTL is priced by a law, not by its adder graph: {by_law:,.0f} LUT would take minutes to solve"
        )
        return None
    networks = [_with_hardware(network, h) for h in _hardware(setting, network, genomes)]
    periods_ns = [n.candidate.hardware.clock_period_ns for n in networks]
    with setting.reporter.stage("solving the adder graph", 1.0):
        graphs = dict(zip(periods_ns, solve_at_clocks(networks[0], periods_ns), strict=True))
    return setting.scorer.score_quantized(
        networks, solve=lambda n: graphs[n.candidate.hardware.clock_period_ns]
    )


def _with_hardware(network: QuantizedNetwork, hardware: HardwareConfig) -> QuantizedNetwork:
    """Return the network on other hardware: nodes keep their names."""
    return replace(network, candidate=replace(network.candidate, hardware=hardware))


def _hardware(
    setting: Setting, network: QuantizedNetwork, genomes: NDArray[np.int64]
) -> list[HardwareConfig]:
    """Spell genomes out under the network's own node names."""
    found = []
    for candidate in setting.candidates(genomes):
        renamed = {
            theirs.name: ours.name
            for theirs, ours in zip(
                candidate.network.nodes, network.candidate.network.nodes, strict=True
            )
        }
        hardware = candidate.hardware
        found.append(
            replace(
                hardware,
                strategy={renamed[k]: v for k, v in hardware.strategy.items()},
                reuse_factor={renamed[k]: v for k, v in hardware.reuse_factor.items()},
            )
        )
    return found


def _given_point(setting: Setting, network: QuantizedNetwork, point: FrontPoint) -> FrontPoint:
    """Return the point of the network just as it is given: its own weights, clock and factors."""
    scores = setting.scorer.score_quantized([network])
    costs = {name: cost.value for name, cost in costs_of(scores, 0).items()}
    hardware = network.candidate.hardware
    return point.model_copy(
        update={
            "digest": network.candidate.digest,
            "layers": spell_layers(network.candidate),
            "flow": hardware.flow,
            "io_type": hardware.io_type,
            "clock_mhz": float(period_to_mhz(hardware.clock_period_ns)),
            "utilization": float(scores.utilization[0]),
            **{
                name: costs[name]
                for name in ("latency_cycles", "latency_ns", "lut", "ff", "dsp", "bram_18k")
            },
        }
    )


def _points(
    setting: Setting,
    network: QuantizedNetwork,
    genomes: NDArray[np.int64],
    rtl: HardwareScores | None,
) -> list[FrontPoint]:
    by_law = setting.scorer.score(setting.space.decode(genomes))
    points = []
    for i, hardware in enumerate(_hardware(setting, network, genomes)):
        candidate = _with_hardware(network, hardware).candidate
        scores, row = (by_law, i)
        if rtl is not None and hardware.flow == "rtl":
            scores, row = rtl, int(genomes[i, 0])
        costs = {name: cost.value for name, cost in costs_of(scores, row).items()}
        points.append(
            FrontPoint(
                digest=candidate.digest,
                genome=genomes[i].tolist(),
                layers=spell_layers(candidate),
                flow=hardware.flow,
                io_type=hardware.io_type,
                score=0.0,
                score_std=0.0,
                clock_mhz=float(period_to_mhz(hardware.clock_period_ns)),
                utilization=float(scores.utilization[row]),
                **{
                    name: costs[name]
                    for name in ("latency_cycles", "latency_ns", "lut", "ff", "dsp", "bram_18k")
                },
            )
        )
    return points


def train(setting: Setting, earlier: Results) -> Training:
    """Price and judge the network as given, and the cheapest configurations; nothing is trained."""
    study, points = setting.study, earlier.require(Search).points
    n_splits, n = study.config.train.n_splits, study.config.train.n_finalists
    given, *others = points
    by_lut = sorted(others, key=lambda p: (p.lut, p.digest))
    rtl = [p for p in by_lut if p.flow == "rtl"]
    hls = [p for p in by_lut if p.flow != "rtl"]
    n_rtl = min(len(rtl), max(n - 1 - len(hls), n // 2))
    chosen = [given, *rtl[:n_rtl], *hls[: max(n - 1 - n_rtl, 0)]]
    searched = searched_network(study)
    rows = np.array([p.genome for p in chosen[1:]], dtype=np.int64).reshape(-1, len(given.genome))
    baselines = trivial_answers(setting.arrays(), n_splits=n_splits)
    networks = [QuantizedNetwork.load(study.given_network)]
    if len(rows):
        networks += [_with_hardware(searched, h) for h in _hardware(setting, searched, rows)]
    trained = [TrainedFinalist(splits=(n,) * n_splits, kept=n) for n in networks]
    designs = []
    for design, built in describe_designs(setting, chosen, trained, baselines):
        built.save(study.weights_file(design.digest))
        write_atomically(
            study.candidate_folder(design.digest) / "candidate.json",
            json.dumps(built.candidate.to_json(), indent=1),
        )
        study.record_beside(design.digest, design)
        designs.append(design)
    designs.sort(key=lambda d: (d.predicted_with_weights["lut"].value, d.digest))
    return Training(finalists=[d.digest for d in designs], baselines=baselines)


def choose_given(setting: Setting, earlier: Results) -> Choice:
    """Choose the cheapest configuration that fits the budget, and compare it with the network as given."""
    study = setting.study
    designs, point = study.designs(), earlier.require(Search).points[0]
    given = designs[point.digest]
    section = study.config.network
    assert section is not None, "a study of a network names one"
    finalists = [designs[d] for d in earlier.require(Training).finalists]
    luts = choose.known_luts(setting, finalists)
    fitting = [d for d in finalists if d.fits]
    against = study.results().require(ImportedNetwork).verdict
    if not section.search or not fitting:
        reason = "The network as it was given."
        if section.search:
            nearest = min(finalists, key=lambda d: d.worst_excess)
            reason = (
                f"No configuration fits budget {setting.budget.name}; the nearest, {nearest.digest}, is"
                f" {100 * nearest.worst_excess:.0f} % over a limit. The network as it was given is kept."
            )
        winner = given
    else:
        winner = min(fitting, key=lambda d: (luts[d.digest], d.digest))
        reason = (
            f"The cheapest of {len(finalists)} priced configurations that fit budget {setting.budget.name}:"
            f" {_cost(winner, luts)}; as given {_cost(given, luts)}"
            f"{'' if given.fits else f', {100 * given.worst_excess:.0f} % over a limit'}."
        )
    for sentence in (reason, against):
        setting.reporter.message(sentence)
    return Choice(
        winner=winner.digest,
        reason=reason,
        against_trivial=against,
        steadiness="Nothing was trained: every configuration computes the same words.",
    )


def _cost(design: TrainedDesign, luts: Mapping[str, float]) -> str:
    lut = luts[design.digest]
    latency = design.predicted_with_weights["latency_ns"].value
    return (
        f"{lut:,.0f} LUT and {latency:.0f} ns at {design.clock_mhz:.0f} MHz in flow {design.flow}"
    )
