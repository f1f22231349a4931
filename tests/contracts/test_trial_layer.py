"""A layer with a shape parameter, in a file of its own, is searched, priced, encoded, trained and exported."""

import importlib
import sys

import numpy as np
import pytest
import yaml

from codesign.encoding.population import encode_population
from codesign.export.onnx import export_onnx
from codesign.export.rtl import run_trace, trace_network
from codesign.hardware.device import load_budget, load_device
from codesign.hardware.scorer import HardwareScorer
from codesign.joint import JointProblem
from codesign.layers import LAYERS, run_torch, run_words
from codesign.search.loop import run_search
from codesign.search.strategies.base import StrategySettings
from codesign.space import candidates_from_population, load_space, population_from_candidates
from codesign.space.templates import TEMPLATES
from codesign.training.options import TaskArrays, TrainingOptions
from codesign.training.train import train_population
from codesign.validate.forms import onnx_form

SPACE = {
    "schema": 1,
    "name": "trial",
    "template": "cut",
    "source": "made up for a test",
    "domains": {
        "kept": [1, 2, 3, 5],
        "width": [3, 6, 9],
        "input_bits": [6, 8],
        "result_bits": [4, 6],
        "flow": ["rtl", "hls"],
        "clock_mhz": [200, 360],
        "weight_bits": [4, 6],
        "pruned_fraction": [0.0, 0.5],
        "strategy": ["latency", "resource"],
        "reuse_factor": [1, 3],
    },
}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    LAYERS.names(), TEMPLATES.names()  # found first, so that the trial comes last
    importlib.import_module("tests.contracts.trial_leading")
    path = tmp_path_factory.mktemp("trial") / "trial.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    yield load_space(path, n_inputs=(5, 3), n_outputs=3)
    for registry, name in ((LAYERS, "leading"), (TEMPLATES, "cut")):
        registry._items.pop(name)  # other tests see what ships
    sys.modules.pop("tests.contracts.trial_leading")


def kept_of(population):
    rows = population.layer == population.layer_names.index("leading")
    return population.columns["kept"][rows], population.columns["n_positions"][rows]


def test_it_travels_through_populations_and_candidates(space):
    population = space.decode(space.sample(100, np.random.default_rng(0)))
    kept, positions = kept_of(population)
    assert np.array_equal(kept, positions) and set(kept) == {1, 2, 3, 5}
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    again = population_from_candidates(candidates)
    for name in population.columns:
        assert np.array_equal(population.columns[name], again.columns[name]), name


def test_it_is_searched_priced_and_encoded(space):
    def score(population):
        """More positions are better: the search must weigh them against their cost."""
        batch = encode_population(population)
        assert "leading" in batch.op_names and len(batch) == population.n_candidates
        kept, _ = kept_of(population)
        return 0.5 + 0.05 * kept, np.full(len(kept), 0.01)

    problem = JointProblem(
        space=space,
        scorer=HardwareScorer(device=load_device("xcvu13p")),
        budget=load_budget("l1_100ns"),
        score=score,
        objectives=("score", "lut"),
    )
    archive = run_search(
        problem,
        "nsga2",
        n_evaluations=400,
        seed=1,
        settings=StrategySettings(population_size=40),
    )
    found = {int(k) for k in kept_of(space.decode(archive.genomes))[0]}
    assert found == {1, 2, 3, 5}


def test_it_is_trained_and_exported(space):
    generator = np.random.default_rng(3)
    y = generator.integers(0, 3, 800)
    x = generator.normal(size=(800, 5, 3)).astype(np.float32)
    x[:, 0, 0] += (y - 1) * 2.0  # only the first particle knows
    x[:, 4] *= 5.0
    task = TaskArrays(x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:])
    population = space.decode(space.sample(4, np.random.default_rng(2)))
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    result = train_population(
        candidates, task, TrainingOptions(epochs=8, batch_size=64, device="cpu"), seed=1
    )
    assert (result.test_score > 0.55).all()
    network = result.networks[0]
    words = network.input_words(x[600:])
    expected = run_words(network, words)
    assert np.array_equal(run_torch(network, words), expected)
    assert np.array_equal(
        onnx_form(export_onnx(network).content, "the export").run(words), expected
    )
    assert np.array_equal(run_trace(trace_network(network), network, words), expected)
