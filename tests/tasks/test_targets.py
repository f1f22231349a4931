"""Heads: what a study may wish, what follows from it, and what is refused."""

import numpy as np
import pytest

from codesign.errors import CodesignError, ConfigError, DataError
from codesign.tasks import build_task_data, load_task
from codesign.tasks._muon_generator import generate


def test_the_first_head_is_the_score_and_outputs_follow_the_wishes():
    data = load_task(
        "jet_particles",
        {
            "heads": [
                {"name": "pt", "metric": {"name": "resolution", "relative": True}},
                {"name": "class"},
            ]
        },
    )
    assert data.n_outputs == 6 and data.target.score.name == "pt"
    assert data.target.output_slices == (slice(0, 1), slice(1, 6))
    jets = load_task("jets")
    assert (data.target.truth(1, data.y_test, data.x_test) == jets.y_test).all()


def test_outputs_become_values_in_the_unit_of_the_data():
    head = load_task("muons", {"heads": [{"name": "displacement"}]}).target.heads[0]
    (scale,), (offset,) = head.scale, head.offset
    assert np.log2(scale).is_integer() and (offset * 256 / scale).is_integer()
    assert head.values(np.array([[0.0], [2.0]])).tolist() == [[offset], [2 * scale + offset]]
    assert head.unit == "cm"
    relative = {"name": "momentum", "metric": {"name": "resolution", "relative": True}}
    assert load_task("muons", {"heads": [relative]}).target.heads[0].unit == ""


def test_a_reconstruction_needs_no_labels():
    data = load_task("muons", {"heads": [{"name": "inputs", "kind": "reconstruction"}]})
    assert data.n_outputs == data.n_features and data.y_train.shape[1] == 0
    assert (data.target.truth(0, data.y_test, data.x_test) == data.x_test).all()


def test_two_classes_may_share_one_logit():
    generator = np.random.default_rng(0)
    from codesign.tasks._options import TaskOptions
    from codesign.tasks._prepare import from_parts
    from codesign.tasks.target import HeadOptions

    x, y = generator.standard_normal((40, 3)), np.arange(40) % 2
    data = from_parts(
        name="own",
        benchmark=None,
        x_train=x,
        y_train=y,
        x_test=x + 1,
        y_test=y,
        feature_names=("a", "b", "c"),
        class_names=("no", "yes"),
        options=TaskOptions(heads=(HeadOptions(name="class", kind="binary"),)),
        split="given",
        provenance={},
    )
    assert data.n_outputs == 1 and data.y_train.dtype == np.int64


def test_balanced_weights_give_every_class_the_same_total():
    data = load_task("jets", {"class_weights": "balanced", "n_train_max": 999})
    total = np.bincount(data.y_train, data.weights_train)
    np.testing.assert_allclose(total, total.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"heads": [{"name": "momentum", "units": ["GeV"]}]}, r"units \['GeV'\] do not match"),
        ({"heads": [{"name": "mass"}]}, "unknown head 'mass'"),
        ({"heads": [{"name": "momentum", "loss": "none"}]}, "unknown loss of values 'none'"),
        ({"heads": [{"name": "momentum", "metric": "auc"}]}, "judges classes"),
        ({"heads": [{"name": "momentum", "kind": "classes"}]}, "is of kind 'values'"),
        ({"heads": [{"name": "momentum"}, {"name": "momentum"}]}, "names of their own"),
        ({"heads": [{"name": "momentum", "weight": -1}]}, "weight"),
        ({"class_weights": "balanced"}, "no head has classes"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_in_one_sentence(options, what):
    with pytest.raises(ConfigError, match=what):
        load_task("muons", options)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"weights_train": -np.ones(8)}, "none below 0"),
        ({"weights_train": np.ones(3)}, "one weight for each of 8 rows"),
        ({"weights_train": np.r_[np.ones(7), np.inf]}, "1 of 8 weights are NaN or infinite"),
        ({"y_train": np.full((8, 1), np.nan)}, "NaN or infinite"),
        ({"y_train": np.ones((8, 1))}, "constant in training"),
        ({"y_train": np.ones((8, 2))}, "targets have shape"),
    ],
)
def test_truth_and_weights_are_checked(change, what):
    muons = load_task("muons", {"heads": [{"name": "momentum"}]})
    given = {
        "name": "own",
        "benchmark": None,
        "x_train": muons.x_train[:8],
        "y_train": muons.y_train[:8],
        "x_test": muons.x_test[:8],
        "y_test": muons.y_test[:8],
        "feature_names": muons.feature_names,
        "class_names": (),
        "split": "given",
        "provenance": {},
        "target": muons.target,
    }
    with pytest.raises(DataError, match=what):
        build_task_data(**{**given, **change})


