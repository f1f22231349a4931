"""Every registered prediction method keeps the promises of one."""

from collections.abc import Iterator

import pytest
import torch

from codesign.predictor.base import METHODS, Method
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
    @pytest.fixture(params=METHODS.names())
    def method(self, request: pytest.FixtureRequest) -> Method:
        if request.param == "transfer":
            others, their_labels = chains(60, seed=5)
            return Transfer(base=METHODS.get("ridge").fit(others, their_labels, seed=0))
        return METHODS.get(request.param)
