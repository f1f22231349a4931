"""What can be chosen is listed, each with one true line and where it is used."""

import json
from typing import get_args

import pytest
from typer.testing import CliRunner

from codesign.catalog import KINDS, REWARDS, WEIGHT_SHARING, list_choices
from codesign.cli import build_app
from codesign.errors import ConfigError
from codesign.study import RewardSection, WeightSharingSection


@pytest.mark.parametrize("kind", KINDS)
def test_everything_has_a_name_and_a_line(kind: str) -> None:
    rows = list_choices(kind)
    assert rows
    for name, text, _ in rows:
        assert len(text) > 8, name
        assert not text.startswith("Hyperparameters"), "that is about fields, not about the thing"
    assert len({name for name, _, _ in rows}) == len(rows)


def test_words_of_a_study_are_those_its_model_takes() -> None:
    methods = get_args(get_args(WeightSharingSection.model_fields["methods"].annotation)[0])
    assert set(WEIGHT_SHARING) == set(methods)
    assert set(REWARDS) == set(get_args(RewardSection.model_fields["kind"].annotation))


def test_devices_say_what_they_have_and_budgets_what_they_limit() -> None:
    devices = {name: figures for name, _, figures in list_choices("devices")}
    assert devices["xc7z020"]["dsp"] == 220 and devices["xcvu13p"]["lut"] == 1_728_000
    budgets = {name: figures for name, _, figures in list_choices("budgets")}
    assert budgets["l1_100ns"]["latency_ns"] == 100
    assert budgets["l1_100ns"]["lut"] == "10 % of slr, at most 15000"


def test_the_verb_lists_kinds_choices_and_json() -> None:
    runner, app = CliRunner(), build_app()
    kinds = runner.invoke(app, ["list"]).stdout
    assert all(kind in kinds and known.use in kinds for kind, known in KINDS.items())
    rows = json.loads(runner.invoke(app, ["list", "weight_sharing", "--json"]).stdout)
    assert {"darts1", "drnas", "proxylessnas", "supernet"} <= {row["name"] for row in rows}


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spaces'"):
        list_choices("space")
