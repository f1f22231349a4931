"""Contract of every registered method, its storage, and what it refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, Accuracy, load_predictor, save_predictor
from codesign.predictor.methods import gin, gp, random_forest
from codesign.predictor.methods.transfer import Transfer
from codesign.predictor.metrics import kendall_tau

METHOD_NAMES = METHODS.names()


@pytest.fixture(autouse=True)
def quick_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train networks for a few steps: these tests are about contracts, not about accuracy."""
    monkeypatch.setattr(gin, "steps_for", lambda n_labels: 15)
    monkeypatch.setattr(gp, "TUNING_STEPS", 15)
    monkeypatch.setattr(random_forest, "N_TREES", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def chains(n: int, *, seed: int) -> tuple[GraphBatch, np.ndarray]:
    """Chains of dense layers whose label grows with the logarithm of their widths."""
    random = np.random.default_rng(seed)
    size = random.integers(3, 7, n)
    graph = np.repeat(np.arange(n), size)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    place = np.arange(size.sum()) - start[graph]
    widths = np.where(place == 0, 16.0, 2.0 ** random.integers(3, 8, len(place)))
    source = np.flatnonzero(place < size[graph] - 1)
    total = np.bincount(graph, np.where(place > 0, np.log2(widths), 0.0))
    extras = np.repeat(total[:, None], 4, axis=1) + random.normal(size=(n, 4))
    batch = GraphBatch(
        op_names=("input", "dense", "unused"),
        numeric_names=("n_out",),
        extra_names=(
            "log2_parameters",
            "log2_flops",
            "log2_bit_operations",
            "log2_effective_bit_operations",
        ),
        op=(place > 0).astype(np.int64),
        numeric=widths[:, None].astype(np.float32),
        graph_index=graph,
        edge_index=np.stack([source, source + 1]),
        edge_multiplicity=np.ones(len(source), np.float32),
        extras=extras.astype(np.float32),
    )
    return batch, 0.7 + 0.01 * total + 0.002 * random.normal(size=n)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_method_learns_predicts_and_survives_storage(name: str, tmp_path: Path) -> None:
    batch, labels = chains(60, seed=0)
    unseen, truth = chains(80, seed=1)
    method = METHODS.get(name)
    if name == "transfer":
        others, their_labels = chains(60, seed=5)
        method = Transfer(base=METHODS.get("ridge").fit(others, their_labels, seed=0))
    assert method.name == name
    assert method.objection(batch) is None
    fitted = method.fit(batch, labels, seed=3)
    predicted = fitted.predict(unseen)
    assert predicted.mean.shape == predicted.std.shape == (80,)
    assert np.isfinite(predicted.mean).all()
    assert not (predicted.std < 0).any()
    # The label is a sum over nodes plus a little noise; even a number per graph sees some of it.
    assert kendall_tau(truth, predicted.mean) > 0.3
    path = tmp_path / "predictor.npz"
    save_predictor(fitted, path, notes={"task": "test"})
    again, notes = load_predictor(path)
    assert notes == {"task": "test"}
    assert again.method == name
    np.testing.assert_array_equal(again.predict(unseen).mean, predicted.mean)
    np.testing.assert_array_equal(again.predict(unseen).std, predicted.std)


def test_a_related_task_needs_fewer_labels() -> None:
    """The new task measures in other units; eight labels fix the line, not the ranking."""
    others, their_labels = chains(200, seed=5)
    batch, labels = chains(8, seed=0)
    unseen, truth = chains(80, seed=1)
    pretrained = METHODS.get("kernel_ridge").fit(others, their_labels, seed=0)
    started = Transfer(base=pretrained).fit(batch, 100.0 * labels - 20.0, seed=0)
    alone = METHODS.get("kernel_ridge").fit(batch, 100.0 * labels - 20.0, seed=0)
    taus = [kendall_tau(truth, fitted.predict(unseen).mean) for fitted in (started, alone)]
    assert taus[0] > taus[1]
    assert abs(float(np.mean(started.predict(unseen).mean - (100.0 * truth - 20.0)))) < 5.0


def test_starting_from_nothing_is_refused() -> None:
    batch, labels = chains(20, seed=0)
    with pytest.raises(PredictorError, match="needs a pretrained predictor"):
        METHODS.get("transfer").fit(batch, labels, seed=0)


@pytest.mark.parametrize("name", ["blend", "gp", "ridge", "random_forest"])
def test_a_seed_decides_everything(name: str) -> None:
    batch, labels = chains(40, seed=0)
    first, second = (METHODS.get(name).fit(batch, labels, seed=7).predict(batch) for _ in range(2))
    np.testing.assert_array_equal(first.mean, second.mean)


def test_fitting_leaves_the_global_random_state_alone() -> None:
    batch, labels = chains(40, seed=0)
    before = torch.random.get_rng_state()
    METHODS.get("blend").fit(batch, labels, seed=7)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.full(40, np.nan), "NaN or infinite, the first at index 0"),
        (np.full(40, 0.7), "nothing to learn"),
        (np.arange(3.0), "shape"),
    ],
)
def test_unusable_labels_are_refused(labels: np.ndarray, says: str) -> None:
    batch, _ = chains(40, seed=0)
    for name in METHOD_NAMES:
        with pytest.raises(PredictorError, match=says):
            METHODS.get(name).fit(batch, labels, seed=0)


