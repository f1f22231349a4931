"""What single methods do beyond the contract that they share, and what storage refuses."""

from pathlib import Path

import numpy as np
import pytest

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, PredictedScores, load_predictor
from codesign.predictor.methods.transfer import Transfer
from codesign.predictor.metrics import kendall_tau
from codesign.testing.predictors import chains


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
    score = PredictedScores(mean=np.array([0.7]), std=np.array([0.1]))
    low, high = score.interval(0.9)
    assert high[0] - 0.7 == pytest.approx(0.7 - low[0]) == pytest.approx(0.1645, abs=1e-3)
    assert score.interval(0.5)[0][0] > low[0]
