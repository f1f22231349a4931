"""Every registered metric keeps its promises: true errors, weights that mean repeats, clear refusals."""

import numpy as np
import pytest
from scipy.stats import norm

from codesign.errors import CodesignError, ConfigError, DataError
from codesign.metrics import METRICS, load_metric, response_curve, roc_curve, turn_on_curve

#: Options without which a metric cannot be made.
OPTIONS = {
    "tpr_at_fpr": {"fpr": 0.05},
    "efficiency_at_rate": {"rate_khz": 2.0, "input_rate_khz": 40.0},
}
metrics = pytest.mark.parametrize("name", METRICS.names())


def make(name, **more):
    return load_metric({"name": name, **OPTIONS.get(name, {}), **more})


def rows(metric, n, seed):
    """Outputs and truth from a known distribution: three classes, or values of two outputs."""
    generator = np.random.default_rng(seed)
    if metric.truth == "classes":
        truth = generator.integers(0, 3, n)
        return generator.standard_normal((n, 3)) + 1.2 * np.eye(3)[truth], truth
    truth = generator.uniform(1.0, 3.0, (n, 2))
    return truth + 0.3 + generator.normal(0.0, 0.5, (n, 2)), truth


def share_held(metric, draw, *, is_weighted):
    """Return the share of 200 samples whose 90 % interval holds the truth."""
    expected = metric.score(*draw(400_000, seed=99))
    width, held = norm.ppf(0.95), []
    for seed in range(1000, 1200):
        weights = np.random.default_rng([seed, 3]).gamma(2.0, 1.0, 1000) if is_weighted else None
        judged = metric.judge(*draw(1000, seed=seed), weights)
        held.append(abs(judged.score - expected) <= width * judged.standard_error)
    return np.mean(held)


@pytest.mark.slow
@metrics
@pytest.mark.parametrize("is_weighted", [False, True])
def test_of_200_samples_85_to_95_percent_of_90_percent_intervals_hold_the_truth(name, is_weighted):
    metric = make(name)
    held = share_held(metric, lambda n, seed: rows(metric, n, seed), is_weighted=is_weighted)
    assert 0.85 <= held <= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bias", {"of": "median"}),
        ("bias", {"relative": True, "output": 1}),
        ("resolution", {"of": "std"}),
        ("resolution", {"relative": True}),
        ("auc", {"signal": 1}),
        ("tpr_at_fpr", {"fpr": 0.05, "signal": 2}),
        ("auc", "logit"),
        ("tpr_at_fpr", "logit"),
        ("efficiency_at_rate", "logit"),
        ("balanced_accuracy", "logit"),
        ("log_loss", "logit"),
    ],
)
def test_intervals_are_true_with_options_and_of_one_rare_signals_logit(name, options):
    def logits(n, seed):
        generator = np.random.default_rng(seed)
        truth = (generator.random(n) < 0.2).astype(np.int64)
        return (generator.standard_normal(n) + 1.2 * truth)[:, None], truth

    metric = make(name, **({} if options == "logit" else options))
    draw = logits if options == "logit" else lambda n, seed: rows(metric, n, seed)
    assert 0.85 <= share_held(metric, draw, is_weighted=False) <= 0.95


@metrics
def test_whole_weights_are_repeats(name):
    metric = make(name)
    outputs, truth = rows(metric, 800, seed=1)
    repeats = np.random.default_rng(2).integers(0, 4, len(truth))
    repeated = metric.score(np.repeat(outputs, repeats, axis=0), np.repeat(truth, repeats, axis=0))
    weighted = metric.score(outputs, truth, repeats)
    # quantiles of repeats step where those of weights are linear
    assert weighted == pytest.approx(repeated, abs=0.01 if name == "resolution" else 1e-9)


@metrics
def test_better_outputs_have_more_merit(name):
    metric = make(name)
    outputs, truth = rows(metric, 2000, seed=3)
    perfect = 8.0 * np.eye(3)[truth] if metric.truth == "classes" else truth
    better = 0.5 * outputs + 0.5 * perfect
    assert metric.merit(metric.score(better, truth)) > metric.merit(metric.score(outputs, truth))


@metrics
def test_the_order_of_rows_does_not_matter(name):
    metric = make(name)
    outputs, truth = rows(metric, 900, seed=4)
    order = np.random.default_rng(5).permutation(len(truth))
    assert metric.score(outputs[order], truth[order]) == pytest.approx(
        metric.score(outputs, truth), rel=1e-12
    )


