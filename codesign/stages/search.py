"""Stage "search": search pairs under the predictor of this round, and say what to label next."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CodesignError
from codesign.ir import Candidate
from codesign.predictor.active import select_informative
from codesign.predictor.base import Predictor, load_predictor
from codesign.results import FrontPoint, Results, Search, Sharing
from codesign.search.archive import Archive
from codesign.search.islands import IslandPlan, run_islands
from codesign.search.loop import Parallel, evaluate, run_search
from codesign.search.problem import Problem
from codesign.search.scaling import dimensions_of, scaled_genomes
from codesign.search.store import EvaluationStore
from codesign.space import SearchSpace, population_from_candidates
from codesign.stages.fit import labelled
from codesign.stages.setting import (
    PredictorScore,
    Setting,
    make_problem,
    strategy_settings,
    with_learned_costs,
)
from codesign.study import ScalingSection, SearchSection, Study
from codesign.training.options import label_key
from hw_models.units import period_to_mhz

#: Options of the search section that decide what a genome is worth.
_SCORING: Final = ("objectives", "filter", "score_of", "score_confidence", "hardware_of")
KEYS = (
    *(f"search.{name}" for name in _SCORING),
    "search.strategy",
    "search.population_size",
    "search.reward",
    "search.islands",
    "search.scaling",
)
#: Pairs scored at once: few enough that two workers share a batch, enough for arrays to pay.
EVALUATION_CHUNK: Final = 200


def n_evaluations_of(search: SearchSection, round_index: int) -> int:
    """Return how many pairs one round evaluates: an even share of all."""
    return search.n_evaluations // search.n_rounds + (
        1 if round_index <= search.n_evaluations % search.n_rounds else 0
    )


def run(setting: Setting, earlier: Results, *, round_index: int) -> Search:
    """Search, starting from what the last round or weight sharing found.

    Raises:
        CodesignError: nothing fits the budget.
    """
    setting = with_learned_costs(setting, earlier)
    config = setting.study.config
    before, sharing = earlier.last(Search), earlier.last(Sharing)
    initial = (
        before.front_genomes
        if before is not None
        else sharing.genomes
        if sharing is not None
        else []
    )
    predictor, _ = load_predictor(setting.study.predictor_file(round_index))
    archive = _search(setting, round_index, predictor, setting.genomes(initial))
    if len(archive) == 0:
        raise CodesignError(
            f"search round {round_index} found no design that fits budget {setting.budget.name!r}; raise"
            " search.n_evaluations or relax the budget"
        )
    is_last = round_index == config.search.n_rounds
    known = labelled(setting, earlier)
    to_label = (
        archive.genomes[:0]
        if is_last
        else _informative_genomes(setting, archive, known, config.labels.n_per_round)
    )
    return Search(
        n_labels=len(known),
        n_evaluations=archive.n_evaluations,
        n_feasible=archive.n_feasible,
        front_genomes=archive.genomes.tolist(),
        to_label=to_label.tolist(),
        points=front_points(setting, archive) if is_last else [],
    )


def _search(
    setting: Setting, round_index: int, predictor: Predictor, initial: NDArray[np.int64]
) -> Archive:
    """Run the round's search; its log in the study folder is named by what decides its course."""
    study, search = setting.study, setting.study.config.search
    problem = make_problem(setting, PredictorScore(predictor=predictor))
    identity = json.dumps(
        [
            hashlib.sha256(study.predictor_file(round_index).read_bytes()).hexdigest(),
            hashlib.sha256(
                b"".join(values.tobytes() for values in setting.scorer.learned.y.values())
            ).hexdigest(),
            hashlib.sha256(initial.tobytes()).hexdigest(),
            setting.budget.model_dump(),
            setting.device.model_dump(),
            setting.space.name,
            setting.scorer.stage,
            setting.coefficients_origin,
            search.model_dump(
                mode="json", include={*_SCORING, "strategy", "population_size", "reward", "islands"}
            ),
        ],
        sort_keys=True,
    )
    digest = hashlib.sha256(identity.encode()).hexdigest()
    n_evaluations = n_evaluations_of(search, round_index)
    started = strategy_settings(setting, initial if len(initial) else None)
    log = partial(_open_log, study, f"round_{round_index}_{digest[:12]}")
    # a chunk takes milliseconds: a cluster pays only where many workers are asked for, or for islands
    pool = setting.pool() if search.islands else setting.pool(search.n_workers)
    with (
        setting.reporter.stage(f"round {round_index}: searching pairs", n_evaluations) as stage,
        pool if search.islands or search.n_workers > 1 else nullcontext() as executor,
    ):

        def tell(archive: Archive) -> None:
            stage.update(archive.n_evaluations, f"{len(archive)} on the front")

        if search.islands is not None:
            archive = run_islands(
                problem,
                search.strategy,
                island_plan(search, round_index),
                seed=study.config.seed + round_index,
                executor=executor,
                settings=started,
                store=lambda name: log(f"_{name}"),
                problem_digest=digest,
                progress=tell,
                chunk_size=EVALUATION_CHUNK,
            )
        else:
            with log("") as store:
                archive = run_search(
                    problem,
                    search.strategy,
                    n_evaluations=n_evaluations,
                    seed=study.config.seed + round_index,
                    settings=started,
                    store=store,
                    problem_digest=digest,
                    progress=tell,
                    parallel=Parallel(executor=executor, chunk_size=EVALUATION_CHUNK),
                )
    return archive if search.scaling is None else _scaled(setting, problem, archive)


