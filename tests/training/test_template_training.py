"""Networks of every template on particles and images train, together, and compute what their integers compute."""

import numpy as np
import pytest
import yaml

from codesign.layers import run_torch, run_words
from codesign.resources import data_root
from codesign.space import candidates_from_population, load_space
from codesign.training.options import TrainingOptions
from codesign.training.train import train_population
from tests.training.test_positions import task

#: Space, shape of its inputs.
SPACES = [
    ("interaction_l1", (4, 3)),
    ("mixer_l1", (4, 3)),
    ("conv_l1", (6, 2)),
    ("conv_l1", (4, 5, 1)),
]


@pytest.mark.parametrize(("name", "shape"), SPACES)
def test_random_networks_of_a_template_learn(name, shape, tmp_path):
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{name}.yaml").read_text())
    for domain in value["domains"]:
        if domain == "particles" or domain.endswith("width"):
            value["domains"][domain] = [shape[0]] if domain == "particles" else [6, 8]
    value["domains"] |= {"pruned_fraction": [0.0], "result_bits": [6, 8], "weight_bits": [6, 8]}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    space = load_space(str(path), n_inputs=shape, n_outputs=3)
    population = space.decode(space.sample(3, np.random.default_rng(5)))
    candidates = candidates_from_population(population, part="xcvu13p-flga2577-2-e")
    arrays = task(shape, 300)
    options = TrainingOptions(epochs=6, batch_size=64, device="cpu", validation_fraction=0.25)
    result = train_population(candidates, arrays, options, seed=3)
    assert np.median(result.test_score) > 0.5  # chance is 1/3
    for network in result.networks:
        words = network.input_words(arrays.x_test[:200])
        assert np.array_equal(run_torch(network, words), run_words(network, words))
