"""Stage "train": train the finalists to the end, judge them beside trivial answers, price them with their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.errors import StudyError
from codesign.export.rtl import solve_at_clocks, solve_at_depths
from codesign.files import write_atomically
from codesign.hardware.scorer import SolvedGraph, violations
from codesign.ir import Candidate, QuantizedNetwork
from codesign.results import (
    Baseline,
    ClockFigures,
    FrontPoint,
    HeadScore,
    JudgedScore,
    PredictedScore,
    Results,
    Search,
    TrainedDesign,
    Training,
)
from codesign.space import population_from_candidates
from codesign.stages.choosing import NEAR_BEST, choose_finalists, within_reach
from codesign.stages.nodes import describe_nodes
from codesign.stages.pilot import choose_by_trial
from codesign.stages.setting import (
    MAX_CHUNK,
    Setting,
    costs_of,
    score_kinds,
    with_learned_costs,
)
from codesign.stages.statistics import combine_scores, judge_test, trivial_answers, validate
from codesign.training.judge import judge_outputs, output_values
from codesign.training.options import TrainingOptions
from codesign.training.polish import apart, learn_with_teacher, polished
from codesign.training.precision import LearnedResult, PrecisionOptions, batch_size_for
from codesign.training.train import even_chunk_size, train_population
from hw_models.units import cycles_to_ns, mhz_to_period, period_to_mhz

KEYS = (
    "train.n_finalists",
    "train.epochs",
    "train.n_splits",
    "train.precision",
    "train.lut",
    "train.n_restarts",
)

Floats = NDArray[np.float64]


#: Values computed to polish a network with learned widths that is kept: about 12 s, at most.
_POLISH_VALUES = 4e9


@dataclass(frozen=True, kw_only=True)
class TrainedFinalist:
    """What training makes of a finalist.

    Attributes:
        splits: the network of each split, that has not seen the split's validation rows.
        kept: a network of its own that is kept; None: the one of the splits that did best beside the
            last baseline of its split (splits differ in how hard their rows are).
    """

    splits: tuple[QuantizedNetwork, ...]
    kept: QuantizedNetwork | None = None


class FinalistTrainer(Protocol):
    """How finalists are trained: the seam at which other kinds of precision plug in."""

    def __call__(
        self, setting: Setting, candidates: Sequence[Candidate], luts: Floats
    ) -> Sequence[TrainedFinalist]:
        """Train candidates to the end, each in every split; in their order.

        Args:
            setting: the study's setting.
            candidates: what to train.
            luts: float[n], what each may cost; for trainers that can keep to it.
        """


def train_uniform(
    setting: Setting, candidates: Sequence[Candidate], luts: Floats
) -> list[TrainedFinalist]:
    """Train candidates at the widths that their genomes say, once per split, with other seeds."""
    options, seed = setting.study.config.train, setting.study.config.seed
    trained = []
    with (
        setting.reporter.stage(
            f"training {len(candidates)} finalists, {options.n_splits} times each", 1.0
        ) as stage,
        setting.pool() as pool,
    ):
        for split in range(options.n_splits):

            def update(share: float, split: int = split) -> None:
                stage.update((split + share) / options.n_splits)

            found = train_population(
                candidates,
                setting.arrays(),
                TrainingOptions(
                    epochs=options.epochs,
                    split=split,
                    chunk_size=even_chunk_size(len(candidates), at_most=MAX_CHUNK),
                ),
                seed=seed + split,
                progress=update,
                executor=pool,
            )
            trained.append(found.networks)
    return [TrainedFinalist(splits=networks) for networks in zip(*trained, strict=True)]


def train_learned(
    setting: Setting, candidates: Sequence[Candidate], luts: Floats
) -> list[TrainedFinalist]:
    """Train the topologies of candidates with learned widths, each to its LUTs.

    Every split tells a score on rows that neither networks nor teacher have seen.  What is kept was
    trained on all rows, with another seed, and polished: nothing was chosen by those scores.
    """
    options, seed = setting.study.config.train, setting.study.config.seed
    arrays = setting.arrays()
    common = PrecisionOptions(epochs=options.epochs, batch_size=batch_size_for(len(arrays.y_train)))
    settings = [replace(common, split=k) for k in range(options.n_splits)]
    settings.append(replace(common, validation_fraction=0.0))
    with (
        setting.reporter.stage(
            f"learning the widths of {len(candidates)} finalists, {len(settings)} times each", 1.0
        ) as stage,
        setting.pool() as pool,
    ):
        done = [0]

        def count(result: LearnedResult) -> LearnedResult:
            done[0] += 1
            stage.update(done[0] / (len(settings) + 1))
            return result

        n_restarts = [[1] * len(luts)] * options.n_splits + [restarts(luts, options.n_restarts)]
        jobs = [
            (candidates, luts, arrays, o, seed + k, n)
            for k, (o, n) in enumerate(zip(settings, n_restarts, strict=True))
        ]
        if pool is None:
            *results, kept = [count(learn_with_teacher(*job)) for job in jobs]
            finished = [polished(one, arrays, settings[-1], _POLISH_VALUES) for one in apart(kept)]
        else:
            # the last takes longest and is polished: it starts first, so that no worker waits for it
            longest, *futures = [
                pool.submit(learn_with_teacher, *job) for job in (jobs[-1], *jobs[:-1])
            ]
            kept = count(longest.result())
            parts = [
                pool.submit(polished, o, arrays, settings[-1], _POLISH_VALUES) for o in apart(kept)
            ]
            results = [count(future.result()) for future in futures]
            finished = [future.result() for future in parts]
    return [
        TrainedFinalist(splits=tuple(r.networks[i] for r in results), kept=own.networks[0])
        for i, own in enumerate(finished)
    ]


def restarts(luts: Floats, n: int) -> list[int]:
    """Return how often each finalist is trained on all rows, n times in the mean.

    Cheap networks differ most from seed to seed (docs/precision.md): the cheaper half gets what the dearer half,
    trained once, leaves.
    """
    order = np.argsort(luts, kind="stable")
    counts = np.full(len(luts), n)
    n_dear = len(luts) // 2
    counts[order[len(luts) - n_dear :]] = 1
    counts[order[:n_dear]] = 2 * n - 1
    return [int(count) for count in counts]


#: Trainers of finalists, by `train.precision`.
TRAINERS: Mapping[str, FinalistTrainer] = {"uniform": train_uniform, "learned": train_learned}


def run(setting: Setting, earlier: Results) -> Training:
    """Choose finalists on the front, and train those that are not trained yet."""
    setting, options = with_learned_costs(setting, earlier), setting.study.config.train
    # where budgets are a gene, small ones are asked for, too: what each buys is what the front shows
    within = 2 * NEAR_BEST if setting.space.learns_widths else NEAR_BEST
    front = earlier.require(Search).points
    points = choose_finalists(front, options.n_finalists, within=within)
    baselines = trivial_answers(setting.arrays(), n_splits=options.n_splits)
    luts = np.geomspace(*options.lut, len(points))
    if setting.space.learns_widths:
        luts = setting.space.decode(setting.genomes([p.genome for p in points])).lut_budget
    elif setting.precision == "learned":
        rtl = [i for i, point in enumerate(points) if point.flow == "rtl"]
        reached = [p for p in within_reach(front, 2 * NEAR_BEST) if p.flow == "rtl"]
        for i, point in zip(rtl, choose_by_trial(setting, reached, luts[rtl]), strict=True):
            points[i] = point
    designs = train_points(setting, points, baselines, luts)
    designs.sort(key=lambda design: (design.predicted_with_weights["lut"].value, design.digest))
    return Training(finalists=[design.digest for design in designs], baselines=baselines)


def train_on_demand(setting: Setting, digest: str) -> TrainedDesign:
    """Train one point of the front that no stage has trained.

    Raises:
        StudyError: the front has no such point.
    """
    results = setting.study.results()
    point = next((p for p in results.require(Search).points if p.digest == digest), None)
    if point is None:
        raise StudyError(
            f"{setting.study.folder} has no design {digest!r} on its front; see `codesign front`"
        )
    training = results.last(Training)
    baselines = (
        trivial_answers(setting.arrays(), n_splits=setting.study.config.train.n_splits)
        if training is None
        else training.baselines
    )
    setting = with_learned_costs(setting, results)
    population = setting.space.decode(setting.genomes([point.genome]))
    luts = population.lut_budget if setting.space.learns_widths else np.array([point.lut])
    return train_points(setting, [point], baselines, luts)[0]


def train_points(
    setting: Setting, points: Sequence[FrontPoint], baselines: Sequence[Baseline], luts: Floats
) -> list[TrainedDesign]:
    """Train points of the front to the end; weights and figures go into the study folder.

    Points that were trained with the same options already are not trained again.

    Args:
        setting: the study's setting.
        points: what to train.
        baselines: trivial answers.
        luts: float[n], what each may cost where widths are learned.
    """
    study = setting.study
    digests = [_training_digest(setting, float(lut)) for lut in luts]
    known = study.designs()
    fresh = [
        i
        for i, (point, digest) in enumerate(zip(points, digests, strict=True))
        if point.digest not in known or known[point.digest].depends_on != digest
    ]
    if fresh:
        candidates = setting.candidates([points[i].genome for i in fresh])
        trainer = TRAINERS[setting.precision]
        trained = trainer(setting, candidates, luts[fresh])
        found = describe_designs(
            setting, [points[i] for i in fresh], trained, baselines, retimes=True
        )
        for i, (design, network) in zip(fresh, found, strict=True):
            network.save(study.weights_file(design.digest))
            write_atomically(
                study.candidate_folder(design.digest) / "candidate.json",
                json.dumps(network.candidate.to_json(), indent=1),
            )
            known[design.digest] = design.model_copy(update={"depends_on": digests[i]})
            study.record_beside(design.digest, known[design.digest])
    return [known[point.digest] for point in points]


def _training_digest(setting: Setting, lut: float) -> str:
    """Return a digest of everything that a trained design depends on, beside its genome."""
    config = setting.study.config
    is_learned = setting.precision == "learned"
    value = [
        setting.task.digest,
        setting.task.target.statement(),
        config.seed,
        config.train.model_dump(include={"epochs", "n_splits", "precision"}),
        [round(lut, 3), config.train.n_restarts] if is_learned else None,
        setting.device.model_dump(),
        setting.budget.model_dump(),
        setting.coefficients_origin,
    ]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def describe_designs(
    setting: Setting,
    points: Sequence[FrontPoint],
    trained: Sequence[TrainedFinalist],
    baselines: Sequence[Baseline],
    *,
    retimes: bool = False,
) -> list[tuple[TrainedDesign, QuantizedNetwork]]:
    """Judge and price trained networks; per point, its figures and the network that is kept.

    Args:
        setting: the study's setting.
        points: of the front.
        trained: what training made of each.
        baselines: trivial answers.
        retimes: every plain RTL network takes the clock of the space, and the depth of its adder graph, of
            which LUT times latency is least: the gene's clock was chosen before its logic was known.
    """
    arrays = setting.arrays()
    validated = [validate(arrays, finalist.splits) for finalist in trained]
    easy = np.array(baselines[-1].validation.splits)
    networks = [
        finalist.kept or finalist.splits[int(np.argmax(np.array(score.splits) - easy))]
        for finalist, score in zip(trained, validated, strict=True)
    ]
    networks, graphs = _solve_all(setting, networks, retimes=retimes)
    after = setting.scorer.score_quantized(
        networks,
        with_notes=True,
        with_nodes=True,
        solve=lambda n: graphs[n.digest][n.candidate.hardware.clock_period_ns],
    )
    before = setting.scorer.score(population_from_candidates([n.candidate for n in networks]))
    excess = violations(after, setting.budget, setting.device)
    kinds = score_kinds(setting.task)
    is_learned = setting.precision == "learned"
    described = []
    for i, (point, network) in enumerate(zip(points, networks, strict=True)):
        score = validated[i]
        judged = judge_outputs(output_values(network, arrays.x_test), arrays)
        design = TrainedDesign(
            digest=point.digest,
            network_digest=network.digest,
            candidate=network.candidate.to_json(),
            genome=point.genome,
            flow=point.flow,
            clock_mhz=float(period_to_mhz(network.candidate.hardware.clock_period_ns)),
            predicted_score=PredictedScore(mean=point.score, std=point.score_std),
            validation=score,
            # what was predicted is a network of the genome's widths, or one trained for a few epochs only
            estimated=JudgedScore(value=score.value, standard_error=score.standard_error)
            if is_learned
            else combine_scores(point.score, point.score_std, score.value, score.standard_error),
            test=judge_test(arrays, judged),
            heads={
                name: HeadScore(
                    kind=kind, score=judged[name].score, error=judged[name].standard_error
                )
                for name, kind in kinds.items()
            },
            predicted=costs_of(before, i),
            predicted_with_weights=costs_of(after, i),
            clocks=[
                ClockFigures(
                    clock_mhz=float(period_to_mhz(period_ns)),
                    latency_cycles=graph.latency_cycles,
                    latency_ns=float(cycles_to_ns(graph.latency_cycles, period_ns)),
                    register_bits=graph.register_bits,
                )
                for period_ns, graph in sorted(graphs.get(network.digest, {}).items())
                if graph is not None
            ],
            fits=bool((excess[i] <= 0).all()),
            worst_excess=float(excess[i].max()),
            nodes=describe_nodes(network, after.per_node[i]),
            notes=list(after.notes[i]),
        )
        described.append((design, network))
    return described


#: A network, and its adder graph cut to each of several clocks.
Solution = tuple[QuantizedNetwork, Sequence[SolvedGraph | None]]


def _solve_all(
    setting: Setting, networks: Sequence[QuantizedNetwork], *, retimes: bool
) -> tuple[list[QuantizedNetwork], dict[str, dict[float, SolvedGraph | None]]]:
    """Solve the adder graph of every plain RTL network, cut to every clock of the space.

    Returns:
        The networks, retimed where that is asked for, and their graphs by digest and period.
    """
    clocks = {
        float(mhz_to_period(float(value)))
        for gene in setting.space.genes
        if gene.name == "clock_mhz"
        for value in gene.domain
    }
    rtl = [i for i, network in enumerate(networks) if network.candidate.hardware.flow == "rtl"]
    timed, solved = list(networks), dict[str, dict[float, SolvedGraph | None]]()
    with (
        setting.reporter.stage(f"solving {len(rtl)} adder graphs", len(rtl)) as stage,
        setting.pool() as pool,
    ):
        own = [networks[i] for i in rtl]
        periods = [sorted(clocks | {n.candidate.hardware.clock_period_ns}) for n in own]
        spread = map if pool is None else pool.map
        found: Iterable[Sequence[Solution]]
        if retimes:
            found = spread(solve_at_depths, own, periods)
        else:
            solutions = spread(solve_at_clocks, own, periods)
            found = ([(n, graphs)] for n, graphs in zip(own, solutions, strict=True))
        for done, (i, of_clocks, solutions_of_one) in enumerate(
            zip(rtl, periods, found, strict=True)
        ):
            graphs = solutions_of_one[0][1]
            if retimes:
                timed[i], graphs = _retimed(
                    solutions_of_one, of_clocks, setting.budget.interval_ns or np.inf
                )
            solved[timed[i].digest] = dict(zip(of_clocks, graphs, strict=True))
            stage.update(done + 1)
    return timed, solved


def _retimed(
    solutions: Sequence[Solution], periods_ns: Sequence[float], interval_ns: float
) -> Solution:
    """Choose the clock and the graph of least LUT times latency; of equal ones that of fewest registers.

    Args:
        solutions: of one network, each cut to all clocks.
        periods_ns: these clocks.
        interval_ns: most time between events.
    """
    best: tuple[tuple[float, float], Solution] | None = None
    for network, graphs in solutions:
        for period_ns, graph in zip(periods_ns, graphs, strict=True):
            hardware = network.candidate.hardware
            if graph is None or period_ns * hardware.interval_cycles > interval_ns:
                continue
            product = graph.adder_cost * graph.latency_cycles * period_ns
            key = (round(product, 6), graph.register_bits)
            if best is None or key < best[0]:
                timed = replace(hardware, clock_period_ns=period_ns)
                candidate = replace(network.candidate, hardware=timed)
                best = key, (replace(network, candidate=candidate), graphs)
    return solutions[0] if best is None else best[1]
