"""A study is a list of stages: prepare, rounds of (label, fit, search), train, synthesize, choose,
export, report.

`stages_of` returns that list.  A stage leaves one result in the study folder, with the digest of
everything that the result depends on; `run_study` skips a stage whose result is there with the right
digest, so a killed run resumes and ends in the same result, and a study whose configuration changes
does only that again which the change touches.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final

from codesign.checks import check_choices
from codesign.errors import ConfigError, unknown_name
from codesign.pools import open_pool
from codesign.reporter import Reporter
from codesign.results import KINDS, SCHEMA, Result, Results
from codesign.stages import (
    choose,
    export,
    fit,
    given,
    label,
    prepare,
    report,
    search,
    share,
    synthesize,
    train,
)
from codesign.stages.effort import Effort, expected_effort
from codesign.stages.setting import Setting, open_setting
from codesign.study import Study, StudyConfig

#: Kinds of stages, in order: what `until` may say.
STAGES: Final = tuple(kind.KIND for kind in KINDS if kind.KIND != "tool_runs")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a study.

    Attributes:
        name: its kind, and the round where there are rounds: "search_2".
        kind: one of `STAGES`.
        run: the work.
        keys: keys of the configuration that its result depends on, dotted; what earlier stages
            depend on comes with these.
        facts: further values that it depends on.
    """

    name: str
    kind: str
    run: Callable[[Setting, Results], Result]
    keys: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def stages_of(config: StudyConfig) -> list[Stage]:
    """Return the stages of a study, in order."""

    def single(module: ModuleType) -> Stage:
        kind = module.__name__.rpartition(".")[2]
        return Stage(name=kind, kind=kind, run=module.run, keys=module.KEYS)

    def in_round(module: ModuleType, k: int, **facts: Any) -> Stage:
        kind = module.__name__.rpartition(".")[2]
        return Stage(
            name=f"{kind}_{k}",
            kind=kind,
            run=partial(module.run, round_index=k),
            keys=module.KEYS,
            facts=facts,
        )

    if config.network is not None:
        return _stages_of_network()
    stages = [single(prepare)]
    n_rounds = config.search.n_rounds
    for k in range(1, n_rounds + 1):
        stages += [in_round(label, k), in_round(fit, k)]
        if k == 1 and config.search.weight_sharing is not None:
            stages.append(single(share))
        n_per_round = config.labels.n_per_round if k < n_rounds else 0
        n_evaluations = search.n_evaluations_of(config.search, k)
        stages.append(in_round(search, k, n_evaluations=n_evaluations, n_to_label=n_per_round))
    return stages + [single(m) for m in (train, synthesize, choose, export, report)]


def _stages_of_network() -> list[Stage]:
    """Return the stages of a study of a network that was trained elsewhere: nothing is labelled or trained."""
    own = {
        "prepare": (given.prepare, ("seed", "network")),
        "search": (given.search, ()),
        "train": (given.train, train.KEYS),
        "choose": (given.choose_given, ()),
        "export": (export.run, export.KEYS),
        "report": (report.run, report.KEYS),
    }
    return [Stage(name=k, kind=k, run=run, keys=keys) for k, (run, keys) in own.items()]


def digests_of(stages: list[Stage], setting: Setting) -> dict[str, str]:
    """Return per stage a digest of everything that its result depends on: its own keys, and all before."""
    config = setting.study.config.model_dump(mode="json", by_alias=True)
    known: Any = [
        SCHEMA,
        setting.task.digest,
        config["space"],
        [[gene.name, [str(v) for v in gene.domain]] for gene in setting.space.genes],
        setting.device.model_dump(),
        setting.budget.model_dump(),
        setting.coefficients_origin,
    ]
    digests = {}
    for stage in stages:
        known = [known, stage.name, {k: _value(config, k) for k in stage.keys}, dict(stage.facts)]
        text = json.dumps(known, sort_keys=True)
        digests[stage.name] = known = hashlib.sha256(text.encode()).hexdigest()[:16]
    return digests


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def run_study(
    study: Study,
    *,
    until: str = "report",
    reporter: Reporter | None = None,
    dask: str | None = None,
) -> None:
    """Run a study up to and including the stages of kind `until`; what is done is skipped.

    Args:
        study: the study; its folder is made when it has passed all checks.
        until: one of `STAGES`.
        reporter: is told how far a stage is.
        dask: address of a dask scheduler to work on; the results are those of one machine.

    Raises:
        CodesignError: whatever a stage refuses; the study folder stays valid and resumes.
    """
    if until not in STAGES:
        raise ConfigError(unknown_name("stage", until, STAGES))
    setting = _open_checked(study, reporter, dask=dask)
    study.begin()
    with open_pool(dask=dask) as executor:
        _run_stages(replace(setting, executor=executor), until)


def _open_checked(
    study: Study, reporter: Reporter | None = None, *, dask: str | None = None
) -> Setting:
    """Load what a study names, and refuse all that a stage would refuse; no folder is made for one that is wrong."""
    check_choices(study.config, where=study.config.name)
    setting = open_setting(study, reporter, dask=dask)
    if study.config.network is None:
        prepare.check(setting)
    return setting


def _run_stages(setting: Setting, until: str) -> None:
    study = setting.study
    stages = stages_of(study.config)
    last = max(
        i for i, stage in enumerate(stages) if STAGES.index(stage.kind) <= STAGES.index(until)
    )
    digests = digests_of(stages, setting)
    for name in stale_results(study, digests):
        setting.reporter.message(f"{name}: what it depends on has changed; done again")
        study.forget(name)
    done = dict(study.results().items())
    known: dict[str, Result] = {}
    for stage in stages[: last + 1]:
        found = done.get(stage.name)
        if found is None:
            started_s = time.monotonic()
            found = stage.run(setting, Results(known)).model_copy(
                update={
                    "depends_on": digests[stage.name],
                    "seconds": time.monotonic() - started_s,
                }
            )
            study.record(stage.name, found)
        known[stage.name] = found


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """What a run would do with one stage.

    Attributes:
        name: of the stage.
        state: "done", "to do", or "again": what it depends on has changed since.
        effort: what it does, and about how long.
    """

    name: str
    state: str
    effort: Effort


def plan_study(folder: Path, config: StudyConfig) -> list[PlannedStage]:
    """Check a study as a run would before its first label, and say what the run would do; writes nothing.

    Raises:
        CodesignError: whatever the run would refuse.
    """
    study = Study.at(folder, config)
    known = dict(study.results().items())
    planned, is_changed = [], False
    with TemporaryDirectory(prefix="codesign-") as scratch:
        if config.network is not None and "imported" not in known:
            study = replace(study, folder=Path(scratch))  # reading a network stores it
        setting, stages = _open_checked(study), stages_of(config)
        digests = digests_of(stages, setting)
        for stage in stages:
            found = known.get(stage.name)
            is_changed = is_changed or (
                found is not None and found.depends_on != digests[stage.name]
            )
            state = "to do" if found is None else "again" if is_changed else "done"
            _, _, tail = stage.name.partition("_")
            effort = expected_effort(setting, stage.kind, int(tail or 0))
            planned.append(PlannedStage(name=stage.name, state=state, effort=effort))
    return planned


def stale_results(study: Study, digests: Mapping[str, str]) -> list[str]:
    """Return the names of stored results that depend on something that has changed since."""
    return [
        name
        for name, result in study.results().items()
        if result.depends_on and digests.get(name) != result.depends_on
    ]
