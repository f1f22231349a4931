"""What every prediction method promises: it learns, says how sure it is, and survives storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import Method, load_predictor, save_predictor
from codesign.predictor.metrics import kendall_tau

Floats = NDArray[np.float64]


def chains(n: int, *, seed: int) -> tuple[GraphBatch, Floats]:
    """Return n chains of dense layers, and labels that grow with the logarithm of their widths."""
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


class PredictorContract:
    """Tests of one prediction method; the fixture `method` gives it."""

    def test_it_learns_predicts_and_survives_storage(self, method: Method, tmp_path: Path) -> None:
        batch, labels = chains(60, seed=0)
        unseen, truth = chains(80, seed=1)
        assert method.objection(batch) is None
        fitted = method.fit(batch, labels, seed=3)
        predicted = fitted.predict(unseen)
        assert predicted.mean.shape == predicted.std.shape == (80,)
        assert np.isfinite(predicted.mean).all()
        assert not (predicted.std < 0).any()
        # The label is a sum over nodes plus a little noise; even a number per graph sees some of it.
        assert kendall_tau(truth, predicted.mean) > 0.3
        if fitted.left_out_mean is not None:
            assert fitted.left_out_mean.shape == labels.shape
            assert kendall_tau(labels, fitted.left_out_mean) > 0.0
        path = tmp_path / "predictor.npz"
        save_predictor(fitted, path, notes={"task": "test"})
        again, notes = load_predictor(path)
        assert notes == {"task": "test"}
        assert again.method == fitted.method == method.name
        np.testing.assert_array_equal(again.predict(unseen).mean, predicted.mean)
        np.testing.assert_array_equal(again.predict(unseen).std, predicted.std)

    def test_company_does_not_move_a_prediction(self, method: Method) -> None:
        batch, labels = chains(40, seed=0)
        unseen, _ = chains(12, seed=1)
        fitted = method.fit(batch, labels, seed=3)
        together = fitted.predict(unseen).mean
        alone = np.concatenate([fitted.predict(unseen.take([i])).mean for i in range(12)])
        # float32 networks sum in another order; nothing else may differ
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)

    def test_a_seed_decides_everything_and_nothing_global_moves(self, method: Method) -> None:
        import torch

        batch, labels = chains(40, seed=0)
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        first, second = (method.fit(batch, labels, seed=7).predict(batch) for _ in range(2))
        np.testing.assert_array_equal(first.mean, second.mean)
        np.testing.assert_array_equal(first.std, second.std)
        assert torch.equal(before[0], torch.random.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]

    def test_unusable_labels_are_refused(self, method: Method) -> None:
        import pytest

        batch, labels = chains(40, seed=0)
        for unusable, says in (
            (np.full(40, np.nan), "NaN or infinite, the first at index 0"),
            (np.full(40, 0.7), "nothing to learn"),
            (np.arange(3.0), "shape"),
        ):
            with pytest.raises(PredictorError, match=says):
                method.fit(batch, unusable, seed=0)
        with pytest.raises(PredictorError, match=r"1 label\(s\); expected at least"):
            method.fit(batch.take([0]), labels[:1], seed=0)
