"""What can be chosen is listed, each with one true line and where it is used."""

import json
import subprocess
import sys
from typing import get_args

import pytest
from typer.testing import CliRunner

from codesign.catalog import KINDS, PROXIES, REWARDS, WEIGHT_SHARING, list_choices
from codesign.cli import build_app
from codesign.errors import ConfigError
from codesign.study import LabelSection, RewardSection, WeightSharingSection
from codesign.training.proxies import CHOICES


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
    proxies, _ = get_args(LabelSection.model_fields["proxy"].annotation)
    assert tuple(PROXIES) == get_args(proxies) == CHOICES


def test_listing_and_describing_load_no_torch() -> None:
    """So that a verb starts within a second."""
    code = (
        "import sys\nfrom codesign.catalog import KINDS, list_choices\n"
        "from codesign.schema import reference_page\nreference_page()\n"
        "for kind in KINDS:\n    list_choices(kind)\n"
        "print(*{'torch', 'sklearn', 'hls4ml', 'onnx', 'plotly', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == ""


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
