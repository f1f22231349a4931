"""A neural network as a directed acyclic graph of named nodes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.errors import DesignError

#: Node names reach C++, Tcl, Verilog and Make: keep them to what all of these accept.
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,40}")

Scalar = int | float | str


@dataclass(frozen=True, kw_only=True)
class Node:
    """One layer of a network.

    Attributes:
        name: unique in its network; lower-case identifier.
        layer: registered layer type ("dense", "relu", ...).
        inputs: names of the nodes it reads, in order.
        parameters: what the layer type declares, e.g. units, weight_bits, result_bits.
    """

    name: str
    layer: str
    inputs: tuple[str, ...]
    parameters: Mapping[str, Scalar]

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise DesignError(
                f"node name {self.name!r} is not allowed; use lower-case letters, digits and _, a letter first"
            )


@dataclass(frozen=True, kw_only=True)
class Network:
    """Nodes in topological order; the first is the input, the last the output.

    Raises:
        DesignError: a name is repeated, or a node reads one that does not come before it.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        if not self.nodes or self.nodes[0].inputs:
            raise DesignError("a network starts with an input node that reads nothing")
        for node in self.nodes:
            if node.name in seen:
                raise DesignError(
                    f"node name {node.name!r} appears twice; names are unique in a network"
                )
            for source in node.inputs:
                if source not in seen:
                    raise DesignError(
                        f"node {node.name!r} reads {source!r}, which does not come before it;"
                        " list nodes in topological order, without cycles"
                    )
            seen.add(node.name)

    def node(self, name: str) -> Node:
        """Return the node called `name`."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise DesignError(
            f"network has no node {name!r}; it has {', '.join(n.name for n in self.nodes)}"
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return a JSON-ready list of nodes."""
        return [
            {
                "name": n.name,
                "layer": n.layer,
                "inputs": list(n.inputs),
                "parameters": dict(n.parameters),
            }
            for n in self.nodes
        ]

    @classmethod
    def from_json(cls, value: list[dict[str, Any]]) -> "Network":
        """Read what `to_json` wrote.

        Raises:
            DesignError: a key is missing or a node is malformed.
        """
        try:
            return cls(
                nodes=tuple(
                    Node(
                        name=str(n["name"]),
                        layer=str(n["layer"]),
                        inputs=tuple(map(str, n["inputs"])),
                        parameters=dict(n["parameters"]),
                    )
                    for n in value
                )
            )
        except (KeyError, TypeError) as error:
            raise DesignError(
                f"a network node lacks or garbles {error}; expected name, layer, inputs, parameters"
            ) from error
