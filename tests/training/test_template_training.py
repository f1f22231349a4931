"""Networks of every template on particles and images train, together, and compute what their integers compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from codesign.export.rtl import run_trace, trace_network
from codesign.ir import Candidate
from codesign.layers import run_torch, run_words
from codesign.resources import data_root
from codesign.space import candidates_from_population, load_space
from codesign.space.templates._shared import UNSEARCHED
from codesign.training.options import TrainingOptions
from codesign.training.precision import PrecisionOptions, train_learned
from codesign.training.train import train_population
from tests.training.test_positions import task

#: Space, shape of its inputs.
SPACES = [
    ("interaction_l1", (4, 3)),
    ("mixer_l1", (4, 3)),
    ("conv_l1", (6, 2)),
    ("conv_l1", (4, 5, 1)),
    ("conv_windows_l1", (6, 7, 2)),
]


def drawn(name: str, shape: tuple[int, ...], folder: Path, **learned: list[int]) -> list[Candidate]:
    """Draw three networks of a space cut down to few particles and widths, or of one of learned widths."""
    value = yaml.safe_load((data_root("constraints") / "spaces" / f"{name}.yaml").read_text())
    for domain in value["domains"]:
        if domain == "particles" or domain.endswith("width"):
            value["domains"][domain] = [shape[0]] if domain == "particles" else [6, 8]
    if learned:
        kept = {k: v for k, v in value["domains"].items() if k not in UNSEARCHED}
        value |= {"precision": "learned", "domains": kept | learned | {"flow": ["rtl"]}}
    else:
        bits = {"result_bits": [6, 8], "weight_bits": [6, 8]}
        value["domains"] |= {"pruned_fraction": [0.0]} | bits
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(value))
    space = load_space(str(path), n_inputs=shape, n_outputs=3)
    population = space.decode(space.sample(3, np.random.default_rng(5)))
    return candidates_from_population(population, part="xcvu13p-flga2577-2-e")


@pytest.mark.parametrize(("name", "shape"), SPACES)
def test_random_networks_of_a_template_learn(name, shape, tmp_path):
    candidates = drawn(name, shape, tmp_path)
    arrays = task(shape, 300)
    options = TrainingOptions(epochs=6, batch_size=64, device="cpu", validation_fraction=0.25)
    result = train_population(candidates, arrays, options, seed=3)
    assert np.median(result.test_score) > 0.5  # chance is 1/3
    for network in result.networks:
        words = network.input_words(arrays.x_test[:200])
        assert np.array_equal(run_torch(network, words), run_words(network, words))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *SPACES,
        ("deepsets_l1", (4, 3)),
        ("attention_l1", (4, 3)),
        ("cell_l1", (6,)),
    ],
)
def test_their_widths_can_be_learned(name, shape, tmp_path):
    """In every template but tables and autoencoders: a space without the domains that training takes over has the same networks."""
    candidates, arrays = drawn(name, shape, tmp_path, lut_budget=[4000]), task(shape, 300)
    options = PrecisionOptions(epochs=24, batch_size=64, validation_fraction=0.25)
    result = train_learned(candidates, np.full(len(candidates), 4000.0), arrays, options, seed=2)
    for network in result.networks:
        words = network.input_type.draw(np.random.default_rng(3), 200).reshape(200, -1)
        expected = run_words(network, words)
        assert np.array_equal(run_torch(network, words), expected)
        assert np.array_equal(run_trace(trace_network(network), network, words), expected)


@pytest.fixture
def memory_of_no_numbers():
    """Let fresh memory hold NaN, as it may."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:.*deterministic")
@pytest.mark.parametrize(("name", "shape"), [("attention_l1", (4, 3)), ("interaction_l1", (4, 3))])
def test_what_memory_held_before_does_not_matter(name, shape, tmp_path, memory_of_no_numbers):
    candidates, arrays = drawn(name, shape, tmp_path, lut_budget=[4000]), task(shape, 200)
    options = PrecisionOptions(epochs=2, batch_size=64, validation_fraction=0.25)
    learned = train_learned(candidates, np.full(len(candidates), 4000.0), arrays, options, seed=2)
    assert np.isfinite(learned.predicted_lut).all()
    fixed = train_population(
        drawn(name, shape, tmp_path),
        arrays,
        TrainingOptions(epochs=2, batch_size=64, device="cpu", validation_fraction=0.25),
        seed=3,
    )
    assert np.isfinite(fixed.loss).all()
