"""What stands in for anomalies: two events in one crossing, against plain definitions."""

import numpy as np
import pytest

from codesign.errors import ConfigError
from codesign.tasks import fit_scaling, load_task
from codesign.tasks._level1_generator import FEATURES, PT_WORD_MAX
from codesign.tasks._stand_ins import merged_crossings
from codesign.tasks.level1 import PHI_TURN


def bundled(**options):
    return load_task("level1", {"heads": [{"name": "anomaly"}], **options})


def test_a_merged_crossing_has_the_leading_objects_of_both_and_the_sum_of_what_is_missing():
    data = load_task("level1")
    x = data.x_train[:400]
    merged = merged_crossings(x, FEATURES, turn=PHI_TURN, pt_max=PT_WORD_MAX, is_integer=True)
    other = x[np.random.default_rng([0, 5]).permutation(len(x))]
    assert (merged == np.floor(merged)).all() and merged.max() <= PT_WORD_MAX
    places = {n: i for i, n in enumerate(FEATURES)}
    for kind, n in (("electron", 4), ("muon", 4), ("jet", 10)):
        columns = [
            [places[f"{kind}{k}_{f}"] for f in ("pt", "eta", "phi")] for k in range(1, n + 1)
        ]
        for row in range(0, 400, 37):
            both = [tuple(e[row, c]) for e in (x, other) for c in columns]
            found = [tuple(merged[row, c]) for c in columns]
            assert [f[0] for f in found] == sorted((b[0] for b in both), reverse=True)[:n]
            assert all(f in both for f in found)  # whole objects, never a mixture
    vectors = [e[:, 0] * np.exp(2j * np.pi * e[:, 2] / PHI_TURN) for e in (x, other)]
    np.testing.assert_allclose(
        merged[:, 0], np.minimum(np.floor(np.abs(sum(vectors)) + 1e-4), PT_WORD_MAX), atol=1
    )
    assert not merged[:, 1].any() and merged[:, 2].max() < PHI_TURN


def test_the_level1_task_offers_a_score_without_labels_and_says_so():
    data, plain = bundled(), load_task("level1")
    assert data.target.score.metric.name == "auc" and data.n_outputs == 1
    assert np.bincount(data.y_train).tolist() == [len(plain.x_train)] * 2
    # stand-ins are for training rows alone; the test rows are what they are, signals 1
    assert np.array_equal(data.x_test, plain.x_test)
    assert np.array_equal(data.y_test, (data.events.labels > 0).astype(int))
    said = next(c for c in data.checks if c.name == "score_without_labels")
    assert "no signal is asked" in said.detail and said.outcome == "noted"
    # what scales inputs knows the background alone
    assert np.array_equal(fit_scaling(data).mean, fit_scaling(plain).mean)
    background = data.x_train[data.y_train == 0]
    assert np.array_equal(np.sort(background, axis=0), np.sort(plain.x_train, axis=0))


def test_features_that_are_no_objects_are_refused():
    with pytest.raises(ConfigError, match="'mass' is no pt, eta or phi of an object"):
        merged_crossings(np.zeros((3, 1), np.float32), ["mass"], turn=1.0)
    with pytest.raises(ConfigError, match="objects 'jet' lack some of pt, eta and phi"):
        merged_crossings(np.zeros((3, 2), np.float32), ["jet1_pt", "jet1_eta"], turn=1.0)
