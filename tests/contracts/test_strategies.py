"""Every registered search strategy keeps the promises of ask/tell."""

import pytest

from codesign.search.strategies.base import STRATEGIES, StrategySettings
from codesign.testing.strategies import StrategyContract

#: Those that need more than the contract's defaults have a class of their own below.
SPECIAL = ("exhaustive", "moead", "optuna_tpe")


class TestStrategy(StrategyContract):
    @pytest.fixture(params=[name for name in STRATEGIES.names() if name not in SPECIAL])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)


class TestMoead(StrategyContract):
    small_settings = StrategySettings(population_size=12)

    @pytest.fixture
    def name(self) -> str:
        return "moead"


class TestExhaustive(StrategyContract):
    follows_order = True

    @pytest.fixture
    def name(self) -> str:
        return "exhaustive"


@pytest.mark.slow  # it rebuilds its models for every proposal
class TestOptuna(StrategyContract):
    budget = 75
    finishes = False

    @pytest.fixture
    def name(self) -> str:
        pytest.importorskip("optuna", reason="the optional package optuna is not installed")
        return "optuna_tpe"
