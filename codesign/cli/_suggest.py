"""Glue for `codesign calibrate --suggest`: a study's front and space to the designs to synthesise next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.errors import CalibrationError, StudyError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

    from codesign.ir import Candidate
    from codesign.stages.setting import Setting
    from codesign.synthesis.experiments import Responses
    from hw_models.calibration import Coefficients

#: Random designs of the space that compete with the front's own.
N_SAMPLES = 400
#: Epochs that give the projects of untrained candidates realistic weights.
EPOCHS = 3


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A design to synthesise next.

    Attributes:
        digest: of the candidate.
        is_on_front: it lies on the study's front.
        flow: "rtl" or "hls".
        lut: predicted LUTs.
        front_std: mean log standard deviation of the front's estimates once this and the ones above
            it are reported.
        project: folder of its project, None when none was asked for.
        candidate: JSON of the candidate.
    """

    digest: str
    is_on_front: bool
    flow: str
    lut: float
    front_std: float
    project: str | None
    candidate: dict[str, Any]


def suggest_for_study(
    folder: Path,
    n: int,
    *,
    base: Path | None,
    projects: Path | None,
    report: Callable[[str], None],
) -> list[Suggestion]:
    """Choose n designs of a study's space whose reports would sharpen its front's estimates most.

    Raises:
        StudyError: the study has no front yet.
    """
    from codesign.results import Search
    from codesign.stages.setting import open_setting
    from codesign.study import Study
    from codesign.synthesis.estimates import open_coefficients
    from codesign.synthesis.experiments import choose_designs, record_responses
    from hw_models.calibration import load_corpus
    from hw_models.errors import ModelError

    study = Study.open(folder)
    search = study.results().last(Search)
    if search is None or not search.points:
        raise StudyError(f"{folder} has no Pareto front yet; run `codesign search` on it first")
    setting = open_setting(study)
    fitted, origin = open_coefficients(base)
    report(f"coefficients: {origin}")
    front = np.array([point.genome for point in search.points], dtype=np.int64)
    samples = setting.space.sample(N_SAMPLES, np.random.default_rng(study.config.seed))
    pool = np.unique(np.concatenate([front, samples]), axis=0)
    try:
        known = record_responses(load_corpus(), fitted)
    except ModelError as error:
        raise CalibrationError(str(error)) from error
    before, choices = choose_designs(
        _population_responses(setting, pool, fitted),
        _population_responses(setting, front, fitted),
        known,
        n,
    )
    report(f"the front's estimates are known to a factor of {np.exp(before):.2f} now")
    genomes = pool[[choice.index for choice in choices]]
    candidates = setting.candidates(genomes)
    scores = setting.scorer.score(setting.space.decode(genomes))
    on_front = {point.digest for point in search.points}
    chosen = [
        Suggestion(
            digest=candidate.digest,
            is_on_front=candidate.digest in on_front,
            flow=candidate.hardware.flow,
            lut=float(scores.metrics["lut"].value[i]),
            front_std=choice.front_std,
            project=None,
            candidate=candidate.to_json(),
        )
        for i, (candidate, choice) in enumerate(zip(candidates, choices, strict=True))
    ]
    if projects is not None:
        chosen = _write_projects(setting, candidates, chosen, projects, report)
    return chosen


def _population_responses(
    setting: Setting, genomes: NDArray[np.int64], coefficients: Coefficients
) -> dict[str, Responses]:
    """Differentiate the estimates of genomes, in order, whichever flow they take."""
    from codesign.hardware.scorer import design_batches, lower
    from codesign.synthesis.experiments import Responses, batch_responses
    from hw_models.calibration.fit import SCALED

    population = setting.space.decode(genomes)
    rows: dict[str, dict[int, Any]] = {target: {} for target in SCALED}
    for members, batch in design_batches(population, lower(population), setting.device, {}):
        for target, found in batch_responses(batch, coefficients).items():
            rows[target].update(zip(members.tolist(), found.rows, strict=True))
    return {
        target: Responses(rows=tuple(values[i] for i in range(len(genomes))))
        for target, values in rows.items()
    }


def _write_projects(
    setting: Setting,
    candidates: Sequence[Candidate],
    chosen: Sequence[Suggestion],
    folder: Path,
    report: Callable[[str], None],
) -> list[Suggestion]:
    """Train the candidates briefly, so that their weights are like trained ones, and export each."""
    from codesign.export.bundle import export_candidate
    from codesign.training.options import TrainingOptions
    from codesign.training.train import train_population

    arrays = setting.arrays()
    report(f"training {len(candidates)} candidates for {EPOCHS} epochs")
    result = train_population(
        candidates, arrays, TrainingOptions(epochs=EPOCHS), seed=setting.study.config.seed
    )
    written = []
    for item, network in zip(chosen, result.networks, strict=True):
        target = folder / item.digest
        export_candidate(
            network, target, scaling=setting.scaling.to_json(),
            vectors=network.input_words(arrays.x_test[:200]),
            backends=("vitis",), with_rtl=item.flow == "rtl", study=setting.study.config.name,
        )  # fmt: skip
        report(f"wrote {target}")
        written.append(replace(item, project=str(target)))
    return written


def suggestion_table(chosen: list[Suggestion]) -> Table:
    """Tabulate suggestions in the order of their use."""
    from rich.table import Table

    table = Table(
        "candidate",
        "flow",
        "on the front",
        "LUT predicted",
        "front known to a factor of",
        "project",
    )
    for item in chosen:
        table.add_row(
            item.digest, item.flow, "yes" if item.is_on_front else "", f"{item.lut:,.0f}",
            f"{np.exp(item.front_std):.2f}", item.project or "",
        )  # fmt: skip
    return table
