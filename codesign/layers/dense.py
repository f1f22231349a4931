"""Fully connected layer: a matrix-vector product with constant weights and a bias, accumulated exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DesignError
from codesign.ir import Tensors
from codesign.ir.fixed_point import MAX_BITS
from codesign.layers import LAYERS
from codesign.layers._export import cpp_variable, exact, hls_hardware
from codesign.layers.base import FloatColumns, Layer, Parameter, Site, WordRange
from hw_models.lowering import WEIGHT_FACTS, Described, Product, sum_bits

if TYPE_CHECKING:
    import torch
    from alkaid.trace import FVArray

    from codesign.layers._export import HlsGraph, OnnxGraph
    from codesign.layers._import import Constant, Draft, Foreign, Value
    from codesign.layers._training import TrainModule, TrainNodes


_CPP = """\
// y = x W + b, exact, for B events at once: lane e of node word i lies at i * B + e.  Weights are stored
// row by row, one row per input.
template <int B, int NIn, int NOut, int ProductShift, int BiasShift, typename Weight, typename Bias>
INLINE void dense(const Word* __restrict__ x, const Weight* weights, const Bias* bias, Word* __restrict__ y) {
    for (int j = 0; j < NOut * B; ++j) y[j] = 0;
    for (int i = 0; i < NIn; ++i) {
        const Weight* row = weights + i * NOut;
        if constexpr (B == 1) {
            for (int j = 0; j < NOut; ++j) y[j] += x[i] * row[j];
        } else {
            for (int j = 0; j < NOut; ++j) {
                const Word weight = row[j];
                if (weight == 0) continue;
                for (int e = 0; e < B; ++e) y[j * B + e] += x[i * B + e] * weight;
            }
        }
    }
    for (int j = 0; j < NOut; ++j)
        for (int e = 0; e < B; ++e)
            y[j * B + e] = static_cast<Word>(shift_left(y[j * B + e], ProductShift) + shift_left(bias[j], BiasShift));
}