def test_the_same_seed_gives_the_bundled_muons_bit_for_bit():
    data = load_task("muons")
    muons = generate(40_000, seed=1)
    assert (muons.x == np.concatenate([data.x_train, data.x_test])).all()
    assert (muons.d0 == np.concatenate([data.y_train, data.y_test])[:, 1]).all()


def test_slow_muons_bend_more_and_by_their_charge():
    muons = generate(4000, seed=3)
    prompt = (muons.d0 == 0) & (muons.x[:, -4:].sum(1) == 4)
    turn, curvature = muons.x[prompt, 0].astype(float), muons.q_over_pt[prompt]
    assert np.corrcoef(turn, curvature)[0, 1] < -0.8


def test_a_file_that_is_no_archive_of_muons_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros(3))
    with pytest.raises(CodesignError, match="lacks the arrays"):
        load_task("muons", {"path": path})


def test_level1_trains_on_background_and_tests_on_signals_it_never_saw():
    data = load_task("level1")
    assert data.events is not None and data.events.names[0] == "background"
    counts = np.bincount(data.events.labels)
    assert (
        counts.size == 5 and (counts > 1000).all() and len(data.events.labels) == len(data.x_test)
    )
    assert (data.x_train == np.round(data.x_train)).all()  # hardware integers
    # uses of one hard collision stay on one side
    from codesign.tasks._bundled import read_bundled
    from codesign.tasks.level1 import is_trained_on

    arrays, _ = read_bundled("level1_28k")
    names = arrays["process_names"].tolist()
    trained = is_trained_on(arrays["process"], arrays["collision"], names)
    assert trained.sum() == len(data.x_train)
    keys = arrays["process"].astype(np.int64) * 10**6 + arrays["collision"]
    is_background = arrays["process"] < names.index("h_tautau")
    assert not set(keys[trained]) & set(keys[is_background & ~trained])
    # objects of one kind come by falling pT, and missing ones are zeros
    for kind, n in (("electron", 4), ("muon", 4), ("jet", 10)):
        columns = [data.feature_names.index(f"{kind}{i + 1}_pt") for i in range(n)]
        assert (np.diff(data.x_test[:, columns], axis=1) <= 0).all()


def test_rates_weigh_the_background_and_name_what_comes_in():
    plain = load_task("level1")
    rated = load_task(
        "level1",
        {"background": "rates", "judged_by": {"name": "efficiency_at_rate", "rate_khz": 20.0}},
    )
    assert plain.weights_test is None and rated.benchmark != plain.benchmark
    assert rated.events.metric.input_rate_khz == pytest.approx(rated.events.rate_khz)
    background = rated.events.labels == 0
    assert (rated.weights_test[~background] == 1).all() and (rated.weights_test > 0).all()


def test_a_signal_that_is_not_there_is_named():
    with pytest.raises(DataError, match="unknown signal 'susy'"):
        load_task("level1", {"signals": ["susy"]})
    with pytest.raises(ConfigError, match="signals is empty"):
        load_task("level1", {"signals": []})
