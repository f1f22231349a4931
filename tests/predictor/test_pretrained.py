"""The checkpoint that ships reads what a search encodes, and ranks networks it was not told of."""

import numpy as np
from scipy.stats import kendalltau

from codesign.encoding.population import encode_population
from codesign.predictor.pretrained import encode_entries, load_pretrained
from codesign.training.benchmark import load_benchmark
from tests.encoding.test_population_encoding import population


def test_pretrained_predictor_scores_a_population_within_reason() -> None:
    predicted = load_pretrained().predict(encode_population(population()))
    # Five classes: chance is 0.2, the best label 0.73.
    assert ((predicted.mean > 0.2) & (predicted.mean < 0.8)).all()
    assert ((predicted.std > 0) & (predicted.std < 0.3)).all()


def test_pretrained_predictor_ranks_its_labels_when_left_out() -> None:
    predictor = load_pretrained()
    honest = predictor.left_out_mean
    assert honest is not None
    labels = encode_entries(load_benchmark())[1]
    assert len(honest) == len(labels)
    assert kendalltau(honest, labels).statistic > 0.8


def test_pretrained_prediction_of_a_network_does_not_depend_on_its_company() -> None:
    predictor, batch = load_pretrained(), encode_entries(load_benchmark())[0]
    together = predictor.predict(batch).mean[:20]
    alone = [predictor.predict(batch.take(np.array([i]))).mean[0] for i in range(20)]
    np.testing.assert_allclose(alone, together, rtol=1e-6)
