"""Inputs as the hardware has them, whole numbers, and outputs by name: what an export says is what it does."""

import json

import numpy as np
import pytest

from codesign.export.bundle import export_candidate
from codesign.space import candidates_from_population, load_space
from codesign.tasks import fit_scaling, load_task
from codesign.training import TaskArrays, TrainingOptions, train_population


@pytest.fixture(scope="module")
def muons(tmp_path_factory):
    """Two heads of the muons, read as integers: a small network, exported without compiled forms."""
    heads = [{"name": "momentum"}, {"name": "displacement", "weight": 0.5}]
    data = load_task("muons", {"n_train_max": 1500, "n_test_max": 300, "heads": heads})
    scaling = fit_scaling(data, method="hardware")
    space = load_space("mlp_tiny", n_inputs=data.input_shape, n_outputs=data.n_outputs)
    population = space.decode(space.sample(1, np.random.default_rng(0)))
    chosen = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    result = train_population(
        chosen, TaskArrays.of(data, scaling), TrainingOptions(epochs=1), seed=1
    )
    folder = tmp_path_factory.mktemp("export")
    export_candidate(
        result.networks[0],
        folder / "firmware",
        scaling=scaling.to_json(),
        vectors=result.networks[0].input_words(scaling.apply(data.x_test)),
        backends=(),
        with_rtl=False,
        heads=data.target.statement(),
        integer_ports=scaling.integer_ports,
    )
    return data, scaling, result.networks[0], folder / "firmware"


def test_integer_arithmetic_makes_the_input_words_also_where_they_saturate(muons):
    data, scaling, network, folder = muons
    stated = json.loads((folder / "input_scaling.json").read_text())
    raw = data.x_test.astype(np.int64)
    raw = np.concatenate(
        [raw, np.zeros_like(raw[:1]), np.full_like(raw[:1], 30_000), -raw[:1] - 30_000]
    )
    ports = stated["from_whole_numbers"]
    away = raw - np.array(ports["offset"])
    shifts = ports["right_shift"]
    words = np.stack(
        [away[:, i] >> s if s >= 0 else away[:, i] << -s for i, s in enumerate(shifts)], axis=1
    )
    words = np.clip(words, stated["min_word"], stated["max_word"])
    assert np.array_equal(words, network.input_words(scaling.apply(raw.astype(np.float32))))
    assert (words[-2] == stated["max_word"]).any() and (words[-1] == stated["min_word"]).all()


def test_every_output_has_a_name_and_says_how_its_word_becomes_a_value(muons):
    data, _, network, folder = muons
    outputs = json.loads((folder / "outputs.json").read_text())["outputs"]
    assert [(o["head"], o["name"], o["unit"]) for o in outputs] == [
        (head.name, name, unit)
        for head in data.target.heads
        for name, unit in zip(head.names, head.units, strict=True)
    ]
    words = np.arange(-3, 4)
    for entry, place in zip(outputs, range(data.n_outputs), strict=True):
        head = next(h for h in data.target.heads if h.name == entry["head"])
        value = words * 2.0**-network.output_format.fraction_bits * entry["scale"] + entry["offset"]
        index = place - data.target.output_slices[data.target.heads.index(head)].start
        column = np.zeros((len(words), head.n_outputs))
        column[:, index] = network.output_format.values_from_words(words)
        np.testing.assert_allclose(value, head.values(column)[:, index])
