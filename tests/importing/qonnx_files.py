"""QONNX and ONNX graphs as other frameworks write them, node by node."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"


class Graph:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def quant(
        self,
        source: str,
        output: str,
        scale: Any,
        bits: int,
        *,
        signed: int = 1,
        mode: str = "ROUND",
        narrow: int = 0,
    ) -> str:
        read = [
            self.constant(f"{output}_{k}", v)
            for k, v in (("scale", scale), ("zero", 0.0), ("bits", bits))
        ]
        return self.add(
            "Quant", [source, *read], output, domain=DOMAIN, signed=signed, narrow=narrow,
            rounding_mode=mode,
        )  # fmt: skip

    def save(
        self, path: Path, n_in: Any, n_out: int, *, source: str = "x", output: str = "y"
    ) -> Path:
        shape = [n_in] if isinstance(n_in, int) else list(n_in)
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["n", *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", n_out])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 9
        onnx.save(model, str(path))
        return path


def mlp(
    path: Path,
    widths: tuple[int, ...] = (16, 12, 8, 5),
    *,
    bits: int = 6,
    scale: float = 1.0,
    biases: bool = True,
    mode: str = "ROUND",
    rounds_output: bool = True,
    pruned: float = 0.4,
) -> Path:
    """Write an MLP with float biases; `scale` makes every scale no power of two."""
    rng, g = np.random.default_rng(len(widths)), Graph()
    signed = mode if mode in ("ROUND", "FLOOR") else "ROUND"  # others are of unsigned values only
    current = g.quant("x", "xq", scale / 16, bits + 2, mode=signed)
    for i, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False)):
        weights = rng.normal(size=(n_in, n_out)) * (rng.random((n_in, n_out)) > pruned)
        g.constant(f"w{i}", weights / np.sqrt(n_in))
        quantized = g.quant(f"w{i}", f"wq{i}", scale * 2.0 ** (2 - bits), bits)
        current = g.add("MatMul", [current, quantized], f"m{i}")
        if biases:
            g.constant(f"b{i}", rng.normal(size=n_out) * 0.1)
            current = g.add("Add", [current, f"b{i}"], f"a{i}")
        if i < len(widths) - 2:
            current = g.add("Relu", [current], f"r{i}")
            current = g.quant(
                current, f"q{i}", scale * 2.0 ** (3 - bits), bits, signed=0, mode=mode
            )
    if rounds_output:
        current = g.quant(current, "y", scale / 64, 12, mode=signed)
    return g.save(path, widths[0], widths[-1], output=current)
