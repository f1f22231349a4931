"""The hardware search finds what enumeration finds."""

import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from codesign.hardware.device import Budget, Device, Share, load_budget, load_device
from codesign.hardware.scorer import HardwareScorer, exact_population, violations
from codesign.importing import read_model
from codesign.ir import QuantizedNetwork
from codesign.search.hardware import non_dominated, search_hardware
from codesign.space import SearchSpace
from codesign.space.given import given_space
from hw_models.lowering import WEIGHT_FACTS
from hw_models.types import Estimate
from tests.importing.qonnx_files import mlp


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> QuantizedNetwork:
    path = mlp(tmp_path_factory.mktemp("model") / "m.onnx", (8, 6, 4), bits=8)
    return read_model(path).network


def _space(network: QuantizedNetwork) -> SearchSpace:
    base = exact_population([network])
    names = ("output_bits", "input_bits", "pruned_fraction", *WEIGHT_FACTS)
    return given_space(
        network,
        {name: base.columns[name] for name in names},
        clocks_mhz=[200.0, 320.0],
        strategies=["latency", "resource", "distributed_arithmetic"],
    )


def _budget(latency_ns: float) -> Budget:
    loose = load_budget("l1_100ns")
    whole = Share(lut=1.0, ff=1.0, dsp=1.0, bram_18k=1.0)
    changed = {
        "latency_ns": latency_ns, "interval_cycles": None, "interval_ns": None, "share": whole, "maximum": {},
    }  # fmt: skip
    return loose.model_copy(update=changed)


def _enumerated(space: SearchSpace) -> np.ndarray:
    genomes = np.array(list(product(*(range(len(g.domain)) for g in space.genes))))
    return np.unique(space.canonicalize(genomes), axis=0)


@pytest.mark.parametrize("latency_ns", [40.0, 80.0, 200.0, 1000.0])
def test_the_cheapest_within_a_latency_is_that_of_enumeration(
    network: QuantizedNetwork, latency_ns: float
) -> None:
    space, device = _space(network), load_device("xcvu13p")
    budget, scorer = _budget(latency_ns), HardwareScorer(device=device)
    found = search_hardware(space, scorer, budget, device)
    every = _enumerated(space)
    assert found.n_evaluations < len(every)
    expected = _cheapest(every, space, scorer, budget, device)
    assert _cheapest(found.genomes, space, scorer, budget, device) == pytest.approx(expected)


def _cheapest(
    genomes: np.ndarray, space: SearchSpace, scorer: HardwareScorer, budget: Budget, device: Device
) -> float:
    scores = scorer.score(space.decode(genomes))
    fits = (violations(scores, budget, device) <= 0).all(axis=1)
    return float(np.where(fits, scores.metrics["lut"].value, np.inf).min())


def test_solved_prices_of_plain_rtl_take_the_place_of_the_law(network: QuantizedNetwork) -> None:
    space, device = _space(network), load_device("xcvu13p")
    scorer, budget = HardwareScorer(device=device), _budget(100.0)
    rtl = np.zeros((2, len(space.genes)), dtype=np.int64)
    rtl[:, 0] = (0, 1)
    by_law = scorer.score(space.decode(rtl))
    cheap = {
        name: Estimate(value=e.value / 10, low=e.low / 10, high=e.high / 10) if name == "lut" else e
        for name, e in by_law.metrics.items()
    }
    found = search_hardware(space, scorer, budget, device, rtl=replace(by_law, metrics=cheap))
    assert found.genomes[0, 1] == 0 and found.excess[0] <= 0
    lut = by_law.metrics["lut"].value
    tight = budget.model_copy(update={"maximum": {"lut": float(lut.min()) / 4}})
    assert search_hardware(space, scorer, tight, device).n_feasible == 0
    solved = search_hardware(space, scorer, tight, device, rtl=replace(by_law, metrics=cheap))
    assert solved.n_feasible > 0 and (solved.genomes[solved.excess <= 0, 1] == 0).all()
    # each clock has a price of its own
    is_cheap, e = np.array([False, True]), by_law.metrics["lut"]
    value, low, high = (np.where(is_cheap, x / 10, x) for x in (e.value, e.low, e.high))
    one = {**by_law.metrics, "lut": Estimate(value=value, low=low, high=high)}
    second = search_hardware(space, scorer, tight, device, rtl=replace(by_law, metrics=one))
    assert second.genomes[second.excess <= 0, :2].tolist() == [[1, 0]]


def test_a_space_of_given_weights_decodes_to_the_network_itself(network: QuantizedNetwork) -> None:
    space, scorer = _space(network), HardwareScorer(device=load_device("xcvu13p"))
    genome = space.template.genome_of(network.candidate)  # type: ignore[attr-defined]
    decoded = scorer.score(space.decode(genome[None]))
    itself = scorer.score_quantized([network])
    for name, known in itself.metrics.items():
        assert decoded.metrics[name].value == pytest.approx(known.value), name


def test_rows_that_another_beats_are_left_out() -> None:
    figures = np.array([[1.0, 5.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [0.5, 9.0]])
    assert non_dominated(figures).tolist() == [0, 1, 4]


def test_the_hardware_of_a_tagger_is_found_within_a_minute(tmp_path: Path) -> None:
    """A given 64-32-32-5 network: the cheapest for every latency limit is that of all 17,252 configurations."""
    network = read_model(mlp(tmp_path / "m.onnx", (64, 32, 32, 5), bits=8)).network
    space, device = _space(network), load_device("xcvu13p")
    scorer, every = HardwareScorer(device=device), _enumerated(space)
    assert len(every) > 10_000
    for latency_ns in (30.0, 60.0, 100.0, 500.0):
        budget, started_s = _budget(latency_ns), time.monotonic()
        found = search_hardware(space, scorer, budget, device)
        assert time.monotonic() - started_s < 60
        assert found.n_evaluations < len(every) / 2
        expected = _cheapest(every, space, scorer, budget, device)
        assert latency_ns < 60.0 or np.isfinite(expected)
        cheapest = _cheapest(found.genomes, space, scorer, budget, device)
        assert cheapest == pytest.approx(expected)
