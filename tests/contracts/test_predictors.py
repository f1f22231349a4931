"""Every registered prediction method keeps the promises of one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.errors import PredictorError
from codesign.predictor.base import METHODS, Method, load_predictor, save_predictor
from codesign.predictor.methods import gin, gp, random_forest
from codesign.predictor.methods.transfer import Transfer
from codesign.testing.predictors import PredictorContract, chains


@pytest.fixture(autouse=True)
def quick_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train networks for a few steps: these tests are about contracts, not about score."""
    monkeypatch.setattr(gin, "steps_for", lambda n_labels: 15)
    monkeypatch.setattr(gp, "TUNING_STEPS", 15)
    monkeypatch.setattr(random_forest, "N_TREES", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestMethod(PredictorContract):
    @pytest.fixture(params=[name for name in METHODS.names() if name != "constant"])
    def method(self, request: pytest.FixtureRequest) -> Method:
        if request.param == "transfer":
            others, their_labels = chains(60, seed=5)
            return Transfer(base=METHODS.get("ridge").fit(others, their_labels, seed=0))
        return METHODS.get(request.param)


def test_a_constant_is_for_equal_labels_and_survives_storage(tmp_path: Path) -> None:
    batch, labels = chains(12, seed=0)
    method = METHODS.get("constant")
    fitted = method.fit(batch, np.full(12, 0.7), seed=0)
    save_predictor(fitted, tmp_path / "predictor.npz", notes={})
    again, _ = load_predictor(tmp_path / "predictor.npz")
    assert again.predict(batch).mean.tolist() == [0.7] * 12
    assert again.predict(batch).std.tolist() == [0.0] * 12
    with pytest.raises(PredictorError, match="labels that differ"):
        method.fit(batch, labels, seed=0)