def test_one_label_is_refused() -> None:
    batch, labels = chains(40, seed=0)
    with pytest.raises(PredictorError, match=r"1 label\(s\); expected at least"):
        METHODS.get("blend").fit(batch.take([0]), labels[:1], seed=0)


def test_scalar_rankers_name_the_attribute_they_miss() -> None:
    batch, _ = chains(40, seed=0)
    bare = GraphBatch(
        **{
            **{f: getattr(batch, f) for f in batch.__dataclass_fields__},
            "extra_names": (),
            "extras": np.zeros((40, 0), np.float32),
        }
    )
    objection = METHODS.get("parameters").objection(bare)
    assert objection is not None and "log2_parameters" in objection


def test_blend_interval_is_calibrated_on_labels_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, labels = chains(150, seed=0)
    unseen, truth = chains(400, seed=1)
    low, high = METHODS.get("blend").fit(batch, labels, seed=0).predict(unseen).interval(0.9)
    # 0.9 within five binomial standard errors of 150 calibration labels.
    assert abs(((truth >= low) & (truth <= high)).mean() - 0.9) < 5 * np.sqrt(0.09 / 150)


def test_fold_members_do_not_see_their_fold() -> None:
    """Move one label far off: what the blend says of it when left out must hardly follow."""
    batch, labels = chains(60, seed=0)
    moved = labels.copy()
    moved[5] = labels.max() + 0.5
    honest = METHODS.get("blend").fit(batch, moved, seed=0).left_out_mean
    assert honest is not None
    assert honest[5] < labels.max() + 0.1


def test_checkpoints_of_another_kind_are_refused(tmp_path: Path) -> None:
    cases = {
        "pickled.npz": ({"a": np.array([object()], dtype=object)}, "pickled objects"),
        "foreign.npz": ({"a": np.zeros(3)}, "no header_json"),
    }
    for name, (arrays, says) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(PredictorError, match=says):
            load_predictor(tmp_path / name)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(PredictorError, match="expected a predictor checkpoint"):
        load_predictor(tmp_path / "text.npz")
    with pytest.raises(PredictorError, match="no such predictor checkpoint"):
        load_predictor(tmp_path / "absent.npz")
    header = np.frombuffer(b'{"schema": 99, "method": "gp", "state": {}}', np.uint8)
    np.savez(tmp_path / "later.npz", header_json=header)
    with pytest.raises(PredictorError, match="schema 99"):
        load_predictor(tmp_path / "later.npz")


def test_graphs_of_another_schema_name_the_columns() -> None:
    batch, labels = chains(40, seed=0)
    fitted = METHODS.get("gp").fit(batch, labels, seed=0)
    renamed = GraphBatch(
        **{
            **{f: getattr(batch, f) for f in batch.__dataclass_fields__},
            "numeric_names": ("units",),
        }
    )
    with pytest.raises(PredictorError, match="missing: n_out; surplus: units"):
        fitted.predict(renamed)


def test_accuracy_interval_is_symmetric_and_wider_for_more() -> None:
    accuracy = Accuracy(mean=np.array([0.7]), std=np.array([0.1]))
    low, high = accuracy.interval(0.9)
    assert high[0] - 0.7 == pytest.approx(0.7 - low[0]) == pytest.approx(0.1645, abs=1e-3)
    assert accuracy.interval(0.5)[0][0] > low[0]
