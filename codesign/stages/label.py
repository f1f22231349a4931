"""Stage "label": train candidates at their precision; their scores teach the predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from codesign.hardware.scorer import violations
from codesign.ir import Candidate
from codesign.results import Labels, Results, Search
from codesign.stages.choosing import bit_operations, choose_spread
from codesign.stages.setting import MAX_CHUNK, Setting
from codesign.training.labels import label_candidates
from codesign.training.options import TrainingOptions
from codesign.training.proxies import score_untrained
from codesign.training.store import LabelStore

KEYS = ("labels.n_initial", "labels.epochs", "labels.proxy")
#: Candidates that a zero-cost proxy looks at for each label.
_PER_LABEL: Final = 4


def run(setting: Setting, earlier: Results, *, round_index: int) -> Labels:
    """Train this round's candidates: a spread of the space first, what the last search asks for later."""
    if round_index == 1:
        genomes = initial_genomes(setting, setting.study.config.labels.n_initial)
    else:
        genomes = setting.genomes(earlier.require(Search).to_label)
    candidates = setting.candidates(genomes)
    scores = _train(setting, candidates, round_index) if candidates else np.empty(0)
    return Labels(genomes=genomes.tolist(), scores=scores.tolist())


def initial_genomes(setting: Setting, n: int) -> NDArray[np.int64]:
    """Choose candidates to label first: distinct architectures that fit, spread over their size."""
    if n == 0:
        return setting.genomes([])
    generator = np.random.default_rng([setting.study.config.seed, 1])
    genomes = setting.space.sample(max(4000, 20 * n), generator)
    population = setting.space.decode(genomes)
    fits = (violations(setting.scorer.score(population), setting.budget, setting.device) <= 0).all(
        axis=1
    )
    genomes = genomes[fits] if fits.sum() >= n else genomes
    proxy = setting.study.config.labels.proxy
    if proxy is None:
        return genomes[choose_spread(setting.space.decode(genomes), n, generator)]
    pool = genomes[np.sort(choose_spread(setting.space.decode(genomes), _PER_LABEL * n, generator))]
    candidates, seed = setting.candidates(pool), setting.study.config.seed
    with setting.reporter.stage(f"asking the proxy {proxy} of {len(pool)} networks", 1.0):
        scores = score_untrained(candidates, setting.arrays(), proxy, seed=seed)
    by_size = np.argsort(bit_operations(setting.space.decode(pool)), kind="stable")
    best = [part[np.argmax(scores[part])] for part in np.array_split(by_size, min(n, len(pool)))]
    return np.asarray(pool[generator.permutation(np.array(best))])


def _train(
    setting: Setting, candidates: Sequence[Candidate], round_index: int
) -> NDArray[np.float64]:
    """Return float[n], scores on the validation rows; what the store knows is not trained again."""
    study = setting.study
    options = TrainingOptions(epochs=study.config.labels.epochs, chunk_size=MAX_CHUNK)
    with (
        setting.reporter.stage(
            f"round {round_index}: training {len(candidates)} labels", 1.0
        ) as stage,
        LabelStore(study.label_store) as store,
        setting.pool() as pool,
    ):
        found = label_candidates(
            candidates,
            setting.arrays(),
            options,
            store=store,
            seeds=(study.config.seed,),
            executor=pool,
            progress=stage.update,
        )
    return found.validation_score[:, 0]
