"""Stage "prepare": what the study is about; and what its data refuse, before the first label is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.checks import told
from codesign.errors import ConfigError
from codesign.hardware.scorer import limits
from codesign.joint import check_budget
from codesign.results import BudgetFacts, Preparation, Results, SpaceFacts
from codesign.search.strategies.base import make_strategy
from codesign.stages.export import require_rate
from codesign.stages.search import island_plan, scaling_dimensions
from codesign.stages.setting import (
    Setting,
    make_problem,
    score_kinds,
    strategy_settings,
    unknown_score,
)
from codesign.stages.share import open_sharing
from codesign.stages.statistics import require_judgeable
from codesign.training.anomaly import evidence_of
from codesign.training.benchmark import shipped_labels

#: Where the result comes from is what the whole study is about.
KEYS = ("seed",)


def run(setting: Setting, earlier: Results) -> Preparation:
    """Say what the study is about; `check` has passed.

    Raises:
        BudgetError: hardly any pair of the space fits the budget.
    """
    share = check_budget(
        setting.space, setting.scorer, setting.budget, seed=setting.study.config.seed
    )
    for item in setting.task.checks:
        if item.outcome == "noted":
            setting.reporter.message(f"data: {item.detail}")
    setting.reporter.message(
        f"task {setting.task.benchmark}: {len(setting.task.y_train)} training, {len(setting.task.y_test)} test events;"
        f" space {setting.space.name}: 10^{setting.space.log10_size:.1f} pairs, {100 * share:.2f} % of random ones fit"
        f" {setting.budget.name} on {setting.device.name}"
    )
    return preparation(setting, feasible_share=share)


def preparation(setting: Setting, *, feasible_share: float) -> Preparation:
    """Return what the study is about.

    Args:
        setting: the study.
        feasible_share: of random pairs of its space, those that fit the budget.
    """
    kinds = score_kinds(setting.task)
    score = kinds[setting.task.target.score.name]
    return Preparation(
        score=score,
        test_score=kinds.get("events", score),
        task=setting.task.summary(),
        scaling=setting.scaling.to_json(),
        space=SpaceFacts(
            name=setting.space.name,
            log10_size=setting.space.log10_size,
            feasible_share=feasible_share,
        ),
        device=setting.device.model_dump(),
        budget=BudgetFacts(
            name=setting.budget.name,
            limits=limits(setting.budget, setting.device),
            tool_stage=setting.scorer.stage,
            source=setting.budget.source,
        ),
        coefficients=setting.coefficients_origin,
    )


def check(setting: Setting) -> None:
    """Refuse, before the study has a folder, what does not fit its data, space and device.

    `codesign.checks` has refused what needs none of these.

    Raises:
        DesignError: what, and why.
    """
    config, labels = setting.study.config, setting.study.config.labels
    require_judgeable(setting.arrays(), n_splits=config.train.n_splits)
    if config.export.trigger_bit:
        require_rate(setting.task)
    least, metric = setting.budget.minimum_score, setting.task.target.score.metric
    if least is not None and (least > 1 if metric.larger_is_better else least < 0):
        best = "at most 1" if metric.larger_is_better else "at least 0"
        raise ConfigError(
            f"budget {setting.budget.name}: minimum_score is {least:g}, but {metric.name} is {best}; correct it"
        )
    genome = setting.space.sample(1, np.random.default_rng(0))
    if setting.task.target.score.kind == "anomaly":
        evidence_of(setting.candidates(genome)[0].network)
        if setting.precision == "learned":
            raise ConfigError(
                "train.precision: an anomaly score is trained at the widths of its candidates; set it to uniform"
            )
    if setting.space.learns_widths:
        _check_learned(setting)
    if labels.n_shipped:
        shipped_labels(setting.task.benchmark, space=setting.space.name, n=labels.n_shipped)
    if config.search.islands is not None:
        with told("search.islands"):
            island_plan(config.search, config.search.n_rounds)
    if config.search.scaling is not None:
        with told("search.scaling"):
            scaling_dimensions(setting.space, config.search.scaling)
    with told("search.filter"):
        problem = make_problem(setting, unknown_score)
    with told("search.strategy"):
        settings = strategy_settings(setting, None)
        make_strategy(config.search.strategy, problem, seed=0, settings=settings)
    if config.search.weight_sharing is not None:
        open_sharing(setting)
    scored = problem.evaluate(genome)
    if settings.reward is not None:
        with told("search.reward"):
            settings.reward(
                replace(scored, objectives=np.ones_like(scored.objectives)),
                problem.objective_names,
            )


def _check_learned(setting: Setting) -> None:
    """Refuse what knows widths only that are stated.

    Raises:
        ConfigError: what, and what to do.
    """
    config, name = setting.study.config, setting.space.name
    for key, is_asked in (
        ("labels.n_shipped", config.labels.n_shipped > 0),
        ("labels.start_from", config.labels.start_from == "shipped"),
        ("search.weight_sharing", config.search.weight_sharing is not None),
    ):
        if is_asked:
            raise ConfigError(
                f"{key}: knows networks of stated widths only, and space {name!r} learns them; leave it out, or choose a"
                " space of uniform precision"
            )
