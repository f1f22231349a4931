"""Models as strangers write them: what is imported answers what PyTorch, ONNX Runtime or qonnx answers, or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import DesignError
from codesign.importing import Imported, read_model
from codesign.importing.proof import compare, drawn_inputs
from codesign.importing.reader import read_object
from tests.importing.qonnx_files import Graph

WIDE = "ap_fixed<32,14,RND,SAT>"


class Module(nn.Module):
    """A module of parts and a function of them and the input."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def _norm(n: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(n)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 2.0)
    norm.weight.data.uniform_(-2.0, 2.0)
    norm.bias.data.normal_()
    return norm


def _then(*layers: nn.Module, n: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(n, 3))


linear = nn.Linear
MODULES: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "skip": lambda: (
        Module(lambda s, x: s.c(F.relu(s.a(x)) + s.b(x)), a=linear(6, 5), b=linear(6, 5), c=linear(5, 3)),
        (6,),
    ),
    "permute, flatten and cat": lambda: (
        Module(lambda s, x: s.a(torch.cat([x.permute(0, 2, 1).flatten(1), x.flatten(1)], 1)), a=linear(24, 3)),
        (4, 3),
    ),
    "batch norms everywhere": lambda: (
        nn.Sequential(_norm(6), linear(6, 5), _norm(5), nn.ReLU(), _norm(5), linear(5, 3), _norm(3)),
        (6,),
    ),
    "convolution, stride and padding": lambda: (
        _then(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.ReLU(), n=12), (2, 8),
    ),
    "convolution, dilation and groups": lambda: (
        _then(nn.Conv1d(4, 4, 2, dilation=2, groups=2), nn.ReLU(), n=24), (4, 8),
    ),
    "convolution padded to the same shape": lambda: (
        _then(nn.Conv2d(1, 2, (3, 2), padding="same"), nn.ReLU(), n=40), (1, 5, 4),
    ),
    "dropout": lambda: (nn.Sequential(linear(6, 5), nn.Dropout(0.5), nn.ReLU(), linear(5, 3)), (6,)),
    "leak of a power of two": lambda: (nn.Sequential(linear(6, 5), nn.LeakyReLU(0.125), linear(5, 3)), (6,)),
    "averages that count padding": lambda: (
        _then(nn.AvgPool1d(3, stride=2, padding=1), n=8), (2, 8),
    ),
    "averages that do not": lambda: (
        _then(nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=False), n=8), (2, 8),
    ),
    "oblong averages": lambda: (_then(nn.AvgPool2d((2, 1)), n=8), (1, 5, 4)),
    "mean of channels behind a ReLU": lambda: (
        Module(lambda s, x: s.b(F.relu(s.a(x)).mean(-1)), a=linear(3, 4), b=linear(5, 2)), (5, 3),
    ),
    "largest over positions": lambda: (
        Module(lambda s, x: s.b(F.relu(s.a(x)).amax(1)), a=linear(3, 4), b=linear(4, 2)), (5, 3),
    ),
    "a layer used twice": lambda: (
        Module(lambda s, x: s.b(F.relu(s.a(F.relu(s.a(x))))), a=linear(6, 6), b=linear(6, 2)), (6,),
    ),
    "chunks, flips, rolls": lambda: (
        Module(
            lambda s, x: s.b(torch.cat([torch.flip(p, [1]) for p in torch.chunk(torch.roll(s.a(x), 1, 1), 2, 1)], 1)),
            a=linear(6, 4), b=linear(4, 2),
        ),
        (6,),
    ),
    "sums of every pair": lambda: (
        Module(
            lambda s, x: s.c((s.a(x).unsqueeze(1) + s.b(x).unsqueeze(2)).flatten(1)),
            a=linear(6, 3), b=linear(6, 4), c=linear(12, 2),
        ),
        (6,),
    ),
    "negative, absolute, clamped": lambda: (
        Module(lambda s, x: s.b(torch.clamp(-s.a(x).abs(), -0.7, 0.3)), a=linear(6, 3), b=linear(3, 2)), (6,),
    ),
    "inputs scaled in the model": lambda: (
        Module(lambda s, x: s.a((x - s.m) / s.v), a=linear(6, 3), m=torch.randn(6), v=torch.rand(6) + 0.5), (6,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_answer_what_pytorch_answers(name: str) -> None:
    torch.manual_seed(0)
    module, shape = MODULES[name]()
    imported = read_object(module, precision=WIDE, input_shape=shape)
    difference, theirs = compare(imported, drawn_inputs(imported, n=200, seed=0)["normal"])
    assert difference.largest < 1e-4 < np.ptp(theirs)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "a recurrent layer": (
        lambda: Module(lambda s, x: s.g(x)[0][:, -1], g=nn.GRU(3, 4, batch_first=True)), (5, 3), "GRU '.*recurrent",
    ),
    "a quotient": (
        lambda: Module(lambda s, x: s.a(x) / (2 + F.relu(s.b(x))), a=linear(6, 3), b=linear(6, 3)),
        (6,), "Div '.*divides by a computed",
    ),
    "fractions cut off": (
        lambda: Module(lambda s, x: s.b(s.a(x).int().float()), a=linear(6, 3), b=linear(3, 2)), (6,), "Cast '.*towards zero",
    ),
    "a constant where the batch is": (
        lambda: Module(lambda s, x: (s.a(x) + s.m).sum(1), a=linear(6, 3), m=torch.randn(4, 1, 3)),
        (6,), "Add '.*moves the batch",
    ),
    "windows with holes": (lambda: _then(nn.MaxPool1d(2, 1, dilation=2), n=12), (2, 8), "MaxPool '.*dilations"),
    "windows that end outside": (
        lambda: _then(nn.AvgPool1d(3, stride=2, ceil_mode=True), n=8), (2, 8), "AveragePool '.*ceil_mode",
    ),
    "products beyond 62 bits": (
        lambda: Module(lambda s, x: s.a(x) * s.b(x), a=linear(6, 3), b=linear(6, 3)), (6,), "Mul '.*62",
    ),
    "a softmax beyond 62 bits": (lambda: nn.Sequential(linear(6, 5), nn.Softmax(-1)), (6,), "softmax.*62"),
    "sums beyond 62 bits": (
        lambda: nn.Sequential(linear(6, 5), nn.LeakyReLU(0.1), linear(5, 3)), (6,), "Gemm '.*sums need .* 62",
    ),
    "an unknown function": (lambda: nn.Sequential(linear(6, 5), nn.GELU()), (6,), "Erf '.*no layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_computes_is_refused_by_name(name: str) -> None:
    torch.manual_seed(0)
    module, shape, message = REFUSED[name]
    with pytest.raises(DesignError, match=message):
        read_object(module(), precision=WIDE, input_shape=shape)


def _save(g: Graph, folder: Path, n_in: Any, output: str, n_out: int) -> Path:
    return g.save(folder / "g.onnx", n_in, n_out, output=output)


def _is_exact(imported: Imported) -> bool:
    found = [compare(imported, x)[0] for x in drawn_inputs(imported, n=400, seed=1).values()]
    return all(d.differing == 0 and d.largest == 0.0 for d in found)


def _matrix(g: Graph, name: str, shape: tuple[int, ...]) -> str:
    g.constant(f"{name}_w", np.random.default_rng(0).integers(-7, 8, shape) / 8)
    return g.quant(f"{name}_w", f"{name}_q", 0.125, 4)


@pytest.mark.parametrize("kernel", [(3, 2), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_automatic_padding_is_exact(
    kernel: tuple[int, int], padding: str, stride: int, tmp_path: Path
) -> None:
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    g.add(
        "Conv", ["xq", _matrix(g, "c", (2, 1, *kernel))], "c", auto_pad=padding, strides=[stride, stride],
        kernel_shape=list(kernel),
    )  # fmt: skip
    lengths = [
        -(-(n - (k - 1 if padding == "VALID" else 0)) // stride)
        for n, k in zip((5, 4), kernel, strict=True)
    ]
    flat = g.add("Flatten", ["c"], "f", axis=1)
    path = _save(g, tmp_path, (1, 5, 4), flat, 2 * lengths[0] * lengths[1])
    assert _is_exact(read_model(path))


@pytest.mark.parametrize("counts", [0, 1])
def test_averages_over_powers_of_two_are_exact(counts: int, tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    g.add(
        "AveragePool", ["xq"], "p", kernel_shape=[2], strides=[2], pads=[1, 1], count_include_pad=counts
    )  # fmt: skip
    flat = g.add("Flatten", ["p"], "f", axis=1)
    g.add("MatMul", [flat, _matrix(g, "d", (10, 3))], "y")
    imported = read_model(_save(g, tmp_path, (2, 8), "y", 3))
    assert _is_exact(imported)


def test_gemm_scales_what_it_adds(tmp_path: Path) -> None:
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    bias = g.constant("b", [0.25, -0.5, 0.125])
    g.add("Gemm", ["xq", _matrix(g, "g", (3, 6)), bias], "y", transB=1, alpha=0.5, beta=-2.0)
    assert _is_exact(read_model(_save(g, tmp_path, 6, "y", 3)))


@pytest.mark.parametrize("mode", ["HALF_UP", "DOWN", "HALF_EVEN"])
def test_halves_go_where_qonnx_lets_them_go(mode: str, tmp_path: Path) -> None:
    """Sums on halves of a step: unsigned ones round as here, signed ones by HALF_UP or DOWN do not."""
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    product = g.add("MatMul", ["xq", _matrix(g, "d", (6, 3))], "m")
    g.quant(g.add("Relu", [product], "r"), "y", 0.0625, 6, signed=0, mode=mode)
    assert _is_exact(read_model(_save(g, tmp_path, 6, "y", 3)))
    next(a for a in g.nodes[-1].attribute if a.name == "signed").i = 1
    g.nodes[-1].input[0] = product
    path = _save(g, tmp_path, 6, "y", 3)
    if mode == "HALF_EVEN":
        assert _is_exact(read_model(path))
    else:
        with pytest.raises(DesignError, match=f"Quant 'y': rounds signed values by {mode}"):
            read_model(path)


def test_weights_halfway_round_as_in_single_precision(tmp_path: Path) -> None:
    """0.35 / 0.1 is 3.5 in float32 and less in float64."""
    g = Graph()
    g.quant("x", "xq", 0.25, 6)
    g.constant("w", np.outer(np.arange(1, 7) - 0.5, [0.1, 0.3, -0.7]))
    quantized = g.quant("w", "wq", np.array([[0.1, 0.3, 0.7]]), 5)
    g.add("MatMul", ["xq", quantized], "m")
    imported = read_model(_save(g, tmp_path, 6, "m", 3))
    # scales are constants of 18 bits; a weight that is a step off would differ by 0.1 times an input
    difference, theirs = compare(imported, drawn_inputs(imported, n=400, seed=1)["random"])
    assert difference.largest < 1e-3 < np.ptp(theirs)
