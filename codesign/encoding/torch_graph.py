"""A torch module from any graph of dense, relu, add, concat, identity and zero; (A, X, W) on disk."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codesign.encoding.graph import Graph, topological_order
from codesign.errors import DataError, DesignError, unknown_name
from codesign.files import write_atomically

#: Operators a module can be built from; `units` is an attribute of dense nodes.
OPERATORS = ("add", "concat", "dense", "identity", "input", "output", "relu", "zero")
SCHEMA = 1


class GraphModule(nn.Module):
    """Runs a graph on [batch, n_features].

    `input`, `output` and `identity` pass the sum of what they read, `zero` passes zeros; `dense`
    (attribute `units`) and `relu` read the sum of their inputs, `add` sums, `concat` joins along
    the features, in the order of its edges.  An edge of multiplicity k counts k times (concat: k copies).

    Raises:
        DesignError: an operator is unknown, a dense node has no units, or widths do not fit.
    """

    def __init__(self, graph: Graph, *, n_features: int) -> None:
        super().__init__()
        self.graph = graph
        self._order = topological_order(graph)
        self._inputs: list[list[tuple[int, int]]] = [[] for _ in graph.ops]
        for source, target, multiplicity in graph.edges:
            if multiplicity != int(multiplicity):
                raise DesignError(
                    f"graph {graph.name}: multiplicity {multiplicity}; expected a whole number"
                )
            self._inputs[target].append((source, int(multiplicity)))
        self.dense = nn.ModuleDict()
        self.activations = nn.ModuleDict()
        widths = [0] * len(graph.ops)
        for node in self._order:
            op = graph.ops[node]
            if op not in OPERATORS:
                raise DesignError(
                    f"graph {graph.name}, node {node}: {unknown_name('operator', op, OPERATORS)}"
                )
            read = [widths[source] for source, _ in self._inputs[node]] or [n_features]
            if op != "concat" and len(set(read)) > 1:
                raise DesignError(
                    f"graph {graph.name}, node {node} ({op}) sums inputs of widths {read}; expected "
                    "equal widths: put a dense node or concat in front"
                )
            widths[node] = read[0]
            if op == "concat" and self._inputs[node]:
                widths[node] = sum(widths[s] * k for s, k in self._inputs[node])
            elif op == "dense":
                units = graph.attributes[node].get("units", 0.0)
                if units < 1 or units != int(units):
                    raise DesignError(
                        f"graph {graph.name}, node {node}: dense has units {units:g}; expected a "
                        "whole number of at least 1"
                    )
                self.dense[str(node)] = nn.Linear(read[0], int(units))
                widths[node] = int(units)
            elif op == "relu":
                self.activations[str(node)] = nn.ReLU()
        self.n_outputs = widths[self._order[-1]]

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate on float[batch, n_features]; returns float[batch, n_outputs]."""
        values: dict[int, Tensor] = {}
        for node in self._order:
            op = self.graph.ops[node]
            if not self._inputs[node]:
                read = x if node == self._order[0] else torch.zeros_like(x)
            elif op == "concat":
                parts = [values[s] for s, k in self._inputs[node] for _ in range(k)]
                read = torch.cat(parts, dim=1)
            else:
                terms = [values[s] if k == 1 else values[s] * k for s, k in self._inputs[node]]
                read = torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]
            if op == "dense":
                read = self.dense[str(node)](read)
            elif op == "relu":
                read = self.activations[str(node)](read)
            elif op == "zero":
                read = torch.zeros_like(read)
            values[node] = read
        return values[self._order[-1]]


def flatten_weights(module: nn.Module) -> NDArray[np.float32]:
    """Return all parameters as one vector, in the order of `module.parameters()`."""
    parts = [p.detach().cpu().reshape(-1) for p in module.parameters()]
    return torch.cat(parts).numpy().astype(np.float32) if parts else np.zeros(0, np.float32)