def _open_log(study: Study, run: str, suffix: str) -> EvaluationStore:
    return EvaluationStore(study.search_store, run=run + suffix)


def island_plan(search: SearchSection, round_index: int) -> IslandPlan:
    """Return how one round's budget is spread over islands.

    Raises:
        DesignError: there are fewer evaluations than islands and exchanges.
    """
    section = search.islands
    assert section is not None, "asked for by who has checked"
    return IslandPlan(
        n_islands=section.n_islands,
        n_epochs=section.n_exchanges + 1,
        n_evaluations=n_evaluations_of(search, round_index),
        n_migrants=section.n_migrants,
    )


def scaling_dimensions(
    space: SearchSpace, section: ScalingSection
) -> dict[float, NDArray[np.int64]]:
    """Return the genes that compound scaling moves, by their rate.

    Raises:
        DesignError: a kind of genes that the space does not have, or whose values are mere names.
    """
    ordered = np.array([gene.is_ordered for gene in space.genes])
    return dimensions_of(tuple(gene.name for gene in space.genes), ordered, section.rates)


def _scaled(setting: Setting, problem: Problem, archive: Archive) -> Archive:
    """Add what compound scaling makes of designs along the front."""
    section = setting.study.config.search.scaling
    assert section is not None, "asked for by who has checked"
    genomes = scaled_genomes(
        problem,
        archive.spread(section.n_designs),
        scaling_dimensions(setting.space, section),
        n_steps=section.n_steps,
    )
    parallel = Parallel(executor=None, chunk_size=EVALUATION_CHUNK)
    grown = archive.add(genomes, evaluate(problem, genomes, parallel))
    setting.reporter.message(
        f"compound scaling: {int((grown.found_at >= archive.n_evaluations).sum())} of {len(genomes)} scaled"
        " designs join the front"
    )
    return grown


def front_points(setting: Setting, archive: Archive) -> list[FrontPoint]:
    """Describe a Pareto archive, least error first."""
    candidates = setting.candidates(archive.genomes)
    points = []
    for i in np.argsort(archive.objectives[:, 0], kind="stable"):
        values = {name: float(v[i]) for name, v in archive.metrics.items()}
        points.append(
            FrontPoint(
                digest=candidates[i].digest,
                genome=archive.genomes[i].tolist(),
                layers=spell_layers(candidates[i]),
                flow=candidates[i].hardware.flow,
                io_type=candidates[i].hardware.io_type,
                clock_mhz=float(period_to_mhz(values.pop("clock_period_ns"))),
                score=values.pop("score"),
                score_std=values.pop("score_std"),
                **values,
            )
        )
    return points


def spell_layers(candidate: Candidate) -> list[str]:
    """Return one line per node of a candidate, for people."""
    hardware = candidate.hardware
    lines = []
    for node in candidate.network.nodes:
        facts = [f"{name.replace('_', ' ')} {value:g}" for name, value in node.parameters.items()]
        facts += [f"reads {' and '.join(node.inputs)}"] if len(node.inputs) > 1 else []
        if node.name in hardware.strategy:
            facts.append(hardware.strategy[node.name].replace("_", " "))
            facts.append(f"reuse factor {hardware.reuse_factor[node.name]}")
        lines.append(f"{node.name}: {', '.join(facts)}" if facts else node.name)
    return lines


def _informative_genomes(
    setting: Setting, archive: Archive, known: list[tuple[float, Candidate]], n: int
) -> NDArray[np.int64]:
    """Choose front candidates whose training is expected to improve the front most; none twice."""
    if not known:
        return archive.genomes[np.argsort(archive.metrics["score"])[-n:]]
    trained = [candidate for _, candidate in known]
    scores = setting.scorer.score(population_from_candidates(trained))
    labelled_points = np.column_stack(
        [
            [label for label, _ in known],
            scores.metrics["lut"].value,
            scores.metrics["latency_ns"].value,
        ]
    )
    done = {label_key(candidate) for candidate in trained}
    keys = [label_key(c) for c in setting.candidates(archive.genomes)]
    fresh = np.array(
        [i for i, key in enumerate(keys) if key not in done and keys.index(key) == i],
        dtype=np.int64,
    )
    if fresh.size == 0:
        return archive.genomes[:0]
    metrics = archive.metrics
    chosen = select_informative(
        metrics["score"][fresh],
        metrics["score_std"][fresh],
        np.stack([metrics["lut"][fresh], metrics["latency_ns"][fresh]], axis=1),
        front=labelled_points,
        n=n,
    )
    return archive.genomes[fresh[chosen]]