@metrics
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda o, t: (o[:0], t[:0], None), "at least one row"),
        (lambda o, t: (o[:-1], t, None), "one for each row"),
        (lambda o, t: (np.where(o == o.max(), np.nan, o), t, None), "NaN"),
        (lambda o, t: (o, t, -np.ones(len(t))), "below 0"),
        (lambda o, t: (o, t, np.zeros(len(t))), "some above"),
        (lambda o, t: (o, t, np.ones(3)), "one finite weight"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(name, change, what):
    metric = make(name)
    with pytest.raises(DataError, match=what):
        metric.judge(*change(*rows(metric, 600, seed=6)))


@metrics
def test_it_survives_its_own_options(name):
    metric = make(name)
    assert load_metric({"name": name, **metric.model_dump()}) == metric


def test_auc_is_the_share_of_pairs_in_order_with_ties_counting_half():
    generator = np.random.default_rng(7)
    truth = generator.integers(0, 2, 300)
    score = np.round(truth + generator.standard_normal(300), 1)
    a, b = score[truth == 1][:, None], score[truth == 0]
    pairs = np.mean((a > b) + 0.5 * (a == b))
    assert load_metric("auc").score(score, truth) == pytest.approx(pairs)


def test_the_threshold_passes_the_rate_and_the_next_word_would_not():
    generator = np.random.default_rng(8)
    truth = (generator.random(30_000) < 0.2).astype(np.int64)
    words = np.floor(16 * (truth + generator.standard_normal(30_000)))
    rates = np.where(truth == 0, generator.uniform(0.5, 1.5, 30_000), 0.0)
    metric = load_metric({"name": "efficiency_at_rate", "rate_khz": 1.0, "input_rate_khz": 100.0})
    weights = np.where(truth == 0, rates, 1.0)
    threshold = metric.threshold(words[:, None], truth, weights)
    rate = 100.0 * rates[words >= threshold].sum() / rates.sum()
    more = 100.0 * rates[words >= threshold - 1].sum() / rates.sum()
    assert rate <= 1.0 < more
    passing = (words >= threshold)[truth == 1].mean()
    assert metric.score(words, truth, weights) == pytest.approx(passing)


def test_a_threshold_says_how_many_events_it_needs():
    metric = load_metric({"name": "efficiency_at_rate", "rate_khz": 1.0})
    truth = np.arange(1000) % 2
    with pytest.raises(DataError, match="needs 400000 background events .* got 500"):
        metric.score(np.arange(1000.0), truth)


def test_a_rate_above_what_comes_in_is_refused():
    with pytest.raises(ConfigError, match="only 40000 kHz come in"):
        load_metric({"name": "efficiency_at_rate", "rate_khz": 50_000})


def test_a_missing_signal_is_named():
    with pytest.raises(DataError, match="no signal row to judge class 2"):
        load_metric({"name": "auc", "signal": 2}).score(np.zeros((4, 3)), np.array([0, 1, 0, 1]))


def test_outputs_and_values_must_match():
    with pytest.raises(DataError, match="one output for each value"):
        load_metric("mean_absolute_error").score(np.zeros((4, 2)), np.zeros(4))


def test_unknown_metrics_and_options_are_refused():
    with pytest.raises(CodesignError, match="accuracy"):
        load_metric("acuracy")
    with pytest.raises(ConfigError):
        load_metric({"name": "auc", "fpr": 0.1})


def test_a_roc_passes_through_the_metric():
    generator = np.random.default_rng(9)
    truth = generator.integers(0, 2, 40_000)
    score = truth + generator.standard_normal(40_000)
    curve = roc_curve(score, truth == 1, truth == 0, np.ones(40_000), input_rate_khz=40.0)
    wanted = load_metric({"name": "efficiency_at_rate", "rate_khz": 1.0, "input_rate_khz": 40.0})
    at = np.interp(1.0, curve.x, curve.y)
    assert at == pytest.approx(wanted.score(score, truth), abs=0.01)
    # of two unit normals one apart: efficiency = Phi(1 + Phi^-1(rate))
    assert np.abs(curve.y - norm.cdf(1 + norm.ppf(curve.x / 40.0)))[curve.x > 0.2].max() < 0.02


def test_response_and_turn_on_of_a_known_smearing():
    generator = np.random.default_rng(10)
    truth = generator.uniform(5.0, 60.0, 60_000)
    measured = truth * (0.9 + 0.2 * generator.standard_normal(60_000))
    edges = np.linspace(5.0, 60.0, 12)
    response, width = response_curve(measured, truth, edges)
    assert (np.abs(response.y - 0.9) < 5 * response.error).all()
    assert (np.abs(width.y - 0.2 / 0.9) < 5 * width.error).all()
    turn_on = turn_on_curve(measured, truth, edges, threshold=27.0)
    middle = np.interp(0.5, turn_on.y, turn_on.x)
    assert middle == pytest.approx(30.0, abs=0.7)  # where 0.9 of the truth reaches 27