def assign_weights(module: nn.Module, weights: NDArray[np.float32]) -> None:
    """Write what `flatten_weights` returned back into a module of the same graph.

    Raises:
        DataError: another number of weights.
    """
    needed = sum(p.numel() for p in module.parameters())
    if weights.shape != (needed,):
        raise DataError(
            f"weights have shape {weights.shape}; this network has {needed} parameters: the weights "
            "belong to another graph or input width"
        )
    start = 0
    with torch.no_grad():
        for parameter in module.parameters():
            part = weights[start : start + parameter.numel()]
            parameter.copy_(torch.from_numpy(part.copy()).reshape(parameter.shape))
            start += parameter.numel()


@dataclass(frozen=True, kw_only=True)
class WeightedGraph:
    """(A, X, W): a graph and the flat vector of its weights.

    Attributes:
        graph: A and X.
        n_features: width of the input.
        weights: W, float32[parameters].
    """

    graph: Graph
    n_features: int
    weights: NDArray[np.float32]

    def module(self) -> GraphModule:
        """Return the torch module with these weights."""
        built = GraphModule(self.graph, n_features=self.n_features)
        assign_weights(built, self.weights)
        return built


def save_weighted_graph(value: WeightedGraph, path: Path) -> None:
    """Write plain arrays (.npz, no pickle): edges, operators, roles, attributes, weights."""
    graph = value.graph
    names = sorted({name for a in graph.attributes for name in a})
    numeric = [[a.get(name, np.nan) for name in names] for a in graph.attributes]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        schema=np.array(SCHEMA),
        name=np.array(graph.name),
        ops=np.array(graph.ops),
        roles=np.array([role or "" for role in graph.roles]),
        edges=np.array([[s, t] for s, t, _ in graph.edges], np.int64).reshape(-1, 2),
        multiplicity=np.array([m for _, _, m in graph.edges], np.float64),
        attribute_names=np.array(names, dtype=np.str_),
        attributes=np.array(numeric, np.float64).reshape(len(graph.ops), len(names)),
        n_features=np.array(value.n_features),
        weights=value.weights,
    )
    write_atomically(path, buffer.getvalue())


def load_weighted_graph(path: Path) -> WeightedGraph:
    """Read what `save_weighted_graph` wrote.

    Raises:
        DataError: missing, pickled, damaged, of another schema, or not a graph.
    """
    arrays = _read(path)
    try:
        if int(arrays["schema"]) != SCHEMA:
            raise DataError(f"{path}: schema {arrays['schema']}; this version reads {SCHEMA}")
        names: Sequence[str] = arrays["attribute_names"].tolist()
        graph = Graph(
            name=str(arrays["name"]),
            ops=tuple(arrays["ops"].tolist()),
            roles=tuple(role or None for role in arrays["roles"].tolist()),
            attributes=tuple(
                {n: v for n, v in zip(names, row, strict=True) if not np.isnan(v)}
                for row in arrays["attributes"].tolist()
            ),
            edges=tuple(
                (s, t, m)
                for (s, t), m in zip(
                    arrays["edges"].tolist(), arrays["multiplicity"].tolist(), strict=True
                )
            ),
        )
        weights = np.asarray(arrays["weights"], np.float32)
        return WeightedGraph(graph=graph, n_features=int(arrays["n_features"]), weights=weights)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: lacks or garbles {error}; expected a saved (A, X, W)") from error


def _read(path: Path) -> dict[str, NDArray[Any]]:
    from zipfile import BadZipFile

    if not path.is_file():
        raise DataError(f"{path}: no such network file; check the path")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise DataError(
            f"{path}: it holds pickled objects or is no .npz file; expected plain arrays (pickles "
            "are refused: loading one can run any code)"
        ) from error
    except (BadZipFile, EOFError, AttributeError) as error:
        raise DataError(f"{path}: damaged or no .npz file; expected a saved (A, X, W)") from error
