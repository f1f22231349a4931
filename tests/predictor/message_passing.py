"""The oracle of `codesign.predictor.network`: one member of its ensemble, as a torch_geometric module."""

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from codesign.encoding.batch import GraphBatch
from codesign.encoding.features import FeatureSchema
from codesign.predictor.network import StackedGin, stack_to_arrays


def to_torch_geometric(batch: GraphBatch, schema: FeatureSchema) -> Batch:
    """Return a batch of graphs as torch_geometric knows it.

    Each graph has x float[N, F], edge_index, edge_weight (multiplicities) and
    global_features float[1, G].
    """
    encoded = schema.encode(batch)
    nodes = encoded.nodes[encoded.mask > 0]
    edge_graph = batch.graph_index[batch.edge_index[0]]
    graphs = []
    for i, (first, count) in enumerate(zip(batch.input_node, batch.n_nodes, strict=True)):
        mine = np.flatnonzero(edge_graph == i)
        graphs.append(
            Data(
                x=torch.from_numpy(nodes[first : first + count]),
                edge_index=torch.from_numpy(batch.edge_index[:, mine] - first),
                edge_weight=torch.from_numpy(batch.edge_multiplicity[mine]),
                global_features=torch.from_numpy(encoded.globals[i : i + 1]),
            )
        )
    return Batch.from_data_list(graphs)


class TwoWayGinConv(MessagePassing):
    """MLP([h, sum over predecessors, sum over successors]): GIN with the two directions apart."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr="add")
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return float[nodes, width]."""
        own, before, after = self.mix(h).chunk(3, dim=1)
        before = self.propagate(edge_index, x=before, edge_weight=edge_weight)
        after = self.propagate(edge_index.flip(0), x=after, edge_weight=edge_weight)
        out: Tensor = self.out((own + before + after).relu())
        return out

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        """Return what one edge carries."""
        return x_j * edge_weight[:, None]


class TwoWayGin(nn.Module):
    """One trained member; see `codesign.predictor.network` for the formula."""

    def __init__(self, n_node_features: int, n_globals: int, width: int, depth: int) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(n_node_features, width)
        self.layers = nn.ModuleList(TwoWayGinConv(width) for _ in range(depth))
        self.head = nn.Linear(4 * width + n_globals, width)
        self.score = nn.Linear(width, 1)

    def forward(self, graphs: Batch) -> Tensor:
        """Return normal scores, float[graphs]."""
        h = self.embed(graphs.x)
        for layer in self.layers:
            normal = nn.functional.layer_norm(h, (self.width,))
            h = h + layer(normal, graphs.edge_index, graphs.edge_weight)
        readout = [
            scatter(h, graphs.batch, reduce="mean"),
            scatter(h, graphs.batch, reduce="sum") / 4.0,
            h[graphs.ptr[1:] - 1],
            h[graphs.ptr[:-1]],
            graphs.global_features,
        ]
        scores: Tensor = self.score(self.head(torch.cat(readout, dim=1)).relu())
        return scores.squeeze(1)

    @classmethod
    def from_stack(cls, stack: StackedGin, member: int) -> "TwoWayGin":
        """Take the weights of one member of a trained stack."""
        shape = stack.shape
        made = cls(shape.n_node_features, shape.n_globals, shape.width, shape.depth)
        weights = {n: torch.from_numpy(v[member]) for n, v in stack_to_arrays(stack).items()}
        linears: dict[str, nn.Module] = {
            "embed": made.embed,
            "head": made.head,
            "score": made.score,
        }
        for i, layer in enumerate(made.layers):
            linears |= {f"mix.{i}": layer.get_submodule("mix")}
            linears |= {f"out.{i}": layer.get_submodule("out")}
        with torch.no_grad():
            for name, linear in linears.items():
                linear.get_parameter("weight").copy_(weights[f"{name}.0"].T)
                linear.get_parameter("bias").copy_(weights[f"{name}.1"][0])
        return made.requires_grad_(False)
