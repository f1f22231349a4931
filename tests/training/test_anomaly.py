"""Anomaly scores of the chip's own: losses against plain definitions, no label seen, exact in every form."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codesign.errors import ConfigError, DesignError
from codesign.export.hls4ml import build_c_simulation, export_hls4ml
from codesign.export.onnx import export_onnx, export_qonnx, run_qonnx
from codesign.export.rtl import export_rtl, run_trace, trace_network
from codesign.layers import run_torch, run_words, typed
from codesign.space import SearchSpace, candidates_from_population, load_space
from codesign.space.templates.autoencoder import Autoencoder
from codesign.tasks.target import HeadOptions, Target, make_head
from codesign.training import TaskArrays, TrainingOptions, train_population
from codesign.training.anomaly import AnomalyLoss, Evidence, evidence_of
from codesign.training.losses import TargetLoss
from codesign.validate.forms import onnx_form, verilog_form
from codesign.validate.vectors import corner_words
from tests.export.test_all_forms import emulated_outputs
from tests.training.test_train import sampled

HEAD = make_head(
    "anomaly", "anomaly", ("background", "stand-in"), options=HeadOptions(name="anomaly")
)
TARGET = Target(heads=(HEAD,))
FORMS = ("latent", "reconstruction", "features", "distance")


def space(**domains) -> SearchSpace:
    """A small space of all forms, or of what is asked."""
    values = {
        "depth": [1, 2],
        "latent": [2, 3],
        "score": list(FORMS),
        "error": ["square", "absolute"],
        "width": [4, 5],
        "activation": ["relu"],
        "batch_norm": [0, 1],
        "input_bits": [6],
        "weight_bits": [4, 6],
        "result_bits": [5, 6],
        "pruned_fraction": [0.0, 0.5],
        "output_bits": [12],
        "flow": ["rtl"],
        "strategy": ["latency"],
        "reuse_factor": [1],
        "clock_mhz": [200],
    } | domains
    return replace(
        load_space("mlp_tiny", n_inputs=6, n_outputs=1),
        template=Autoencoder(values, input_shape=(6,), n_outputs=1),
    )


def candidates(n, **domains):
    of = space(**domains)
    genomes = of.canonicalize(of.sample(n, np.random.default_rng(3)))
    return candidates_from_population(of.decode(genomes), part="xcvu13p-flga2577-2-e")


def arrays(stand_ins=3.0, n=480):
    """Background on a plane of six dimensions; stand-ins off it; signals of another kind in the test set."""
    generator = np.random.default_rng(0)
    base = generator.standard_normal((n, 2)) @ generator.standard_normal((2, 6))
    x = (base + 0.2 * generator.standard_normal((n, 6))).astype(np.float32)
    y = np.arange(n) % 2
    x[y == 1] += (stand_ins * generator.standard_normal((int(y.sum()), 6))).astype(np.float32)
    return TaskArrays(
        x_train=x[:360], y_train=y[:360], x_test=x[360:], y_test=y[360:], target=TARGET
    )


# ---- structure --------------------------------------------------------------------------------------
def test_how_a_network_ends_says_what_it_is_trained_for():
    found = {
        (score, error): evidence_of(candidates(1, score=[score], error=[error])[0].network)
        for score in FORMS
        for error in ("square", "absolute")
    }
    for (score, error), evidence in found.items():
        assert evidence.form == score
        assert evidence.power == (2 if error == "square" or score == "latent" else 1)
        assert (evidence.tapped is None) == (score in ("reconstruction", "distance"))


def test_other_networks_learned_widths_and_other_heads_are_refused():
    with pytest.raises(DesignError, match="must end in a sum of squares.*use template autoencoder"):
        evidence_of(sampled(1)[0].network)
    with pytest.raises(DesignError, match="set train.precision: uniform"):
        TargetLoss(TARGET, 1, TrainingOptions())
    other = make_head("b", "binary", ("no", "yes"))
    with pytest.raises(ConfigError, match="only output of its network; leave the other heads out"):
        Target(heads=(HEAD, other))
    with pytest.raises(ConfigError, match="computes one score, the task wants 3 outputs"):
        Autoencoder({}, input_shape=(6,), n_outputs=3)


def test_published_architectures_are_spaces_of_one():
    one = {"batch_norm": [0], "weight_bits": [6], "result_bits": [6], "pruned_fraction": [0.0]}
    axol1tl = candidates(
        1, depth=[2], width_1=[28], width_2=[15], latent=[8], score=["latent"], width=[4], **one
    )[0]
    widths = [n.parameters["units"] for n in axol1tl.network.nodes if n.layer == "dense"]
    assert widths == [28, 15, 8]
    plain = candidates(1, depth=[1], width=[16], latent=[3], score=["reconstruction"], **one)[0]
    widths = [n.parameters["units"] for n in plain.network.nodes if n.layer == "dense"]
    assert widths == [16, 3, 16, 6]


# ---- losses -----------------------------------------------------------------------------------------
def test_losses_are_their_formulas():
    generator = torch.Generator().manual_seed(1)
    x, weights = torch.randn(6, 40, generator=generator), torch.rand(40, generator=generator) + 0.5
    score = torch.rand(4, 1, 40, generator=generator) + 0.1
    tapped = torch.randn(3, 5, 40, generator=generator)
    evidence = [
        Evidence(form="latent", tapped="z", power=2),
        Evidence(form="reconstruction", tapped=None, power=2),
        Evidence(form="features", tapped="h", power=2),
        Evidence(form="features", tapped="h", power=1),
    ]
    loss = AnomalyLoss(evidence, widths=[3, 0, 5, 4], n_inputs=6, seeds=[1, 2, 3, 4])
    with torch.no_grad():
        loss.log_variance.fill_(-40.0)  # no noise to speak of
        found = loss(score, x, tapped, weights).numpy()
    share = (weights / weights.sum()).numpy()
    expected = []
    for i, (width, tap) in enumerate(((3, 0), (0, None), (5, 1), (4, 2))):
        mean_score = float(score[i, 0].numpy() @ share)
        if tap is None:
            expected.append(mean_score)
            continue
        z = tapped[tap, :width].numpy()
        first, second = (w[tap].detach().numpy() for w in loss.weights)
        rebuilt = second @ np.maximum(first[:, :width] @ z, 0.0)
        error = ((rebuilt - x.numpy()) ** 2).mean(axis=0) @ share
        own = 3.0 * np.log(error)
        if i == 0:  # KL of normals, with the variance of exp(-40)
            own += 0.5 * ((z**2) @ share - 1.0 + 40.0).sum()
        else:
            away = z - (z @ share)[:, None]
            spread = ((away**2 if i == 2 else np.abs(away)) @ share).sum()
            own += 0.5 * width * np.log(mean_score / spread)
        expected.append(own)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_nothing_is_learned_from_stand_ins_and_yet_they_are_told_apart():
    """Rows of class 1 may hold anything: the networks are the same."""
    chosen = candidates(12)
    options = TrainingOptions(epochs=2, batch_size=32)
    task = arrays()
    first = train_population(chosen, task, options, seed=1)
    changed = task.x_train.copy()
    changed[task.y_train == 1] = -5.0
    again = train_population(chosen, replace(task, x_train=changed), options, seed=1)
    assert [n.digest for n in first.networks] == [n.digest for n in again.networks]
    forms = np.array([evidence_of(c.network).form for c in chosen])
    assert set(forms) == set(FORMS)
    assert np.median(first.test_score[forms == "reconstruction"]) > 0.8


def test_training_lowers_every_loss_and_keeps_features_alive():
    chosen = candidates(6, width=[5], pruned_fraction=[0.0], score=list(FORMS[:3]))
    result = train_population(chosen, arrays(), TrainingOptions(epochs=6, batch_size=32), seed=2)
    assert (result.loss[:, -1] < result.loss[:, 0]).all()
    for candidate, network in zip(chosen, result.networks, strict=True):
        evidence = evidence_of(candidate.network)
        words = network.input_words(arrays().x_test)
        traced = run_words(network, words, trace=True)
        assert len(np.unique(traced[network.network.nodes[-1].name])) > 10
        if evidence.tapped is not None:
            assert traced[evidence.tapped].std() > 0


def test_inputs_keep_rare_large_values():
    """Of the ranges of a width, inputs of anomaly scores take that of least squared error, not of least absolute one."""
    task = arrays(n=800)
    x = task.x_train.copy()
    x[::20] *= 12.0
    task = replace(task, x_train=x)
    (network,) = train_population(
        candidates(1), task, TrainingOptions(epochs=2, batch_size=64), seed=1
    ).networks
    seen, errors = x[task.y_train == 0], {}
    for integer_bits in range(8):
        lsb, high = 2.0 ** (integer_bits - 6), 2.0 ** (integer_bits - 1)
        error = np.clip(np.floor(seen / lsb) * lsb, -high, high - lsb) + lsb / 2 - seen
        errors[integer_bits] = np.abs(error).mean(), (error**2).mean()
    absolute, squared = (min(errors, key=lambda i: errors[i][k]) for k in (0, 1))
    assert absolute < squared
    assert network.input_format.integer_bits == squared


def test_the_distance_needs_no_training_and_is_the_trivial_answer():
    """Alone in a chunk: no parameter learns; to the grid of the inputs the score is the squared distance from the mean."""
    task = arrays()
    (network,) = train_population(
        candidates(1, score=["distance"], error=["square"], input_bits=[10], output_bits=[16]),
        task,
        TrainingOptions(epochs=1, batch_size=64),
        seed=1,
    ).networks
    x = task.x_test[task.y_test == 0]
    found = np.asarray(run_words(network, network.input_words(x)))[:, 0]
    plain = (x.astype(np.float64) ** 2).sum(axis=1)
    assert not [node for node in network.network.nodes if node.layer == "dense"]
    assert np.corrcoef(found, plain)[0, 1] > 0.999


# ---- forms ------------------------------------------------------------------------------------------
def trained(form):
    (candidate,) = candidates(
        1, score=[form], depth=[1], width=[4], latent=[2], error=["absolute"] if form == "features" else ["square"]
    )  # fmt: skip
    (network,) = train_population(
        [candidate], arrays(), TrainingOptions(epochs=2, batch_size=32), seed=1
    ).networks
    words = np.concatenate([corner_words(network), network.input_words(arrays().x_test)])
    return network, words, np.asarray(run_words(network, words))


@pytest.mark.parametrize("form", FORMS)
def test_the_score_is_exact_in_every_form_without_a_compiler(form):
    network, words, expected = trained(form)
    found = {
        "torch": run_torch(network, words),
        "onnx": onnx_form(export_onnx(network).content, "the export").run(words),
        "qonnx": run_qonnx(export_qonnx(network), network, words),
        "alkaid": run_trace(trace_network(network), network, words),
    }
    assert not [name for name, got in found.items() if not np.array_equal(got, expected)]
    # and it is what its definition says, from the traced nodes
    evidence, trace = evidence_of(network.network), run_words(network, words, trace=True)
    sites = typed(network)

    def values(name):
        return trace[name] * 2.0 ** -sites[name].output.type.fraction_bits

    *_, before, total, last = [node.name for node in network.network.nodes]
    source = network.network.node(before).inputs[0]
    if evidence.form in ("latent", "distance"):
        plain = (values(source) ** 2).sum(axis=1)
    else:
        first, second = network.network.node(source).inputs
        away = np.abs(values(first) - values(second))
        plain = (away**evidence.power).sum(axis=1)
    assert np.array_equal(values(total)[:, 0], plain)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_score_is_exact_in_every_compiled_form(form, tmp_path):
    network, words, expected = trained(form)
    c_simulation = build_c_simulation(
        export_hls4ml(network), network, tmp_path / "hls", optimize=False
    )
    rtl = verilog_form(export_rtl(network), tmp_path / "rtl", optimize=False)
    assert np.array_equal(emulated_outputs(network, words, tmp_path / "emulator"), expected)
    assert np.array_equal(c_simulation.run(words), expected)
    assert np.array_equal(rtl.run(words), expected)
