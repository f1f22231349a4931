"""Designs that weight sharing proposes: for the archive of a study, or to be trained and compared.

Shared weights know architectures and precisions; flow, clock, strategy and reuse cost them nothing
to change.  So every architecture brings all its hardware variants, which the cost model ranks:
`hardware_variants`.  Two sources of architectures:

- a supernet, searched by the default strategy with the shared weights as the evaluator;
- differentiable runs at several prices of hardware, whose learnt distributions are sampled, the
  samples ranked by the weights that the runs leave behind.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.hardware.device import Budget
from codesign.hardware.scorer import HardwareScorer, constraint_names, violations
from codesign.search._elastic import ElasticMLP, Layout, complete, layout_of, plain_base
from codesign.search.archive import Archive, archive_of, empty_archive
from codesign.search.differentiable import DifferentiableOptions, search_differentiable
from codesign.search.expected_cost import ExpectedCost, tabulate_cost
from codesign.search.loop import run_search
from codesign.search.metrics import normalized_hypervolume
from codesign.search.problem import Booleans, Evaluation, Floats, Genomes
from codesign.search.supernet import (
    Supernet,
    SupernetOptions,
    shared_score,
    train_supernet,
)
from codesign.space import SearchSpace
from codesign.training.options import TaskArrays

#: Strategy that searches over shared weights.
STRATEGY: Final = "directed_nsga2"
#: What the proposals trade: error under shared weights, and two costs.
OBJECTIVES: Final = ("error", "latency_ns", "lut")
#: How the names of genes that cannot change the score begin.
HARDWARE_GENES: Final = ("flow", "io_type", "clock_mhz", "strategy_", "reuse_factor_")
#: Rows of the training set that shared weights are judged on, and that calibrate batch norm.
N_JUDGED, N_CALIBRATION = 1000, 768
#: Feasible designs that a supernet is trained for.
N_FEASIBLE: Final = 4000
#: Evaluations with shared weights in `propose`; about 0.01 s each.
N_SHARED: Final = 1500


@dataclass(frozen=True, kw_only=True)
class SharedSpace:
    """The part of a space whose designs share weights, and what they are for.

    Attributes:
        space: of multilayer perceptrons.
        layout: its plain chains.
        scorer: predicts cost.
        budget: hard limits.
        task: standardised arrays; the test rows are not read.
    """

    space: SearchSpace
    layout: Layout
    scorer: HardwareScorer
    budget: Budget
    task: TaskArrays

    def costs(self, genomes: Genomes) -> Floats:
        """Return float[n, 2], LUT and latency in ns: what differentiable search pays for."""
        scores = self.scorer.score(self.space.decode(self.space.canonicalize(genomes)))
        return np.stack([scores.metrics[name].value for name in ("lut", "latency_ns")], axis=1)

    def sample_feasible(self, n: int, *, seed: int) -> Genomes:
        """Draw up to n distinct elastic designs that fit the budget, canonical int64[k, n_var].

        Raises:
            DesignError: none of 40 n random ones fits.
        """
        generator = np.random.default_rng(seed)
        columns = self.layout.elastic_columns
        kept = np.zeros((0, len(self.layout.base)), dtype=np.int64)
        for _ in range(20):
            size = (2 * n, len(columns))
            drawn = generator.integers(0, self.space.upper[columns] + 1, size=size)
            full = self.space.canonicalize(complete(self.layout, drawn, columns))
            scores = self.scorer.score(self.space.decode(full))
            fits = (violations(scores, self.budget, self.scorer.device) <= 0).all(axis=1)
            kept = np.unique(np.concatenate([kept, full[fits]]), axis=0)
            if len(kept) >= n:
                break
        if len(kept) == 0:
            raise DesignError(
                f"none of {40 * n} random plain chains of space {self.space.name!r} fits budget "
                f"{self.budget.name!r}; relax it, or leave weight sharing out"
            )
        return generator.permutation(kept)[:n]

    @property
    def limits(self) -> Floats:
        """float[2], the budget's limits of `costs`."""
        return np.array([self.budget.limit("lut", self.scorer.device), self.budget.latency_ns])


def share(
    space: SearchSpace, scorer: HardwareScorer, budget: Budget, task: TaskArrays
) -> SharedSpace:
    """Set up weight sharing over the plain chains of a space.

    Raises:
        DesignError: the space has none.
    """
    if not task.target.is_one_class_label or task.target.heads[0].kind != "classes":
        raise DesignError(
            "weight sharing trains one head of classes only; leave search.weight_sharing out for this task"
        )
    layout = layout_of(space, plain_base(space))
    return SharedSpace(space=space, layout=layout, scorer=scorer, budget=budget, task=task)


