"""Zero-cost proxies against their formulas on plain torch modules; the vote; what a study can name."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from codesign.config import parse
from codesign.errors import CodesignError, DesignError
from codesign.ir import Node
from codesign.layers._training import TrainStep
from codesign.pipeline import plan_study
from codesign.stages.choosing import bit_operations
from codesign.stages.label import initial_genomes
from codesign.stages.setting import open_setting
from codesign.study import Study, StudyConfig
from codesign.training.proxies import CHOICES, N_ROWS, PROXIES, _Untrained, score_untrained, vote
from tests.training import test_anomaly
from tests.training.test_train import blobs, candidate_of, dense, sampled

TASK = blobs()
WIDTHS = (7, 12, 3)


def chain(width, *, bits=14):
    """Input, two hidden layers and an answer, with words so fine that rounding is no matter."""
    nodes = [
        Node(name="in", layer="input", inputs=(), parameters={"width": 16, "result_bits": bits})
    ]
    for i, units in enumerate((width, 6), start=1):
        source = nodes[-1].name
        nodes.append(dense(f"dense_{i}", source, units, weight_bits=bits))
        nodes.append(
            Node(
                name=f"relu_{i}",
                layer="relu",
                inputs=(f"dense_{i}",),
                parameters={"result_bits": bits},
            )
        )
    nodes.append(dense("head", "relu_2", 5, weight_bits=bits))
    nodes.append(
        Node(name="out", layer="linear", inputs=("head",), parameters={"result_bits": bits})
    )
    return candidate_of(nodes)


def plain(candidates):
    """The same networks with the same weights as torch modules."""
    modules = []
    untrained = _Untrained(candidates, TASK, seed=3)
    with torch.no_grad():
        untrained.model(untrained.data, TrainStep(covers_outputs=True))
    for network in untrained.model.export(candidates):
        layers = []
        for name in ("dense_1", "dense_2", "head"):
            weights = network.constants[name]["weight"].real
            layer = nn.Linear(*weights.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weights.T))
                layer.bias.copy_(torch.from_numpy(network.constants[name]["bias"].real))
            layers += [layer, nn.ReLU()]
        modules.append(nn.Sequential(*layers[:-1]).double())
    return modules


def gradients(module, total):
    weights = [layer.weight for layer in module if isinstance(layer, nn.Linear)]
    return list(zip(weights, torch.autograd.grad(total, weights), strict=True))


def by_formula(name, module):
    """A proxy of one module, as its paper writes it."""
    x = torch.from_numpy(TASK.x_train[:N_ROWS]).double()
    y = torch.from_numpy(TASK.y_train[:N_ROWS])
    if name == "synflow":
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.abs_()
        flow = gradients(module, module(torch.ones_like(x[:1])).sum())
        return float(np.log1p(sum(float((w * g).detach().sum()) for w, g in flow)))
    loss = nn.functional.cross_entropy(module(x), y)
    if name == "grad_norm":
        return float(sum(g.norm() for _, g in gradients(module, loss)))
    if name == "snip":
        return float(sum((w * g).abs().sum() for w, g in gradients(module, loss)).detach())
    values, outputs, hidden = x, [], []
    for layer in module:
        values = layer(values)
        (outputs if isinstance(layer, nn.Linear) else hidden).append(values)
    if name == "fisher":
        of_outputs = torch.autograd.grad(nn.functional.cross_entropy(values, y), outputs)
        products = [(o * g).mean(0) for o, g in zip(outputs, of_outputs, strict=True)]
        return float(sum(p.square().sum() for p in products).detach()) * N_ROWS**2 / 2
    if name == "jacobian_covariance":
        x.requires_grad_(True)
        (jacobian,) = torch.autograd.grad(module(x).sum(), x)
        rows = jacobian.numpy() - jacobian.numpy().mean(axis=1, keepdims=True)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
        eigenvalues = np.linalg.eigvalsh(rows @ rows.T).clip(0) + 1e-5
        return float(-np.sum(np.log(eigenvalues) + 1 / eigenvalues))
    code = torch.cat(hidden, dim=1) > 0
    agree = (code[:, None, :] == code[None, :, :]).sum(2).double()
    return float(torch.linalg.slogdet(agree + 1e-3 * torch.eye(N_ROWS).double())[1])


@pytest.mark.parametrize("name", PROXIES)
def test_a_population_scores_as_each_network_does_by_the_formula(name):
    candidates = [chain(width) for width in WIDTHS]
    found = score_untrained(candidates, TASK, name, seed=3)
    expected = [by_formula(name, module) for module in plain(candidates)]
    # 14 bits: what is rounded differs from real numbers by parts in ten thousand; near-zero
    # eigenvalues are sums of roundings
    assert found == pytest.approx(expected, rel=2e-2)
    assert len({round(value, 9) for value in found}) == len(WIDTHS)


@pytest.mark.parametrize("name", CHOICES)
def test_any_network_of_a_space_gets_a_finite_score_that_a_seed_decides(name):
    candidates = sampled(12, seed=4)
    scores = score_untrained(candidates, TASK, name, seed=0)
    assert scores.shape == (12,) and np.isfinite(scores).all()
    assert np.array_equal(scores, score_untrained(candidates, TASK, name, seed=0))
    assert np.unique(scores).size > 6


@pytest.mark.parametrize("name", CHOICES)
def test_anomaly_scores_of_all_forms_are_compared_without_stand_ins(name):
    task, chosen = test_anomaly.arrays(), test_anomaly.candidates(8)
    found = score_untrained(chosen, task, name, seed=1)
    assert np.isfinite(found).all() and len(set(found)) > 1
    x = task.x_train.copy()
    x[task.y_train == 1] = -5.0
    changed = dataclasses.replace(task, x_train=x)
    assert (score_untrained(chosen, changed, name, seed=1) == found).all()
    bare = test_anomaly.candidates(2, score=["distance"])  # not a weight among them
    assert np.isfinite(score_untrained(bare, task, name, seed=1)).all()


def test_widths_of_weights_count():
    fine, coarse = chain(12), chain(12, bits=3)
    assert np.diff(score_untrained([fine, coarse], TASK, "snip", seed=0)) != 0


def test_vote_follows_the_majority():
    ranks = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), np.array([3.0, 2.0, 1.0])]
    np.testing.assert_allclose(vote(ranks), [0.0, 0.5, 1.0])


def study_of(tmp_path, **labels):
    value = {"name": "s", "space": "mlp_tiny", "labels": {"n_initial": 12, **labels}}
    config = parse(StudyConfig, value, where="s.yaml")
    return Study(folder=tmp_path / "s", config=config)


def test_a_study_labels_the_best_of_every_four_of_like_size(tmp_path):
    chosen = {}
    for proxy in (None, "synflow"):
        setting = open_setting(study_of(tmp_path, proxy=proxy))
        chosen[proxy] = initial_genomes(setting, 12)
        assert len(np.unique(chosen[proxy], axis=0)) == 12
    size = {name: np.sort(bit_operations(setting.space.decode(g))) for name, g in chosen.items()}
    assert size["synflow"][-1] > 10 * size["synflow"][0]  # still spread over size
    merit = {
        name: score_untrained(setting.candidates(g), setting.arrays(), "synflow", seed=1).mean()
        for name, g in chosen.items()
    }
    assert merit["synflow"] > merit[None]


def test_a_proxy_is_planned_for_and_a_wrong_one_refused_before_training(tmp_path):
    study = study_of(tmp_path, proxy="vote")
    (label, *_) = [p for p in plan_study(study.folder, study.config) if p.name == "label_1"]
    assert label.effort.what.startswith("choose by the proxy vote, train up to 12 labels")
    for labels, said in (
        ({"proxy": "synflo"}, "labels.proxy: .*did you mean 'synflow'"),
        ({"proxy": "vote", "n_initial": 0, "n_shipped": 12}, "n_initial is 0"),
    ):
        with pytest.raises(CodesignError, match=said):
            study = study_of(tmp_path, **labels)
            plan_study(study.folder, study.config)
    with pytest.raises(DesignError, match="did you mean 'fisher'"):
        score_untrained([chain(4)], TASK, "fischer", seed=0)
