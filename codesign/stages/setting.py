"""What all stages of a study share, built from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.population import encode_population
from codesign.hardware.device import Budget, Device, load_budget, load_device
from codesign.hardware.learned_cost import LearnedCostModel
from codesign.hardware.scorer import HardwareScorer, HardwareScores
from codesign.ir import Candidate, Population
from codesign.joint import JointProblem, limit_problem, make_reward
from codesign.metrics import Metric
from codesign.pools import open_pool
from codesign.predictor.base import Predictor
from codesign.reporter import Reporter, SilentReporter
from codesign.results import Costs, Interval, Labels, Results, ScoreKind
from codesign.search.problem import Problem
from codesign.search.strategies.base import StrategySettings
from codesign.space import SearchSpace, candidates_from_population, load_space
from codesign.study import Study
from codesign.synthesis.estimates import open_coefficients
from codesign.tasks import InputScaling, TaskData, fit_scaling, load_task
from codesign.training.options import TaskArrays

#: Networks trained together at most: larger groups amortise the cost of a step (docs/training.md).
MAX_CHUNK: Final = 384
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
    """What all stages of a study share.

    Attributes:
        study: configuration and folder.
        reporter: is told how far a stage is.
        executor: shares the work of all stages; None: each opens its own.
        coefficients_origin: where the cost laws' coefficients come from: the user's own calibration
            (`codesign calibrate`) where there is one, else those that ship.
        dask: address of a dask scheduler whose workers do the work; None: processes of this machine.
    """

    study: Study
    task: TaskData
    scaling: InputScaling
    space: SearchSpace
    device: Device
    budget: Budget
    scorer: HardwareScorer
    coefficients_origin: str
    reporter: Reporter
    dask: str | None = None
    executor: Executor | None = None

    def pool(self, n_workers: int | None = None) -> AbstractContextManager[Executor | None]:
        """Give the executor that a stage divides its work over; see `codesign.pools.open_pool`.

        Args:
            n_workers: None: the study's own.
        """
        if n_workers is None and self.executor is not None:
            return nullcontext(self.executor)
        return open_pool(n_workers, dask=self.dask)

    @property
    def precision(self) -> Literal["uniform", "learned"]:
        """How finalists are trained: as the space says where its widths are learned, else as the study does."""
        return "learned" if self.space.learns_widths else self.study.config.train.precision

    def arrays(self) -> TaskArrays:
        """Return the task's rows as the network sees them: scaled, float32."""
        return TaskArrays.of(self.task, self.scaling)

    def candidates(self, genomes: NDArray[np.int64] | list[list[int]]) -> list[Candidate]:
        """Spell genomes out as candidates for the study's device."""
        return candidates_from_population(
            self.space.decode(self.genomes(genomes)), part=self.device.part
        )

    def genomes(self, rows: NDArray[np.int64] | list[list[int]]) -> NDArray[np.int64]:
        """Return genomes as int64[n, n_genes], also where there are none."""
        return np.array(rows, dtype=np.int64).reshape(-1, self.space.upper.size)


def open_setting(
    study: Study,
    reporter: Reporter | None = None,
    *,
    dask: str | None = None,
    executor: Executor | None = None,
) -> Setting:
    """Load task, space, device and budget of a study.

    Raises:
        CodesignError: one of them is missing or wrong; the message names it.
    """
    from codesign.stages import given  # it is built on this module

    config = study.config
    device, budget = load_device(config.device), load_budget(config.budget)
    coefficients, origin = open_coefficients(None)
    reporter = reporter or SilentReporter()
    task = load_task(config.task.source, config.task.options) if config.has_task else None
    if config.network is not None:
        given.import_given(study, part=device.part, task=task, reporter=reporter)
    if task is None:
        task = given.answers_task(study)
    scaling = fit_scaling(task, method=config.task.scaling if config.has_task else "none")
    if config.network is not None:
        given.shrink_given(study, TaskArrays.of(task, scaling), reporter)
    return Setting(
        study=study,
        task=task,
        scaling=scaling,
        space=load_space(config.space, n_inputs=task.input_shape, n_outputs=task.n_outputs)
        if config.network is None
        else given.space_of(study),
        device=device,
        budget=budget,
        scorer=HardwareScorer(device=device, coefficients=coefficients),
        coefficients_origin=origin,
        reporter=reporter,
        dask=dask,
        executor=executor,
    )


def with_learned_costs(setting: Setting, earlier: Results) -> Setting:
    """Return the setting with a scorer that knows what labels so far cost, where widths are learned."""
    if not setting.space.learns_widths:
        return setting
    made = earlier.of(Labels)
    genomes = [row for labels in made for row in labels.genomes]
    costs = [row for labels in made for row in labels.costs]
    population = setting.space.decode(setting.genomes(genomes)) if genomes else None
    learned = LearnedCostModel.of(population, costs)
    return replace(setting, scorer=replace(setting.scorer, learned=learned))


# ---- what is searched ------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class PredictorScore:
    """A fitted predictor as the search's score model; goes to worker processes."""

    predictor: Predictor

    def __call__(self, population: Population) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        predicted = self.predictor.predict(encode_population(population))
        return predicted.mean, np.nan_to_num(predicted.std, nan=0.0)


def unknown_score(
    population: Population,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Answer 0 for every candidate: for questions that score has no part in."""
    return np.zeros(population.n_candidates), np.zeros(population.n_candidates)


def make_problem(setting: Setting, score: Callable[[Population], tuple[Any, Any]]) -> Problem:
    """Build what the search optimises: the joint problem, behind cheap limits where there are any."""
    search, limit = setting.study.config.search, setting.budget.minimum_score
    metric = setting.task.target.score.metric
    problem = JointProblem(
        space=setting.space,
        scorer=setting.scorer,
        budget=setting.budget,
        minimum_score=None if limit is None else float(metric.merit(limit)),
        score=score,
        objectives=search.objectives,
        pessimism=1.0 if search.score_of == "pessimistic" else 0.0,
        score_confidence=search.score_confidence,
        hardware_confidence=0.5 if search.hardware_of == "mean" else None,
    )
    if search.filter is None:
        return problem
    return limit_problem(problem, search.filter, setting.space, setting.scorer)


def strategy_settings(setting: Setting, initial: NDArray[np.int64] | None) -> StrategySettings:
    """Return what a strategy is told: population, reward, first genomes."""
    search = setting.study.config.search
    return StrategySettings(
        population_size=search.population_size,
        reward=None if search.reward is None else make_reward(search.reward),
        initial=initial,
    )


# ---- figures ---------------------------------------------------------------------------------------
def score_kinds(task: TaskData) -> dict[str, ScoreKind]:
    """Return what each head is judged by; and as "events", what the test rows' events are judged by."""
    kinds = {head.name: _kind(head.metric, head.unit) for head in task.target.heads}
    if task.events is not None:
        kinds["events"] = _kind(task.events.metric, "")
    return kinds


def _kind(metric: Metric, unit: str) -> ScoreKind:
    return ScoreKind(name=metric.title, unit=unit, higher_is_better=metric.larger_is_better)


def costs_of(scores: HardwareScores, i: int) -> Costs:
    """Return the predicted metrics of candidate i, each with its 90 % interval."""
    known = {name: scores.metrics[name] for name in _METRICS}
    return {
        name: Interval(value=float(e.value[i]), low=float(e.low[i]), high=float(e.high[i]))
        for name, e in known.items()
    }


def at_tool_stage(setting: Setting, tool_stage: str) -> HardwareScorer:
    """Return the study's scorer, speaking of another stage of the vendor's flow."""
    return replace(setting.scorer, stage=tool_stage)