@dataclass(frozen=True, kw_only=True)
class SharedProblem:
    """The elastic genes of a shared space as a problem, judged by shared weights.

    Attributes:
        shared: the space.
        model: the shared weights.
    """

    shared: SharedSpace
    model: ElasticMLP
    objective_names: tuple[str, ...] = OBJECTIVES

    @property
    def upper(self) -> NDArray[np.int64]:
        """See `Problem`."""
        return self.shared.space.upper[self.shared.layout.elastic_columns]

    @property
    def ordered(self) -> Booleans:
        """See `Problem`."""
        every = np.array([gene.is_ordered for gene in self.shared.space.genes])
        return every[self.shared.layout.elastic_columns]

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """See `Problem`."""
        return constraint_names(self.shared.budget)

    def full(self, genomes: Genomes) -> Genomes:
        """Return int64[n, n_var], canonical genomes of the whole space."""
        layout = self.shared.layout
        return self.shared.space.canonicalize(complete(layout, genomes, layout.elastic_columns))

    def canonicalize(self, genomes: Genomes) -> Genomes:
        """See `Problem`."""
        return self.full(genomes)[:, self.shared.layout.elastic_columns]

    def evaluate(self, genomes: Genomes) -> Evaluation:
        """See `Problem`; the weights are asked about designs that fit only."""
        return evaluate_shared(self.shared, self.model, self.full(genomes))


def evaluate_shared(shared: SharedSpace, model: ElasticMLP, genomes: Genomes) -> Evaluation:
    """Score full canonical genomes: error by shared weights, cost by the hardware model."""
    scores = shared.scorer.score(shared.space.decode(genomes))
    excess = violations(scores, shared.budget, shared.scorer.device)
    fits = (excess <= 0).all(axis=1)
    error = np.ones(len(genomes))
    if fits.any():
        error[fits] = 1.0 - shared_score(
            model, genomes[fits], shared.task, n_rows=N_JUDGED, n_calibration=N_CALIBRATION
        )
    columns = [error, scores.metrics["latency_ns"].value, scores.metrics["lut"].value]
    return Evaluation(objectives=np.column_stack(columns), violations=excess)


def hardware_variants(
    space: SearchSpace, scorer: HardwareScorer, budget: Budget, genomes: Genomes
) -> Genomes:
    """Return every architecture with the hardware configurations that pay for it.

    For each genome: all clocks, as plain RTL and as HLS with each strategy and reuse factor alike in
    all layers.  Kept are those which fit the budget and on which no other of the same architecture
    improves in latency and LUT both.

    Args:
        space: a space of networks with the genes flow, clock_mhz, strategy_* and reuse_factor_*.
        scorer: predicts cost.
        budget: hard limits.
        genomes: int64[n, n_var].

    Returns:
        int64[k, n_var], canonical, distinct, grouped in the order of `genomes`.
    """
    names = [gene.name for gene in space.genes]
    stems = [[i for i, name in enumerate(names) if name.startswith(s)] for s in HARDWARE_GENES]
    groups = [columns for columns in stems if columns]
    domains = [range(len(space.genes[columns[0]].domain)) for columns in groups]
    choices = np.array(list(itertools.product(*domains)), dtype=np.int64)
    n, n_choices = len(genomes), len(choices)
    every = np.repeat(genomes, n_choices, axis=0)
    for columns, values in zip(groups, choices.T, strict=True):
        every[:, columns] = np.tile(values, n)[:, None]
    every = space.canonicalize(every)
    owner = np.repeat(np.arange(n), n_choices)
    _, first = np.unique(every, axis=0, return_index=True)
    rows = np.sort(first)
    every, owner = every[rows], owner[rows]
    scores = scorer.score(space.decode(every))
    excess = violations(scores, budget, scorer.device)
    costs = np.column_stack([scores.metrics[name].value for name in ("latency_ns", "lut")])
    kept: list[NDArray[np.int64]] = []
    for i in range(n):
        mine = np.flatnonzero(owner == i)
        front = archive_of(
            _Costs(upper=space.upper),
            every[mine],
            Evaluation(objectives=costs[mine], violations=excess[mine]),
        )
        kept.append(mine[front.found_at])
    return every[np.concatenate(kept)] if kept else every[:0]


@dataclass(frozen=True, kw_only=True)
class _Costs:
    """Names of two costs, for an archive of one architecture's variants."""

    upper: NDArray[np.int64]
    objective_names: tuple[str, ...] = ("latency_ns", "lut")
    constraint_names: tuple[str, ...] = ()

    @property
    def ordered(self) -> Booleans:
        return np.ones(len(self.upper), dtype=bool)

    def canonicalize(self, genomes: Genomes) -> Genomes:
        return genomes

    def evaluate(self, genomes: Genomes) -> Evaluation:
        raise DesignError("costs are given, not asked for")


def search_supernet(
    supernet: Supernet, shared: SharedSpace, *, n_evaluations: int, seed: int
) -> Archive:
    """Search with a supernet as the evaluator of score.

    Returns:
        Archive of full genomes of the space.
    """
    problem = SharedProblem(shared=shared, model=supernet.model)
    found = run_search(problem, STRATEGY, n_evaluations=n_evaluations, seed=seed)
    return replace(found, genomes=problem.full(found.genomes))


