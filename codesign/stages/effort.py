"""What a stage will do and about how long that takes: for `codesign run --dry-run`.

Rates were measured on two idle cores of a 2.5 GHz server; another machine, or a busy one, takes
another time, which is why only the first digit is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from codesign.processes import n_worker_processes
from codesign.stages.search import n_evaluations_of
from codesign.stages.setting import Setting
from codesign.training.options import TrainingOptions

#: Seconds per lane and step when many networks of one size train together (docs/training.md).
_LANE_STEP_S: Final = 7e-6
#: The same with learned widths, polishing included: 700 processor seconds for the 32,000 epochs of
#: examples/jets_100ns.yaml, whose finalists are much smaller than its space's middling network.
_LEARNED_FACTOR: Final = 0.25
#: The same of labels, in small batches; and seconds to solve the adder graph of one.
_LEARNED_LABEL_FACTOR: Final = 1.0
_SOLVE_S: Final = 0.16
#: Seconds of a vote of the proxies on the four networks that each first label is chosen from.
_PROXY_S: Final = 0.08
#: Seconds per label of comparing all methods of prediction, which the first round does where none is named.
_COMPARE_S: Final = 0.18
#: Seconds per evaluated pair, per label of a fit and for each fit, per synthesis and for an export.
_PAIR_S, _LABEL_FIT_S, _FIT_S, _SYNTHESIS_S, _EXPORT_S = 1.2e-3, 0.03, 1.0, 12.0, 25.0


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a stage does, and about how many seconds it takes on two idle cores."""

    what: str
    seconds: float


def expected_effort(setting: Setting, kind: str, round_index: int) -> Effort:
    """Say what a stage of the study will do.

    Args:
        setting: the study's setting.
        kind: of the stage.
        round_index: from 1; 0 for stages without rounds.
    """
    config, n_workers = setting.study.config, n_worker_processes()
    labels, search, train = config.labels, config.search, config.train
    if kind == "label":
        n = labels.n_initial if round_index == 1 else labels.n_per_round
        seconds = n * labels.epochs * _epoch_s(setting) / n_workers
        what = f"train up to {n} labels for {labels.epochs} epochs"
        if setting.space.learns_widths:
            what += ", with learned widths, and solve their adder graphs"
            seconds = seconds * _LEARNED_LABEL_FACTOR + _SOLVE_S * n / n_workers
        if labels.proxy is not None and round_index == 1:
            what = f"choose by the proxy {labels.proxy}, {what}"
            seconds += _PROXY_S * n
        return Effort(what=what, seconds=seconds)
    if kind == "fit":
        n = labels.n_initial + (round_index - 1) * labels.n_per_round + labels.n_shipped
        compares = labels.predictor == "auto" and round_index == 1
        return Effort(
            what=f"fit the predictor ({labels.predictor}) on {n} labels",
            seconds=_FIT_S + (_COMPARE_S if compares else _LABEL_FIT_S) * n,
        )
    if kind == "search":
        n = n_evaluations_of(search, round_index)
        what, n_searches = f"{search.strategy}: evaluate {n:,} pairs", search.n_workers
        if search.islands is not None:
            n_searches = search.islands.n_islands
            what += f" on {n_searches} islands"
        if search.scaling is not None:
            what += f", scale {' and '.join(search.scaling.rates)} of the front"
        return Effort(what=what, seconds=n * _PAIR_S / min(n_searches, n_workers))
    if kind == "share" and search.weight_sharing is not None:
        methods = search.weight_sharing.methods
        epochs = search.weight_sharing.epochs * len(search.weight_sharing.prices)
        return Effort(
            what=f"weight sharing: {', '.join(methods)}",
            seconds=20 * epochs * len(methods) * _epoch_s(setting),
        )
    if kind == "train":
        n = train.n_finalists
        factor = _LEARNED_FACTOR * (train.n_splits + train.n_restarts) / train.n_splits
        seconds = n * train.n_splits * train.epochs * _epoch_s(setting) / n_workers
        return Effort(
            what=f"train up to {n} finalists ({setting.precision} widths), {train.n_splits} times {train.epochs} epochs",
            seconds=seconds * (factor if setting.precision == "learned" else 1.0),
        )
    if kind == "synthesize":
        wanted = config.export.rtl and config.export.open_synthesis
        return Effort(
            what="synthesise the finalists in plain RTL (Yosys)" if wanted else "nothing",
            seconds=train.n_finalists * _SYNTHESIS_S / n_workers if wanted else 0.0,
        )
    if kind == "export":
        return Effort(
            what=f"export and prove the winner ({', '.join(config.export.backends)})",
            seconds=_EXPORT_S,
        )
    return Effort(
        what={"prepare": "check everything", "choose": "choose the winner"}.get(
            kind, "write the page"
        ),
        seconds=2.0,
    )


def _epoch_s(setting: Setting) -> float:
    """Return the seconds of one epoch of one network of middling size of the space."""
    options = TrainingOptions()
    population = setting.space.decode(setting.space.sample(64, np.random.default_rng(0)))
    lanes = float(population.columns["n_out"].sum()) / population.n_candidates
    n_steps = len(setting.task.y_train) * (1 - options.validation_fraction) / options.batch_size
    return lanes * n_steps * _LANE_STEP_S
