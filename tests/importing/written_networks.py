"""Networks of ours, written as a QKeras file or as a PyTorch module: what their trainers would have saved."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from codesign.ir import FixedPoint, Node, QuantizedNetwork, TensorType
from codesign.layers import typed

Floats = NDArray[np.float64]


def rounded_to_even(network: QuantizedNetwork) -> QuantizedNetwork:
    """Return a network whose types round as QKeras' and PyTorch's do: half to even."""
    result = {
        name: replace(known, rounding="RND_CONV", overflow="SAT")
        for name, known in network.result.items()
    }
    return replace(network, result=result)


@dataclass(frozen=True)
class Step:
    """One layer of a trainer.

    Attributes:
        node: ours; windows belong to the dense layer that reads them.
        sources: names of the steps that it reads.
        format: of what it rounds to.
        weight, bias: real values, the matrix [inputs, outputs].
        formats: of both.
        window: the node of windows before it.
    """

    node: Node
    sources: tuple[str, ...]
    format: FixedPoint | None
    weight: Floats | None = None
    bias: Floats | None = None
    formats: tuple[FixedPoint, FixedPoint] | None = None
    window: Node | None = None


def _format(known: TensorType) -> FixedPoint:
    assert known.uniform is not None, "trainers have one type per layer"
    return known.uniform


def steps_of(network: QuantizedNetwork) -> list[Step]:
    """Return the layers of a network as trainers count them."""
    nodes = {node.name: node for node in network.network.nodes}
    steps = []
    for node in network.network.nodes:
        if node.layer == "patches":
            continue
        known = network.result.get(node.name)
        step = Step(node, node.inputs, None if known is None else _format(known))
        if node.layer == "dense":
            weight, bias = (network.constants[node.name][role] for role in ("weight", "bias"))
            window = nodes[node.inputs[0]]
            is_window = window.layer == "patches"
            step = replace(
                step,
                weight=weight.type.values_from_words(weight.values),
                bias=bias.type.values_from_words(bias.values),
                formats=(_format(weight.type), _format(bias.type)),
                window=window if is_window else None,
                sources=window.inputs if is_window else node.inputs,
            )
        steps.append(step)
    return steps


# ---- QKeras -------------------------------------------------------------------------------------------
def _quantizer(fmt: FixedPoint, name: str = "quantized_bits") -> dict[str, Any]:
    config: dict[str, Any] = {"bits": fmt.bits, "integer": fmt.integer_bits - int(fmt.signed)}
    if name == "quantized_bits":
        config |= {"keep_negative": int(fmt.signed), "alpha": 1.0, "symmetric": 0}
    elif name == "quantized_sigmoid":
        config = {"bits": fmt.bits, "use_real_sigmoid": True}
    return {"class_name": name, "config": config}


def _kernel(step: Step, n_axes: int) -> Floats:
    assert step.weight is not None and step.window is not None
    k = int(step.window.parameters["kernel"])
    return step.weight.reshape(*[k] * n_axes, -1, step.weight.shape[1])


def write_qkeras(network: QuantizedNetwork, path: Path) -> Path:
    """Write a network as QKeras saves it (.h5): configuration and float weights, quantizers by name."""
    layers: list[dict[str, Any]] = []
    arrays: dict[str, list[tuple[str, Floats]]] = {}
    names: dict[str, str] = {}
    sites = typed(network).sites

    def add(kind: str, name: str, sources: tuple[str, ...], **config: Any) -> str:
        inbound = [[[names.get(s, s), 0, 0, {}] for s in sources]] if sources else []
        layers.append(
            {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": inbound}
        )  # fmt: skip
        return name

    for step in steps_of(network):
        node, name, rank = step.node, step.node.name, len(sites[step.node.name].output.shape)
        fmt = step.format
        if node.layer == "input":
            add("InputLayer", name, (), batch_input_shape=[None, *sites[name].output.shape])
            assert fmt is not None
            names[name] = add("QActivation", f"{name}_q", (name,), activation=_quantizer(fmt))
        elif node.layer == "dense":
            assert step.formats is not None and step.weight is not None and step.bias is not None
            quantizers = {
                f"{role}_quantizer": _quantizer(known)
                for role, known in zip(("kernel", "bias"), step.formats, strict=True)
            }
            window, kernel = step.window, step.weight
            if window is None:
                add("QDense", name, step.sources, units=kernel.shape[1], **quantizers)
            else:
                kernel = _kernel(step, rank - 1)
                known = window.parameters
                assert not known.get("padding")
                add(
                    f"QConv{rank - 1}D", name, step.sources, filters=kernel.shape[-1],
                    kernel_size=list(kernel.shape[:-2]), strides=[int(known.get("stride", 1))] * (rank - 1),
                    padding="valid", **quantizers,
                )  # fmt: skip
            arrays[name] = [(f"{name}/kernel:0", kernel), (f"{name}/bias:0", step.bias)]
        elif node.layer in ("relu", "linear", "sigmoid"):
            assert fmt is not None
            kind = {"relu": "quantized_relu", "linear": "quantized_bits"}.get(
                node.layer, "quantized_sigmoid"
            )
            add("QActivation", name, step.sources, activation=_quantizer(fmt, kind))
        elif node.layer == "softmax":
            assert fmt is not None
            add("Softmax", f"{name}_f", step.sources, axis=-1)
            add("QActivation", name, (f"{name}_f",), activation=_quantizer(fmt))
        elif node.layer == "sum_elements":  # of squares: the product of a vector with itself
            names[name] = add("Dot", name, (step.sources[0], step.sources[0]), axes=1)
        elif node.layer == "square":
            names[name] = names.get(step.sources[0], step.sources[0])
        else:
            kind = {
                "flatten": "Flatten",
                "mean_pool": "GlobalAveragePooling1D",
                "subtract": "Subtract",
                "concat": "Concatenate",
            }[node.layer]
            add(kind, name, step.sources, **({"axis": -1} if kind == "Concatenate" else {}))
    first, last = network.network.nodes[0].name, network.network.nodes[-1].name
    config = {
        "name": "model", "layers": layers, "input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        group = file.create_group("model_weights")
        for name, stored in arrays.items():
            own = group.create_group(name)
            own.attrs["weight_names"] = [n.encode() for n, _ in stored]
            for n, values in stored:
                own[n] = values.astype(np.float32)
    return path


# ---- PyTorch ------------------------------------------------------------------------------------------
def _round(x: torch.Tensor, fmt: FixedPoint) -> torch.Tensor:
    steps = torch.round(x * 2.0**fmt.fraction_bits)
    return torch.clamp(steps, fmt.min_word, fmt.max_word) * 2.0**-fmt.fraction_bits


class Written(nn.Module):
    """A network of ours as a PyTorch module that rounds by itself; channels come first where it convolves."""

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        self.steps = steps_of(network)
        self.shape = typed(network).sites[network.network.nodes[0].name].output.shape
        self.channels_first = any(step.window is not None for step in self.steps)
        for step in self.steps:
            if step.weight is not None:
                for role, values in (("weight", step.weight), ("bias", step.bias)):
                    tensor = torch.as_tensor(np.asarray(values), dtype=torch.float32)
                    self.register_buffer(f"{step.node.name}_{role}", tensor)

    @property
    def input_shape(self) -> tuple[int, ...]:
        *positions, channels = self.shape
        return (channels, *positions) if self.channels_first else self.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known: dict[str, torch.Tensor] = {}
        for step in self.steps:
            known[step.node.name] = self._step(
                step, x, [known[s] for s in step.sources if s in known]
            )
        return known[self.steps[-1].node.name]

    def _step(self, step: Step, x: torch.Tensor, read: list[torch.Tensor]) -> torch.Tensor:
        name, layer = step.node.name, step.node.layer
        if layer == "input":
            result = x
        elif layer == "dense" and step.window is not None:
            kernel = torch.as_tensor(np.moveaxis(_kernel(step, x.ndim - 2), (-1, -2), (0, 1)))
            stride = int(step.window.parameters.get("stride", 1))
            convolve = F.conv1d if x.ndim == 3 else F.conv2d
            result = convolve(read[0], kernel.float(), getattr(self, f"{name}_bias"), stride=stride)
        elif layer == "dense":
            result = read[0] @ getattr(self, f"{name}_weight") + getattr(self, f"{name}_bias")
        elif layer == "flatten":  # channels last, as the weights behind it were trained
            result = (torch.movedim(read[0], 1, -1) if self.channels_first else read[0]).flatten(1)
        elif layer == "sum_elements":
            result = read[0].sum(1, keepdim=True)
        elif layer == "concat":
            result = torch.cat(read, -1)
        else:
            functions = {
                "relu": torch.relu, "linear": lambda a: a, "sigmoid": torch.sigmoid, "square": torch.square,
                "softmax": lambda a: torch.softmax(a, -1), "mean_pool": lambda a: a.mean(1),
                "subtract": torch.sub,
            }  # fmt: skip
            result = functions[layer](*read)
        return result if step.format is None else _round(result, step.format)
