"""Stage "fit": fit the score predictor on all labels but those held out to judge it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.encoding.batch import concatenate as join_batches
from codesign.encoding.population import encode_population
from codesign.ir import Candidate
from codesign.predictor.base import METHODS, Predictor, load_predictor, save_predictor
from codesign.predictor.metrics import coverage, kendall_tau
from codesign.predictor.pretrained import encode_entries, load_pretrained
from codesign.predictor.train import fit_predictor
from codesign.results import Fit, HeldOut, Labels, Results
from codesign.space import population_from_candidates
from codesign.stages.setting import Setting
from codesign.study import LabelSection
from codesign.training.benchmark import shipped_labels, shipped_offset
from codesign.training.options import label_key

KEYS = ("labels.n_shipped", "labels.predictor", "labels.start_from")

#: Share of the first labels that the predictor never trains on: they say how well it ranks.
HELD_OUT_SHARE: Final = 0.25
#: A method chosen automatically is refitted until there are so many times the labels that it was chosen on:
#: cross-validation of all contenders takes a hundred times as long as a fit.
_CHOICE_HOLDS: Final = 2

#: Of labels that are equal but for this part of them, and one, a fold can lack all that differ.
_FOLDS_MISS: Final = 4


def run(setting: Setting, earlier: Results, *, round_index: int) -> Fit:
    """Fit the predictor of a round, judge it on held-out labels, and keep its checkpoint."""
    study = setting.study
    batch, labels, held_out = training_labels(setting, earlier)
    with setting.reporter.stage(f"round {round_index}: fitting the predictor", 1.0):
        predictor, why = _fit_method(
            study.config.labels,
            batch.take(~held_out),
            labels[~held_out],
            study.config.seed,
            chosen_before(earlier.of(Fit), n_train=int((~held_out).sum())),
        )
    judged = batch.take(held_out)
    predicted = predictor.predict(judged)
    parameters = judged.extras[:, judged.extra_names.index("log2_parameters")].astype(np.float64)
    fit = Fit(
        method=predictor.method,
        why=why,
        n_train=int((~held_out).sum()),
        n_held_out=int(held_out.sum()),
        tau=kendall_tau(labels[held_out], predicted.mean),
        tau_parameters=kendall_tau(labels[held_out], parameters),
        coverage=coverage(labels[held_out], predicted, 0.9),
        held_out=HeldOut(
            label=labels[held_out].tolist(),
            mean=predicted.mean.tolist(),
            std=np.nan_to_num(predicted.std, nan=0.0).tolist(),  # mere rankers have none
        ),
    )
    save_predictor(predictor, study.predictor_file(round_index), notes={"why": why})
    setting.reporter.message(f"round {round_index}: predictor {ranking_sentence(fit)}")
    return fit


def ranking_sentence(fit: Fit) -> str:
    """Say how well a predictor ranks, against the plain number of parameters."""
    if fit.method == "constant":
        return fit.why
    verdict = "" if fit.tau > fit.tau_parameters else "; NO BETTER than the number of parameters"
    return (
        f"{fit.method} on {fit.n_train} labels ranks {fit.n_held_out} held-out labels with Kendall tau"
        f" {fit.tau:.3f} (number of parameters: {fit.tau_parameters:.3f}){verdict}"
    )


def labelled(setting: Setting, earlier: Results) -> list[tuple[float, Candidate]]:
    """Return (score, candidate) of every label so far, in the order of training.

    The score is that on the validation rows, less `label_offset`.
    """
    made = earlier.of(Labels)
    candidates = setting.candidates([row for labels in made for row in labels.genomes])
    scores = [score for labels in made for score in labels.scores]
    offset = label_offset(setting) if made else 0.0
    return [(score - offset, c) for score, c in zip(scores, candidates, strict=True)]


def label_offset(setting: Setting) -> float:
    """Say how much own labels must be lowered to join those that ship; 0 where none of these take part."""
    section = setting.study.config.labels
    if section.n_shipped == 0 and section.start_from != "shipped":
        return 0.0
    return shipped_offset(setting.task.benchmark, n_train=len(setting.task.y_train))


def training_labels(
    setting: Setting, earlier: Results
) -> tuple[GraphBatch, NDArray[np.float64], NDArray[np.bool_]]:
    """Collect own and shipped labels; hold out a quarter of the first own ones, else of the shipped."""
    section = setting.study.config.labels
    batches, labels, held_out = [], [], []

    def add(batch: GraphBatch, values: NDArray[np.float64], n_first: int) -> None:
        n_held = max(4, round(HELD_OUT_SHARE * n_first)) if n_first else 0
        batches.append(batch)
        labels.append(values)
        held_out.append(np.arange(len(values)) < n_held)

    own = labelled(setting, earlier)
    if own:
        population = population_from_candidates([candidate for _, candidate in own])
        values = np.array([label for label, _ in own])
        add(encode_population(population), values, min(section.n_initial, len(values)))
    if section.n_shipped:
        known = {label_key(candidate) for _, candidate in own}
        entries = shipped_labels(
            setting.task.benchmark, space=setting.space.name, n=section.n_shipped
        )
        batch, values = encode_entries([e for e in entries if e.digest not in known])
        add(batch, values, 0 if section.n_initial else len(values))
    return join_batches(batches), np.concatenate(labels), np.concatenate(held_out)


def chosen_before(fits: Sequence[Fit], *, n_train: int) -> str | None:
    """Return the method that earlier rounds chose, while `n_train` labels are few enough for the choice to hold."""
    if not fits:
        return None
    chosen_on = fits[0].n_train
    for fit in fits:
        if fit.n_train >= _CHOICE_HOLDS * chosen_on:
            chosen_on = fit.n_train
    return fits[-1].method if n_train < _CHOICE_HOLDS * chosen_on else None


def _fit_method(
    section: LabelSection,
    batch: GraphBatch,
    labels: NDArray[np.float64],
    seed: int,
    chosen: str | None,
) -> tuple[Predictor, str]:
    """Fit the method asked for, or whichever is (or was, `chosen`) best for these labels; also say why."""
    middle = float(np.median(labels))
    n_alike = int((labels == middle).sum())
    # one architecture, or a task that nearly all of them answer alike
    if len(labels) - n_alike <= 1 + len(labels) // _FOLDS_MISS:
        known = METHODS.get("constant").fit(batch, np.full(len(labels), middle), seed=seed)
        told = "all" if n_alike == len(labels) else f"{n_alike} of"
        return (
            known,
            f"{told} {len(labels)} labels equal {middle:.6g}, too few differ to learn from: hardware alone is searched",
        )
    chosen = None if chosen == "constant" else chosen
    pretrained = None
    if section.start_from == "shipped":
        pretrained = load_pretrained()
    elif section.start_from is not None:
        pretrained, _ = load_predictor(Path(section.start_from))
    is_kept = section.predictor == "auto" and chosen is not None
    method = chosen if is_kept and chosen is not None else section.predictor
    choice = fit_predictor(batch, labels, seed=seed, method=method, pretrained=pretrained)
    if is_kept:
        return choice.predictor, f"{method}, as chosen in an earlier round ({len(labels)} labels)"
    return choice.predictor, choice.reason
