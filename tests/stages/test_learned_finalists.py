"""Finalists with learned widths: what is kept is priced, typed per element, and scored on rows it never saw."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from codesign.export.rtl import run_trace, solve_at_depths, trace_network
from codesign.hardware.scorer import SolvedGraph
from codesign.ir import QuantizedNetwork
from codesign.reporter import SilentReporter
from codesign.results import FrontPoint
from codesign.stages import setting as setting_module
from codesign.stages import train as stage
from codesign.stages.setting import open_setting
from codesign.stages.statistics import trivial_answers
from codesign.stages.train import train_points
from codesign.study import Study, StudyConfig
from codesign.training import teacher
from codesign.training.judge import merit_of
from codesign.training.precision import LearnedResult
from tests.export.random_networks import random_network, random_words, reference


def points(setting, n: int) -> list[FrontPoint]:
    """The first n genomes of the space whose flow is plain RTL."""
    generator = np.random.default_rng(0)
    found: list[FrontPoint] = []
    for genome in setting.space.sample(200, generator):
        (candidate,) = setting.candidates([genome.tolist()])
        if candidate.hardware.flow == "rtl" and len(found) < n:
            common = dict(score=0.7, score_std=0.01, clock_mhz=360.0, latency_cycles=3.0)
            costs = dict(latency_ns=9.0, lut=900.0, ff=900.0, dsp=0.0, bram_18k=0.0)
            found.append(
                FrontPoint(
                    digest=candidate.digest,
                    genome=genome.tolist(),
                    flow="rtl",
                    io_type="io_parallel",
                    layers=[],
                    utilization=0.01,
                    **common,
                    **costs,
                )
            )
    return found


@pytest.mark.parametrize("n_workers", [None, 1, 4])
def test_every_finalist_gets_the_networks_that_were_trained_for_it(monkeypatch, n_workers):
    """Trainings start in another order than they are told, and may end in any."""

    def trained(candidates, luts, arrays, options, seed, n_restarts):
        split = "all rows" if options.validation_fraction == 0 else options.split
        found = [
            (c, float(b), split, seed, n)
            for c, b, n in zip(candidates, luts, n_restarts, strict=True)
        ]
        return LearnedResult(
            networks=tuple(found),
            predicted_lut=luts,
            price=luts,
            validation_rows=np.zeros(0, dtype=np.int64),
            seconds=0.0,
        )

    def polish(result, arrays, options, max_values):
        (network,), (lut,) = result.networks, result.price
        assert lut == network[1] and options.validation_fraction == 0 and max_values > 0
        return replace(result, networks=(("polished", *network),))

    monkeypatch.setattr(stage, "learn_with_teacher", trained)
    monkeypatch.setattr(stage, "polished", polish)
    pool = None if n_workers is None else ThreadPoolExecutor(n_workers)
    config = StudyConfig.model_validate(
        {"name": "s", "seed": 7, "train": {"n_splits": 3, "n_restarts": 5}}
    )
    setting = SimpleNamespace(
        study=SimpleNamespace(config=config),
        arrays=lambda: SimpleNamespace(y_train=np.zeros(4000)),
        reporter=SilentReporter(),
        pool=lambda: nullcontext(pool),
    )
    found = stage.train_learned(setting, ["a", "b"], np.array([500.0, 900.0]))
    # five trainings in the mean: nine of the cheaper one
    for name, lut, n, finalist in zip("ab", (500.0, 900.0), (9, 1), found, strict=True):
        assert finalist.splits == tuple((name, lut, k, 7 + k, 1) for k in range(3))
        assert finalist.kept == ("polished", name, lut, "all rows", 10, n)


@pytest.mark.slow
def test_finalists_learn_their_widths_and_become_designs(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "_EPOCHS", 1)
    monkeypatch.setattr(setting_module, "open_pool", lambda *_, **__: nullcontext(None))
    train = {"precision": "learned", "epochs": 12, "n_splits": 1, "lut": [800, 2000]}
    config = StudyConfig.model_validate({"name": "s", "space": "mlp_tiny", "train": train})
    setting = open_setting(Study.at(tmp_path / "s", config).begin())
    arrays = setting.arrays()
    baselines = trivial_answers(arrays, n_splits=1)
    luts = np.array([800.0, 2000.0])
    designs = train_points(setting, points(setting, 2), baselines, luts)
    for design in designs:
        network = QuantizedNetwork.load(setting.study.weights_file(design.digest))
        weights = next(roles["weight"] for roles in network.constants.values())
        assert weights.type.bits.shape == weights.values.shape  # a width of its own each
        assert design.test.value == merit_of(
            network, arrays, arrays.x_test, arrays.y_test, weights=None
        )
        assert design.validation.value > 0.4  # chance is 0.2
        assert design.estimated.value == design.validation.value
        assert design.predicted_with_weights["lut"].value > 0
    assert (
        designs[0].predicted_with_weights["lut"].value
        < designs[1].predicted_with_weights["lut"].value
    )
    before = [design.network_digest for design in designs]
    again = train_points(setting, points(setting, 2), baselines, luts)
    assert [design.network_digest for design in again] == before  # nothing is trained twice


def graph(cost: float, cycles: float, registers: float) -> SolvedGraph:
    return SolvedGraph(
        adder_cost=cost, register_bits=registers, latency_cycles=cycles, adder_levels=9.0
    )


def test_a_network_takes_the_clock_and_depth_of_least_lut_times_latency():
    network = random_network(0, strategies=("distributed_arithmetic",))
    shallow = replace(
        network,
        candidate=replace(
            network.candidate, hardware=replace(network.candidate.hardware, spare_adder_levels=0)
        ),
    )
    assert shallow.digest != network.digest  # another circuit, though it computes the same words
    periods = [2.0, 4.0, 5.0]
    deep = (network, [graph(500, 7, 900), graph(500, 4, 600), graph(500, 3, 400)])  # 14, 16, 15 ns
    flat = (shallow, [graph(510, 6, 800), graph(510, 3, 500), graph(510, 3, 450)])  # 12, 12, 15 ns
    chosen, graphs = stage._retimed([deep, flat], periods, np.inf)
    assert chosen.candidate.hardware.clock_period_ns == 4.0  # of equal ones, the fewer registers
    assert chosen.candidate.hardware.spare_adder_levels == 0 and graphs == flat[1]
    chosen, _ = stage._retimed([deep, flat], periods, 3.0)  # an event every 3 ns
    assert chosen.candidate.hardware.clock_period_ns == 2.0
    slow = replace(
        shallow,
        candidate=replace(
            shallow.candidate,
            hardware=replace(shallow.candidate.hardware, interval_cycles=2),
        ),
    )
    chosen, _ = stage._retimed([deep, (slow, flat[1])], periods, 7.0)  # 4 ns twice are too many
    assert chosen.candidate.hardware.clock_period_ns == 2.0
    dear = (shallow, [graph(600, 6, 800), graph(600, 3, 500), graph(600, 3, 450)])
    chosen, _ = stage._retimed([deep, dear], periods, np.inf)
    assert chosen.candidate.hardware.spare_adder_levels is None
    assert chosen.candidate.hardware.clock_period_ns == 2.0
    nothing = (network, [None, None, None])  # constant outputs: no logic to cut
    assert stage._retimed([nothing], periods, np.inf) == nothing


def test_shallower_graphs_compute_the_same_words_with_fewer_levels():
    network = random_network(3, strategies=("distributed_arithmetic",))
    solutions = solve_at_depths(network, [2.5, 5.0])
    words = random_words(network, 200, seed=4)
    expected = reference(network, words)
    levels, costs = [], []
    for solved, (first, second) in solutions:
        assert np.array_equal(run_trace(trace_network(solved), solved, words), expected)
        assert (
            first.latency_cycles >= second.latency_cycles and first.adder_cost == second.adder_cost
        )
        levels.append(first.adder_levels)
        costs.append(first.adder_cost)
    assert [s.candidate.hardware.spare_adder_levels for s, _ in solutions] == [None, 1, 0]
    assert levels[-1] < levels[0] and len(set(costs)) > 1
