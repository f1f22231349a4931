"""Every primitive's figures on three sizes, as recorded (`make golden` records them anew; read the difference)."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hw_models.coefficients import Coefficients
from hw_models.compose import estimate
from hw_models.primitives import get_primitive, primitives
from hw_models.types import METRICS, DesignBatch, OpBatch

GOLDEN = Path(__file__).parent / "golden" / "primitives.json"
PART = "xcvu13p-flga2577-2-e"
CASES = [
    f"{name} {io_type} {tool}"
    for name in primitives()
    for io_type in ("io_parallel", "io_stream")
    for tool in ("vivado_hls", "alkaid")
]


def figures(case):
    """Metrics of a primitive on sizes 2, 5 and 16, one design each."""
    name, io_type, tool = case.split()
    given = {
        p.name: np.array([2.0, 5.0, 16.0])
        for p in get_primitive(name).parameters
        if p.default is None
    }
    for code in ("kind", "strategy", "input_is_signed", "has_bias"):
        if code in given:
            given[code] = np.array([0.0, 1.0, 1.0])
    if "zero_fraction" in given:
        given["zero_fraction"] = np.array([0.0, 0.5, 0.25])
    op = OpBatch(
        primitive=name, design=np.arange(3), stage=np.zeros(3, dtype=np.int64), parameters=given
    )
    batch = DesignBatch(
        n_designs=3,
        clock_period_ns=np.array([2.5, 5.0, 10.0]),
        clock_uncertainty_ns=np.full(3, np.nan),
        part=PART,
        tool=tool,
        tool_version="",
        io_type=io_type,
        ops=(op,),
    )
    found = estimate(batch, Coefficients())
    values = {metric: found.metrics[metric].value for metric in METRICS}
    values["energy_nj"] = found.energy_nj
    return {key: [float(f"{v:.7g}") for v in value] for key, value in values.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_primitive_costs_what_it_cost(case):
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[case]
    found = figures(case)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6), key


if __name__ == "__main__" and "--write" in sys.argv:
    everything = {case: figures(case) for case in CASES}
    lines = [f"{json.dumps(case)}: {json.dumps(value)}" for case, value in everything.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
