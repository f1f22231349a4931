"""What is written out by hand for speed computes what torch or the definition would."""

import numpy as np
import pytest
import torch

from codesign.ir import FixedPoint, TensorType
from codesign.layers import LAYERS
from codesign.layers._table import TableActivation
from codesign.layers._train_dense import _EPSILON, _Fold
from codesign.layers._training import Grid, ResultRange, TrainStep, floor_saturate
from codesign.tasks.target import classes_target
from codesign.training.losses import TargetLoss
from codesign.training.options import TrainingOptions, initial_seeds
from codesign.training.population_module import PopulationModule
from codesign.training.schedule import build_schedule

from .test_train import sampled


def fold_inputs():
    generator = torch.Generator().manual_seed(0)
    k, n_out, n_in = 5, 4, 6

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    trained = [normal(k, n_out, n_in), normal(k, n_out), normal(k, n_out)]
    samples = normal(k, n_in, 30)
    kept = (normal(k, n_out, n_in) > -0.5).double()
    flags = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)[:, None]
    fixed = (kept, normal(k, n_in), samples @ samples.transpose(1, 2) / 30, flags)
    return [t.requires_grad_() for t in trained], fixed


def test_folding_of_batch_norm_is_its_definition():
    (weight, bias, gain), (kept, mean, covariance, flags) = fold_inputs()
    found = _Fold.apply(weight, bias, gain, kept, mean, covariance, flags)
    pruned = weight * kept
    variance = ((pruned @ covariance) * pruned).sum(dim=2)
    scale = torch.where(flags > 0, gain * torch.rsqrt(variance + _EPSILON), 1.0)
    centre = torch.where(flags > 0, (pruned @ mean[:, :, None])[:, :, 0], 0.0)
    # float64 on both sides: a few units of the last of 16 digits
    assert torch.allclose(found[0], pruned * scale[:, :, None], rtol=1e-13)
    assert torch.allclose(found[1], bias - scale * centre, rtol=1e-13)


def test_gradients_of_folding_are_those_of_finite_differences():
    trained, fixed = fold_inputs()
    assert torch.autograd.gradcheck(lambda w, b, g: _Fold.apply(w, b, g, *fixed), trained)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_cross_entropy_of_torch(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(7, 5, 64, generator=generator)).requires_grad_()
    labels = torch.randint(0, 5, (64,), generator=generator)
    expected = torch.nn.functional.cross_entropy(
        logits, labels.expand(7, -1), reduction="none", label_smoothing=smoothing
    ).mean(dim=1)
    options = TrainingOptions(label_smoothing=smoothing)
    loss = TargetLoss(classes_target("abcde"), 5, options)
    targets = loss.targets(labels.numpy(), np.zeros((64, 1), np.float32))
    found = loss(logits, targets)
    # float32: seven digits, over sums of five terms
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", [la.name for la in LAYERS if isinstance(la, TableActivation)])
@pytest.mark.parametrize("bits", [3, 8, 12])  # beyond, float32 shows in a few entries
def test_every_table_entry_is_what_training_computes(name, bits):
    layer = LAYERS.get(name)
    index = layer.index_format
    words = np.arange(index.min_word, index.max_word + 1)
    values = torch.tensor(index.values_from_words(words), dtype=torch.float32)
    for integer_bits in (-1, 0, 1):
        result = FixedPoint(
            bits=bits, integer_bits=integer_bits, signed=bool(layer.result_is_signed)
        )
        trained = floor_saturate(
            layer.train_function(values),
            torch.tensor(float(bits)),
            torch.tensor(float(integer_bits)),
            is_signed=result.signed,
        )
        table = result.values_from_words(layer.table_words(TensorType.of(result, (1,))))
        assert np.array_equal(trained.numpy().astype(np.float64), table)


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 8, 24])
def test_rounding_is_that_of_the_format(is_signed, bits):
    fmt = FixedPoint(bits=bits, integer_bits=2, signed=is_signed)
    edges = np.array(
        [-9.0, -2.0, -1.99, -0.3, -1e-6, 0.0, 1e-6, 0.7, 1.99999, 2.0, 3.9999, 4.0, 9.0]
    )
    values = torch.tensor(edges, dtype=torch.float32)
    sign = 1.0 if is_signed else 0.0
    expected = fmt.values_from_words(fmt.words_from_values(values.numpy()))
    # one format for all lanes, and one per node
    scalar = Grid.of(torch.tensor(float(bits)), torch.tensor(2.0), sign)
    tensor = Grid.of(torch.tensor([float(bits)]), torch.tensor([2.0]), torch.tensor([sign]))
    for grid in (scalar, tensor):
        assert np.array_equal(grid.round(values * grid.inverse_span).numpy(), expected)