def search_prices(
    shared: SharedSpace,
    method: str,
    prices: Sequence[float],
    *,
    epochs: int,
    seed: int,
    n_samples: int = 96,
    cost: ExpectedCost | None = None,
    progress: Callable[[float], None] | None = None,
) -> Archive:
    """Run a differentiable search once per price of hardware, and rank what it learnt.

    Of each run the most likely design and samples of its distribution, each at every pruned
    fraction, are scored by the run's own weights; the archive joins the runs.

    Args:
        shared: the space.
        method: one of `differentiable.METHODS`.
        prices: weights of the expected cost in the loss.
        epochs: of each run.
        seed: fixes everything.
        n_samples: designs drawn from each distribution.
        cost: expected cost, if it is known already.
        progress: told the share done.

    Returns:
        Archive of full genomes of the space.
    """
    space, layout = shared.space, shared.layout
    known = tabulate_cost(layout, shared.costs) if cost is None else cost
    archive = empty_archive(SharedProblem(shared=shared, model=ElasticMLP(layout, seed=seed)))
    archive = replace(archive, genomes=np.zeros((0, len(space.upper)), dtype=np.int64))
    for i, price in enumerate(prices):
        found = search_differentiable(
            layout,
            shared.task,
            known,
            shared.limits,
            DifferentiableOptions(method=method, epochs=epochs, cost_weight=price),
            seed=seed + i,
            n_samples=n_samples,
        )
        genomes = space.canonicalize(_pruned_variants(layout, found.genomes))
        _, first = np.unique(genomes, axis=0, return_index=True)
        genomes = genomes[np.sort(first)]
        archive = archive.add(genomes, evaluate_shared(shared, found.model, genomes))
        if progress is not None:
            progress((i + 1) / len(prices))
    return archive


def _pruned_variants(layout: Layout, genomes: Genomes) -> Genomes:
    """Repeat genomes with every pruned fraction, alike in all layers."""
    columns = [layout.index[name] for name in layout.elastic if name.startswith("pruned")]
    n_fractions = len(layout.values["pruned_fraction_1"])
    every = np.repeat(genomes, n_fractions, axis=0)
    every[:, columns] = np.tile(np.arange(n_fractions), len(genomes))[:, None]
    return every


def propose(
    shared: SharedSpace,
    method: str,
    *,
    epochs: int,
    prices: Sequence[float],
    n_designs: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Genomes:
    """Search with shared weights, and return what is worth an evaluation by somebody else.

    Args:
        shared: the space.
        method: "supernet", or one of `differentiable.METHODS`.
        epochs: of each differentiable run; of the supernet's last phase.
        prices: of hardware, one differentiable run each; the supernet has no use for them.
        n_designs: architectures at most.
        seed: fixes everything.
        progress: told the share done.

    Returns:
        int64[k, n_var], canonical genomes that fit the budget, all hardware variants included.
    """
    if method == "supernet":
        options = SupernetOptions(epochs=(2, 1, 1, epochs))
        supernet = train_supernet(
            shared.layout,
            shared.task,
            options,
            seed=seed,
            feasible=shared.sample_feasible(N_FEASIBLE, seed=seed),
            progress=progress,
        )
        archive = search_supernet(supernet, shared, n_evaluations=N_SHARED, seed=seed)
    else:
        archive = search_prices(shared, method, prices, epochs=epochs, seed=seed, progress=progress)
    chosen = pick(shared.space, archive, n_designs)
    return hardware_variants(shared.space, shared.scorer, shared.budget, chosen)


def architecture_keys(space: SearchSpace, genomes: Genomes) -> Genomes:
    """Return genomes without their hardware configuration: equal for designs of equal score."""
    keys = genomes.copy()
    for i, gene in enumerate(space.genes):
        if gene.name.startswith(HARDWARE_GENES):
            keys[:, i] = 0
    return keys


def pick(space: SearchSpace, archive: Archive, n: int, *, margin: float = 0.1) -> Genomes:
    """Pick up to n architectures that dominate most of the objective space together.

    Greedily by hypervolume, among designs whose error is within `margin` of the best one's: the
    inaccurate end of a front is of no use to anybody.

    Args:
        space: tells architecture from hardware configuration.
        archive: full genomes; the first objective is the error.
        n: how many.
        margin: in units of score.
    """
    if len(archive) == 0:
        return archive.genomes
    objectives = archive.objectives
    near = np.flatnonzero(objectives[:, 0] <= objectives[:, 0].min() + margin)
    _, owner = np.unique(
        architecture_keys(space, archive.genomes[near]), axis=0, return_inverse=True
    )
    owner = owner.reshape(-1)
    box = {"ideal": objectives[near].min(axis=0), "nadir": objectives[near].max(axis=0)}
    taken: list[int] = []
    covered = objectives[:0]
    for _ in range(min(n, len(np.unique(owner)))):
        free = np.flatnonzero(~np.isin(owner, owner[taken]))
        volumes = [
            normalized_hypervolume(np.vstack([covered, objectives[near[i]]]), **box) for i in free
        ]
        best = int(free[int(np.argmax(volumes))])
        taken.append(best)
        covered = np.vstack([covered, objectives[near[best]]])
    return archive.genomes[near[taken]]
