"""Which topologies learn their widths to the end: short trainings of the best of every kind tell.

The front was found with stated widths, and one topology may hold all of its best points. What a topology is
worth with learned widths is another question, and another one at every budget.  So the best topologies of each
kind are trained for a few epochs to a few budgets, and each finalist gets one of those that did best near its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.ir import Candidate
from codesign.processes import one_thread
from codesign.results import FrontPoint
from codesign.stages.setting import Setting
from codesign.stages.statistics import validate
from codesign.training.options import TaskArrays
from codesign.training.precision import PrecisionOptions, batch_size_for, train_learned

#: Topologies that are tried, and budgets of each.
MAX_TOPOLOGIES: Final = 8
N_BUDGETS: Final = 2
#: Share of the epochs of a finalist.
SHARE_OF_EPOCHS: Final = 0.2
#: Neighbouring finalists get the best, the second and the third: trials of few epochs are noisy.
_N_IN_TURN: Final = 3

Floats = NDArray[np.float64]


def topology(candidate: Candidate) -> tuple[Hashable, ...]:
    """Return what learned widths leave of a network: layers, sizes and wires, no widths and no pruning."""
    return tuple(
        (
            node.layer,
            node.inputs,
            tuple(
                (name, value)
                for name, value in sorted(node.parameters.items())
                if not name.endswith("_bits") and name != "pruned_fraction"
            ),
        )
        for node in candidate.network.nodes
    )


def choose_topologies(
    points: Sequence[FrontPoint], candidates: Sequence[Candidate], n: int
) -> list[list[int]]:
    """Choose topologies of a front: of every kind (layers without sizes) the best, then the second best, ...

    Args:
        points, candidates: the front.
        n: how many at most.

    Returns:
        Per topology the points that have it, best predicted score first.
    """
    alike: defaultdict[tuple[Hashable, ...], list[int]] = defaultdict(list)
    for i in sorted(range(len(points)), key=lambda i: -points[i].score):
        alike[topology(candidates[i])].append(i)
    rank_in_kind: defaultdict[tuple[str, ...], int] = defaultdict(int)
    ranked = []
    for members in alike.values():  # best predicted first
        kind = tuple(node.layer for node in candidates[members[0]].network.nodes)
        ranked.append((rank_in_kind[kind], members))
        rank_in_kind[kind] += 1
    return [members for _, members in sorted(ranked, key=lambda r: r[0])[:n]]


def assign(
    topologies: Sequence[Sequence[int]], scores: Floats, tried_lut: Floats, luts: Floats
) -> list[int]:
    """Choose a point for every budget, none twice.

    Args:
        topologies: points of each.
        scores: float64[n topologies, n tried budgets], larger is better.
        tried_lut: float64[n tried budgets], rising.
        luts: float64[n], what the finalists may cost.

    Returns:
        The points, one per budget; fewer where there are not as many.
    """
    left = [list(members) for members in topologies]
    at_budgets = np.stack([np.interp(np.log(luts), np.log(tried_lut), row) for row in scores])
    chosen = []
    for k, column in enumerate(at_budgets.T):
        order = [t for t in np.argsort(-column, kind="stable") if left[t]]
        if order:
            chosen.append(left[order[k % min(_N_IN_TURN, len(order))]].pop(0))
    return chosen


def try_topologies(
    candidates: Sequence[Candidate], luts: Floats, arrays: TaskArrays, epochs: int, seed: int
) -> list[float]:
    """Train networks with learned widths for a few epochs; return the scores on the first split's rows.

    Args:
        candidates: networks.
        luts: float64[n], what each may cost.
        arrays: the task.
        epochs: of the training.
        seed: of its randomness.
    """
    options = PrecisionOptions(epochs=epochs, batch_size=batch_size_for(len(arrays.y_train)))
    with one_thread():
        found = train_learned(candidates, luts, arrays, options, seed=seed)
        return [validate(arrays, [network]).value for network in found.networks]


def choose_by_trial(
    setting: Setting, points: Sequence[FrontPoint], luts: Floats
) -> list[FrontPoint]:
    """Choose a point of the front for each finalist that learns its widths.

    Args:
        setting: the study's setting.
        points: of the front, in plain RTL, whose LUTs the budgets are; at least as many as finalists.
        luts: float64[n], what the finalists may cost, rising.
    """
    candidates = setting.candidates([p.genome for p in points])
    topologies = choose_topologies(points, candidates, MAX_TOPOLOGIES)
    if not len(luts) or len(topologies) == 1:
        return list(points[: len(luts)])
    tried_lut = np.geomspace(luts[0], luts[-1], N_BUDGETS)
    epochs = max(1, round(SHARE_OF_EPOCHS * setting.study.config.train.epochs))
    best = [candidates[members[0]] for members in topologies]
    arrays, seed = setting.arrays(), setting.study.config.seed
    jobs = [(best, np.full(len(best), lut), arrays, epochs, seed) for lut in tried_lut]
    scores: list[list[float]] = []
    with (
        setting.reporter.stage(
            f"trying {len(best)} topologies at {len(jobs)} budgets", float(len(jobs))
        ) as stage,
        setting.pool() as pool,
    ):
        futures = [] if pool is None else [pool.submit(try_topologies, *job) for job in jobs]
        for k, job in enumerate(jobs):
            scores.append(try_topologies(*job) if pool is None else futures[k].result())
            stage.update(float(len(scores)))
    chosen = assign(topologies, np.array(scores).T, tried_lut, luts)
    rest = [i for i in range(len(points)) if i not in chosen]  # of topologies that were not tried
    return [points[i] for i in [*chosen, *rest][: len(luts)]]