def test_range_selection_finds_the_least_error_of_every_choice():
    """Looking near the last choice only must not miss the best one on data that stays as it is."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([0.02, 0.3, 1.0, 7.0])[:, None, None]
    values = scales * torch.randn(4, 3, 256, generator=generator)
    found = ResultRange(np.array([4.0, 4.0, 8.0, 6.0]), [True, True, False, True], n_positions=1)
    mask = torch.ones(4, 3, 1)
    found.select(values, mask)
    first = found.integer_bits.clone()
    for _ in range(3):
        found.select(values, mask)
    assert torch.equal(found.integer_bits, first)
    for i, (bits, sign) in enumerate(zip([4, 4, 8, 6], [True, True, False, True], strict=True)):
        mine = values[i] if sign else values[i].clamp_min(0.0)
        errors = {}
        for integer_bits in range(-6, 10):
            rounded = floor_saturate(
                mine, torch.tensor(float(bits)), torch.tensor(float(integer_bits)), is_signed=sign
            )
            half = 2.0 ** (integer_bits - bits - 1)
            centred = rounded + (half if sign else half * (mine > 0))
            errors[integer_bits] = float((centred - mine).abs().mean())
        assert errors[int(first[i])] == pytest.approx(min(errors.values()), rel=1e-5)


def test_gradients_in_company_are_those_of_each_network_alone():
    """In float64, where rounding decides nothing: same formats, same batch, same gradients."""
    candidates = sampled(12, seed=6)
    seeds = initial_seeds(candidates, 1)
    data = torch.randn(16, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = TrainStep(selects_ranges=True, updates_moments=True)

    def gradients(chosen: list[int]) -> list[dict[str, torch.Tensor]]:
        schedule = build_schedule([candidates[i] for i in chosen], [seeds[i] for i in chosen])
        model = PopulationModule(schedule).double()
        with torch.no_grad():
            model(data, step)
        model(data, TrainStep()).square().mean(dim=(1, 2)).sum().backward()
        found: list[dict[str, torch.Tensor]] = [{} for _ in chosen]
        for layer, group in zip(model.layers, schedule.groups, strict=True):
            weight = getattr(layer, "weight", None)
            for index, row in enumerate(group.members if weight is not None else ()):
                n_out, n_in = layer._real_shape[index]
                gradient = weight.grad[index]
                assert gradient[n_out:].abs().sum() == 0 and gradient[:, n_in:].abs().sum() == 0
                mine = found[schedule.candidate[row]]
                mine[schedule.names[row]] = gradient[:n_out, :n_in]
        return found

    together = gradients(list(range(len(candidates))))
    for i in range(len(candidates)):
        (alone,) = gradients([i])
        assert alone.keys() == together[i].keys()
        for name, gradient in alone.items():
            # sums of at most 64 x 64 float64 terms in another order
            assert torch.allclose(gradient, together[i][name], rtol=1e-9, atol=1e-14), name


def test_the_tape_holds_gradients_of_one_pass_only():
    """Memory is reused from step to step: a second step must not see gradients of the first."""
    candidates = sampled(5, seed=8)
    model = PopulationModule(build_schedule(candidates, initial_seeds(candidates, 1)))
    data = torch.randn(16, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model(data, TrainStep(selects_ranges=True, updates_moments=True))
    found = []
    for _ in range(2):
        model.zero_grad()
        model(data, TrainStep()).square().sum().backward()
        with torch.no_grad():
            model(torch.cat([data, data], dim=1), TrainStep())  # another batch size between
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