"""


class Dense(Layer):
    """y = x W + b without any rounding: the activation that follows rounds."""

    name = "dense"
    foreign: ClassVar[tuple[str, ...]] = ("onnx.MatMul", "onnx.Gemm", "hls4ml.Dense")
    has_multipliers = True
    is_positionwise = True
    cpp_support = _CPP
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="units", column="n_out", minimum=1, maximum=4096, description="number of outputs"
        ),
        Parameter(
            name="weight_bits",
            column="weight_bits",
            minimum=2,
            maximum=24,
            description="bits of each weight",
        ),
        Parameter(
            name="pruned_fraction",
            column="pruned_fraction",
            minimum=0.0,
            maximum=0.99,
            is_integer=False,
            default=0.0,
            description="share of weights forced to zero",
        ),
    )

    def propagate(self, parameters: FloatColumns, inputs: Sequence[Tensors]) -> Tensors:
        (source,) = inputs
        return replace(
            source,
            n_channels=parameters["n_out"],
            # worst case; training knows the weights and needs fewer bits
            bits=sum_bits(
                source.n_channels,
                parameters["pruned_fraction"],
                source.bits,
                parameters["weight_bits"],
            ),
            is_signed=np.ones_like(source.bits),
        )

    def zero_fraction(self, columns: FloatColumns) -> NDArray[np.float64]:
        """Return the share of the whole matrix that is zero, float64[k]."""
        return columns["pruned_fraction"]

    def describe(self, columns: FloatColumns) -> tuple[Described, ...]:
        return (
            Product(
                n_in=columns["n_in"],
                n_out=columns["n_out"],
                n_positions=columns["n_turns"],
                n_instances=columns["n_copies"],
                depth=columns["n_turns"],
                reuse_factor=columns["reuse_factor"],
                strategy=columns["strategy"],
                weight_bits=columns["weight_bits"],
                input_bits=columns["input_bits"],
                input_is_signed=columns["input_signed"],
                accumulator_bits=columns["output_bits"],
                output_bits=columns["output_bits"],
                zero_fraction=self.zero_fraction(columns),
                facts={name: columns[name] for name in WEIGHT_FACTS if name in columns},
            ),
        )

    def connections(self, n_in: int, n_out: int) -> NDArray[np.bool_]:
        """Return bool[n_in, n_out], the weights that may differ from zero: all, unless a layer is sparse by kind."""
        return np.ones((n_in, n_out), dtype=bool)

    def train_module(self, nodes: TrainNodes) -> TrainModule:
        from codesign.layers._train_dense import DenseModule

        if nodes.granularity is not None:
            from codesign.layers._train_learned import LearnedDense

            return LearnedDense(nodes)
        return DenseModule(nodes)

    def infer(self, site: Site) -> WordRange:
        weights, bias = site.constants["weight"], site.constants["bias"]
        (n_in, n_out), source = weights.values.shape, site.source
        if source.shape[-1] != n_in or bias.values.shape != (n_out,):
            raise DesignError(
                f"its weights of shape {weights.values.shape} and biases of shape"
                f" {bias.values.shape} do not fit the {source.shape} that it reads"
            )
        largest = self.largest_sum(site)
        if largest.bit_length() >= MAX_BITS:
            raise DesignError(
                f"its sums need {largest.bit_length() + 1} bits, words hold {MAX_BITS}; round before"
                " it, or use fewer weight or activation bits"
            )
        fraction, shift, bias_shift = self._grid(site)
        positive, negative = np.maximum(weights.values, 0), np.minimum(weights.values, 0)
        low = source.low @ positive + source.high @ negative
        high = source.high @ positive + source.low @ negative
        offset = bias.values << bias_shift
        return WordRange.exact((low << shift) + offset, (high << shift) + offset, fraction)

    @staticmethod
    def _grid(site: Site) -> tuple[int, int, int]:
        """Return the result's fraction bits, and the left shifts of products and biases to there."""
        product = site.source.type.fraction_bits + site.constants["weight"].type.fraction_bits
        bias = site.constants["bias"].type.fraction_bits
        fraction = max(product, bias)
        return fraction, fraction - product, fraction - bias

    def largest_sum(self, site: Site) -> int:
        _, shift, bias_shift = self._grid(site)
        source = site.source
        words = np.maximum(np.abs(source.low), np.abs(source.high)).reshape(-1, source.shape[-1])
        weights = np.abs(site.constants["weight"].values)
        bias = np.abs(site.constants["bias"].values)
        terms = words.max(axis=0).astype(np.float64) @ weights.astype(np.float64)
        if terms.max(initial=0.0) < 2.0**52:  # exact; else count in integers of any width
            sums = np.rint(terms).astype(np.int64).astype(object)
        else:
            sums = words.max(axis=0).astype(object) @ weights.astype(object)
        return int((sums * 2**shift + bias.astype(object) * 2**bias_shift).max())

    def run_words(self, site: Site, inputs: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        (words,), weights = inputs, site.constants["weight"].values
        _, shift, bias_shift = self._grid(site)
        if self.largest_sum(site) < 2**53:
            # BLAS in float64 is exact here and far faster than NumPy's integer product
            real = words.astype(np.float64) @ weights.astype(np.float64)
            products = np.rint(real).astype(np.int64)
        else:
            products = words @ weights
        return (products << shift) + (site.constants["bias"].values << bias_shift)

    def torch_exact(self, site: Site, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        weights, bias = (torch.from_numpy(site.constants[role].real) for role in ("weight", "bias"))
        return inputs[0] @ weights + bias

    def to_onnx(self, site: Site, graph: OnnxGraph, inputs: Sequence[str]) -> str:
        weights, bias = (
            graph.stored(f"{site.node.name}_{role}", site.constants[role])
            for role in ("weight", "bias")
        )
        return graph.operator("Add", graph.operator("MatMul", inputs[0], weights), bias)

    def to_hls4ml(self, site: Site, graph: HlsGraph, inputs: Sequence[str]) -> str:
        weights, bias = site.constants["weight"], site.constants["bias"]
        n_in, n_out = weights.values.shape
        accumulator = exact(site.output.format)  # sums wrap modulo 2**bits on the way and end exact
        return graph.add(
            "Dense",
            site.node.name,
            inputs,
            precision={
                "weight": exact(weights.type.covering),
                "bias": exact(bias.type.covering),
                "accum": accumulator,
                "result": accumulator,
            },
            configuration=hls_hardware(site.node.name, site.hardware),
            n_in=n_in,
            n_out=n_out,
            use_bias=True,
            weight_data=weights.real,
            bias_data=bias.real,
        )

    def to_rtl(self, site: Site, inputs: Sequence[FVArray]) -> FVArray:
        weights, bias = site.constants["weight"].real, site.constants["bias"].real
        lanes = _without_signed_bit_tables(inputs[0])
        rows = np.asarray(lanes).reshape(-1, len(weights))
        results = []
        for row in rows:
            lowest = np.array([lane.low for lane in row], dtype=np.float64)
            highest = np.array([lane.high for lane in row], dtype=np.float64)
            # alkaid 0.8.2 loses constants that it multiplies: they are biases
            offset = np.where(lowest == highest, lowest, 0.0) @ weights + bias
            varying = np.where(((lowest == highest) & (lowest != 0.0))[:, None], 0.0, weights)
            part = type(lanes)(row, lanes.solver_options, hwconf=lanes.hwconf)
            if varying[lowest != highest].any():
                part = part @ varying + offset
            else:
                part = type(lanes)(offset, lanes.solver_options, hwconf=lanes.hwconf)
            results.append(part)
        return np.concatenate(results).reshape(site.output.shape)

    def to_cpp(self, site: Site) -> str:
        (name,), source = site.node.inputs, site.source
        _, shift, bias_shift = self._grid(site)
        n_in, n_out = site.constants["weight"].values.shape
        arrays = ", ".join(self.cpp_constants(site))
        lines = []
        for position in range(source.size // n_in):
            x, y = (
                cpp_variable(node) + (f" + {position * n} * B" if position else "")
                for node, n in ((name, n_in), (site.node.name, n_out))
            )
            lines.append(f"dense<B, {n_in}, {n_out}, {shift}, {bias_shift}>({x}, {arrays}, {y});")
        return "\n    ".join(lines)

    def cpp_constants(self, site: Site) -> dict[str, NDArray[np.int64]]:
        return {
            f"weights_{site.node.name}": site.constants["weight"].values,
            f"bias_{site.node.name}": site.constants["bias"].values,
        }

    def read(self, node: Foreign, draft: Draft) -> Value | Constant:
        value, weights = node.value(), node.constant(1)
        if node.kind == "onnx.Gemm":
            known = node.attributes
            if int(known.get("transA", 0)):
                raise node.refuse("transposes what it reads; export it as MatMul and Add")
            if int(known.get("transB", 0)):
                weights = weights.arranged(np.transpose)
        if weights.values.ndim != 2:
            raise node.refuse(f"has weights of shape {weights.shape}; expected a matrix")
        product = draft.dense(node, value, weights)
        bias = node.optional(2)
        gain, share = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
        offset = 0.0 if bias is None else np.ravel(bias.real) * share
        return draft.affine(product, gain, offset)

    def examples(self) -> list[dict[str, Any]]:
        return [
            {"units": 3, "weight_bits": 4},
            {"units": 5, "weight_bits": 8, "pruned_fraction": 0.5},
        ]


def _without_signed_bit_tables(lanes: FVArray) -> FVArray:
    """Return lanes whose products alkaid solves with adders only if any of them is one signed or negated bit.

    alkaid 0.8.2 packs one-bit lanes into the address of a look-up table and takes them for unsigned, so a
    lane of the values {-1, 0} ends in a failed assertion; and one that it holds negated (of a sign) is
    looked up upside down.
    """
    signed, integer_bits, fraction_bits = lanes.kif
    is_one_bit = signed + integer_bits + fraction_bits == 1
    is_negated = np.reshape(
        [getattr(lane, "_factor", 1.0) < 0 for lane in np.asarray(lanes).ravel()], lanes.shape
    )
    has_other_bit = bool((is_one_bit & ((signed == 1) | is_negated)).any())
    options = {**(lanes.solver_options or {}), "binary_lut": not has_other_bit}
    return type(lanes)(np.asarray(lanes), options, hwconf=lanes.hwconf)


LAYERS.add(Dense.name, Dense())
