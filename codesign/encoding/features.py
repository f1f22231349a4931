"""Versioned features of graphs: per node, and label-free globals by dynamic programming over paths.

Everything is array code over padded graphs: [n, N] for nodes and [n, N, N] for edges, with N the
most nodes of any graph in the chunk.  No path is ever enumerated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.encoding.batch import GraphBatch
from codesign.errors import PredictorError

Float32 = NDArray[np.float32]
#: Version 2 may have columns of shapes; version 1 is the same without.
VERSION = 2
READABLE = (1, VERSION)
#: Operators that the training graphs did not contain share this entry of the vocabulary.
UNKNOWN_OP = "(unknown)"
#: Standardised values are cut here: a candidate far outside the training range must not dominate.
CLIP = 6.0
#: A numeric column whose training values span more than this ratio enters as log(1 + value).
LOG_RATIO = 8.0
#: Padded edges held at once; bounds the memory of a chunk (4 bytes each, several copies).
EDGES_PER_CHUNK = 400_000


@dataclass(frozen=True, kw_only=True)
class EncodedGraphs:
    """A chunk of graphs, padded to N nodes and standardised: input of every learned predictor.

    Attributes:
        nodes: float32[n, N, F], 0 where padded.
        adjacency: float32[n, N, N], multiplicity of the edge from the second to the third index.
        mask: float32[n, N], 1 for a node, 0 for padding.
        last: int64[n], place of the output node.
        globals: float32[n, G].
    """

    nodes: Float32
    adjacency: Float32
    mask: Float32
    last: NDArray[np.int64]
    globals: Float32

    def __len__(self) -> int:
        return len(self.last)


def chunks(batch: GraphBatch) -> Iterator[tuple[NDArray[np.int64], GraphBatch]]:
    """Split a batch into chunks of graphs of similar size, so that little is padded.

    Yields:
        Graph numbers in the batch, and these graphs.
    """
    order = np.argsort(batch.n_nodes, kind="stable")
    padded = batch.n_nodes[order] ** 2
    start = 0
    while start < len(order):
        # Sorted by size: the last graph taken sets N for all.
        room = np.arange(1, len(order) - start + 1) * padded[start:] <= EDGES_PER_CHUNK
        count = max(1, int(room.sum()))
        if 0 < len(order) - start - count < 256 and count > 256:
            count = len(order) - start
        chosen = order[start : start + count]
        yield chosen, batch.take(chosen)
        start += count


@dataclass(frozen=True, kw_only=True)
class FeatureSchema:
    """What the columns of encoded graphs mean; fitted on training graphs only, stored with weights.

    Attributes:
        op_names: operators of the training graphs, then `UNKNOWN_OP`.
        numeric_names, extra_names: attribute columns a batch must have, no more and no less.
        is_log: bool[numeric + extra], entered as log(1 + value).
        center, scale: float64[numeric + extra], standardisation of these columns.
        global_names: the computed globals that vary over the training graphs.
        global_kept: int64[G], their places among all computed globals.
        global_center, global_scale: float64[G].
    """

    op_names: tuple[str, ...]
    numeric_names: tuple[str, ...]
    extra_names: tuple[str, ...]
    is_log: NDArray[np.bool_]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    global_names: tuple[str, ...]
    global_kept: NDArray[np.int64]
    global_center: NDArray[np.float64]
    global_scale: NDArray[np.float64]

    @classmethod
    def fit(cls, batch: GraphBatch) -> "FeatureSchema":
        """Learn vocabulary, standardisation and the columns worth keeping from training graphs."""
        op_names = (*sorted({batch.op_names[i] for i in np.unique(batch.op)}), UNKNOWN_OP)
        # flat networks give the schema that they gave before there were shapes
        numeric_names = tuple(n for n in batch.numeric_names if not batch.says_nothing(n))
        columns = [batch.numeric[:, batch.numeric_names.index(name)] for name in numeric_names]
        columns += [batch.extras[:, i] for i in range(batch.extras.shape[1])]
        is_log, center, scale = [], [], []
        for column in columns:
            values = column[np.isfinite(column)].astype(np.float64)
            if not len(values):
                values = np.zeros(1)
            wide = values.min() >= 0 and values.max() + 1 > LOG_RATIO * (values.min() + 1)
            values = np.log1p(values) if wide else values
            is_log.append(bool(wide))
            center.append(float(values.mean()))
            scale.append(float(values.std()) or 1.0)
        raw = cls(
            op_names=op_names,
            numeric_names=numeric_names,
            extra_names=batch.extra_names,
            is_log=np.array(is_log, bool),
            center=np.array(center, np.float64),
            scale=np.array(scale, np.float64),
            global_names=(),
            global_kept=np.zeros(0, np.int64),
            global_center=np.zeros(0),
            global_scale=np.ones(0),
        )
        values = np.zeros((len(batch), len(raw._all_global_names())))
        for chosen, part in chunks(batch):
            values[chosen] = raw._globals(raw._pad(part))
        deviation = values.std(axis=0)
        kept = np.flatnonzero(deviation > 1e-6 * (1.0 + np.abs(values).max(axis=0)))
        names = raw._all_global_names()
        return cls(
            op_names=op_names,
            numeric_names=raw.numeric_names,
            extra_names=raw.extra_names,
            is_log=raw.is_log,
            center=raw.center,
            scale=raw.scale,
            global_names=tuple(names[i] for i in kept),
            global_kept=kept,
            global_center=values[:, kept].mean(axis=0),
            global_scale=deviation[kept],
        )

    # ---- storage --------------------------------------------------------------------------------
    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return a JSON-ready mapping and the arrays."""
        meta = {
            "version": VERSION,
            "op_names": list(self.op_names),
            "numeric_names": list(self.numeric_names),
            "extra_names": list(self.extra_names),
            "global_names": list(self.global_names),
        }
        names = ("is_log", "center", "scale", "global_kept", "global_center", "global_scale")
        return meta, {name: getattr(self, name) for name in names}

    @classmethod
    def restore(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "FeatureSchema":
        """Rebuild from `state`.

        Raises:
            PredictorError: another version, or the stored global columns are not those that this
                version computes; the message names them.
        """
        if meta["version"] not in READABLE:
            raise PredictorError(
                f"checkpoint has feature schema version {meta['version']}; this codesign computes "
                f"versions {' and '.join(map(str, READABLE))}: train the predictor again"
            )
        schema = cls(
            op_names=tuple(meta["op_names"]),
            numeric_names=tuple(meta["numeric_names"]),
            extra_names=tuple(meta["extra_names"]),
            global_names=tuple(meta["global_names"]),
            is_log=arrays["is_log"],
            center=arrays["center"],
            scale=arrays["scale"],
            global_kept=arrays["global_kept"],
            global_center=arrays["global_center"],
            global_scale=arrays["global_scale"],
        )
        computed = set(schema._all_global_names())
        foreign = [name for name in schema.global_names if name not in computed]
        if foreign:
            raise PredictorError(
                f"checkpoint uses global features {', '.join(foreign)} that this codesign does not "
                "compute: train the predictor again"
            )
        return schema

    def check(self, batch: GraphBatch) -> None:
        """Check that `batch` has exactly the columns of the schema, and others only where they say nothing.

        Raises:
            PredictorError: the message names missing and surplus columns.
        """
        for what, mine, theirs in (
            ("node attributes", self.numeric_names, batch.numeric_names),
            ("graph attributes", self.extra_names, batch.extra_names),
        ):
            missing = sorted(set(mine) - set(theirs))
            surplus = sorted(set(theirs) - set(mine))
            if theirs is batch.numeric_names:
                surplus = [name for name in surplus if not batch.says_nothing(name)]
            if missing or surplus:
                raise PredictorError(
                    f"graphs do not fit the predictor's feature schema; {what} missing: "
                    f"{', '.join(missing) or 'none'}; surplus: {', '.join(surplus) or 'none'}. "
                    "Use graphs of the encoding it was trained on, or train it again"
                )

    def vocabulary(self, batch: GraphBatch) -> NDArray[np.int64]:
        """int64[m]: the schema's operator number of each node, the last for unknown ones."""
        place = {name: i for i, name in enumerate(self.op_names)}
        unknown = len(self.op_names) - 1
        return np.array([place.get(name, unknown) for name in batch.op_names], np.int64)[batch.op]

    # ---- encoding -------------------------------------------------------------------------------
    def encode(self, batch: GraphBatch) -> EncodedGraphs:
        """Encode one chunk of graphs (all padded to the largest).

        Raises:
            PredictorError: its columns do not fit.
        """
        self.check(batch)
        padded = self._pad(batch)
        values = self._globals(padded)[:, self.global_kept]
        values = np.clip((values - self.global_center) / self.global_scale, -CLIP, CLIP)
        return EncodedGraphs(
            nodes=self._node_features(padded),
            adjacency=padded.adjacency,
            mask=padded.mask,
            last=padded.last,
            globals=values.astype(np.float32),
        )

    @property
    def n_node_features(self) -> int:
        """F, columns of `EncodedGraphs.nodes`."""
        return len(self.op_names) + len(self.numeric_names) + len(_POSITION_NAMES)

    def _pad(self, batch: GraphBatch) -> "_Padded":
        n, size = len(batch), int(batch.n_nodes.max())
        row, place = batch.graph_index, batch.node_in_graph
        op = np.zeros((n, size, len(self.op_names)), np.float32)
        op[row, place, self.vocabulary(batch)] = 1.0
        mask = np.zeros((n, size), np.float32)
        mask[row, place] = 1.0
        numeric = np.zeros((n, size, len(self.numeric_names)), np.float32)
        numeric[row, place], extras = self.standardised(batch)
        present = np.zeros(numeric.shape, bool)
        columns = [batch.numeric_names.index(name) for name in self.numeric_names]
        present[row, place] = np.isfinite(batch.numeric[:, columns])
        adjacency = np.zeros((n, size, size), np.float32)
        source, target = batch.edge_index
        np.add.at(adjacency, (row[source], place[source], place[target]), batch.edge_multiplicity)
        return _Padded(
            op=op,
            numeric=numeric,
            present=present,
            extras=extras,
            mask=mask,
            adjacency=adjacency,
            last=batch.n_nodes - 1,
        )

    def standardised(self, batch: GraphBatch) -> tuple[Float32, Float32]:
        """Return node attributes float32[m, K] and graph attributes float32[n, E], standardised."""
        nodes = [batch.numeric_names.index(name) for name in self.numeric_names]
        graphs = [batch.extra_names.index(name) for name in self.extra_names]
        return (
            self._standardise(batch.numeric[:, nodes], 0),
            self._standardise(batch.extras[:, graphs], len(self.numeric_names)),
        )

    def _standardise(self, values: Float32, offset: int) -> Float32:
        part = slice(offset, offset + values.shape[1])
        out = values.astype(np.float64)
        logs = self.is_log[part]
        if logs.any():
            out[:, logs] = np.log1p(np.maximum(out[:, logs], 0.0))
        out = np.clip((out - self.center[part]) / self.scale[part], -CLIP, CLIP)
        # An absent attribute is the mean of the present ones; the operator tells them apart.
        return np.where(np.isnan(values), 0.0, out).astype(np.float32)

    def _node_features(self, padded: "_Padded") -> Float32:
        flow = padded.flow()
        depth = np.maximum(flow.longest_in[np.arange(len(padded.last)), padded.last], 1.0)
        share = flow.visits / np.maximum(flow.n_paths, 1.0)[:, None]
        position = np.stack(
            [
                flow.longest_in / depth[:, None],
                flow.longest_out / depth[:, None],
                np.log1p(flow.longest_in),
                share,
                np.log1p(padded.adjacency.sum(axis=1)),
                np.log1p(padded.adjacency.sum(axis=2)),
            ],
            axis=2,
        )
        features = np.concatenate([padded.op, padded.numeric, position], axis=2)
        return np.ascontiguousarray(features * padded.mask[:, :, None], dtype=np.float32)

    def _all_global_names(self) -> list[str]:
        along = [*(f"op {name}" for name in self.op_names), "length", *self.numeric_names]
        names = [f"{how} {what}" for how in ("total", "max", "min", "mean") for what in along]
        names += ["log paths", "log edges", "log direct"]
        names += [f"moment{k} {name}" for k in (1, 2) for name in along]
        names += [
            f"{how} node {name}" for how in ("largest", "smallest") for name in self.numeric_names
        ]
        names += [f"average {name} of {op}" for op in self.op_names for name in self.numeric_names]
        names += [f"step {a} -> {b}" for a in self.op_names for b in self.op_names]
        return names + [f"graph {name}" for name in self.extra_names]

    def _globals(self, padded: "_Padded") -> NDArray[np.float64]:
        """float64[n, all globals], in the order of `_all_global_names`; not standardised.

        Along paths: total over nodes, and max, min and mean over all input-output paths of the
        sum along the path of (is it operator o, 1, each standardised attribute).  Max and min obey
        best(v) = value(v) + best over edges u -> v of best(u); the mean weighs each node with the
        number of paths through it, paths_in(v) * paths_out(v).
        """
        n, rows = len(padded.last), np.arange(len(padded.last))
        flow = padded.flow()
        along = np.concatenate([padded.op, padded.mask[:, :, None], padded.numeric], axis=2)
        has_path = (flow.n_paths > 0)[:, None]
        total = along.sum(axis=1)
        best = padded.extreme(along, np.maximum)[rows, padded.last]
        least = padded.extreme(along, np.minimum)[rows, padded.last]
        share = flow.visits / np.maximum(flow.n_paths, 1.0)[:, None]
        mean = np.einsum("nv,nvc->nc", share, along, optimize=True)
        depth = np.maximum(flow.longest_in[rows, padded.last], 1.0)
        position = flow.longest_in / depth[:, None]
        moments = [
            np.einsum("nv,nvc->nc", position**k * padded.mask, along, optimize=True) for k in (1, 2)
        ]
        inside = padded.present
        largest = np.where(inside, padded.numeric, -CLIP).max(axis=1)
        smallest = np.where(inside, padded.numeric, CLIP).min(axis=1)
        # Per operator, the mean attribute of its nodes: an activation's bits matter, an
        # accumulator's hardly do.  0, the overall mean, where a graph lacks the operator.
        count = np.maximum(padded.op.sum(axis=1), 1.0)
        by_op = np.matmul(padded.op.transpose(0, 2, 1), padded.numeric) / count[:, :, None]
        through = padded.adjacency * (
            (flow.paths_in / np.maximum(flow.n_paths, 1.0)[:, None])[:, :, None]
            * flow.paths_out[:, None, :]
        )
        steps = np.matmul(padded.op.transpose(0, 2, 1), np.matmul(through, padded.op))
        scalars = np.stack(
            [
                np.log1p(flow.n_paths),
                np.log1p(padded.adjacency.sum(axis=(1, 2))),
                np.log1p(padded.adjacency[rows, 0, padded.last]),
            ],
            axis=1,
        )
        parts = [
            total,
            np.where(has_path, best, 0.0),
            np.where(has_path, least, 0.0),
            np.where(has_path, mean, 0.0),
            scalars,
            *moments,
            largest,
            smallest,
            by_op.reshape(n, -1),
            steps.reshape(n, -1),
            padded.extras,
        ]
        return np.concatenate(parts, axis=1, dtype=np.float64)


_POSITION_NAMES = ("depth", "height", "log depth", "path share", "log in-degree", "log out-degree")


@dataclass(frozen=True, kw_only=True)
class _Flow:
    """Counts along paths, float32[n, N] each (n_paths: [n])."""

    paths_in: Float32
    paths_out: Float32
    visits: Float32
    n_paths: Float32
    longest_in: Float32
    longest_out: Float32


@dataclass(kw_only=True)
class _Padded:
    """Padded arrays of one chunk, before standardisation of the globals."""

    op: Float32
    numeric: Float32
    present: NDArray[np.bool_]
    extras: Float32
    mask: Float32
    adjacency: Float32
    last: NDArray[np.int64]
    _flow: _Flow | None = None

    def extreme(self, along: Float32, pick: np.ufunc) -> Float32:
        """Return for every node the greatest (least) sum of `along` on a path from the input.

        Args:
            along: float32[n, N, C].
            pick: np.maximum or np.minimum.

        Returns:
            float32[n, N, C]; -+1e9 where no path from the input leads.
        """
        nowhere = np.float32(-1e9 if pick is np.maximum else 1e9)
        # Nodes first and graphs last: each step then works on long contiguous rows.
        values = np.ascontiguousarray(along.transpose(1, 2, 0))
        barrier = np.where(self.adjacency > 0, np.float32(0), nowhere).transpose(1, 2, 0)
        barrier = np.ascontiguousarray(barrier)
        out = np.empty_like(values)
        out[0] = values[0]
        for v in range(1, len(values)):
            best = np.full_like(values[0], nowhere)
            for u in range(v):
                pick(best, out[u] + barrier[u, v], out=best)
            out[v] = values[v] + best
        # Chains of unreachable nodes add up barriers; one barrier is enough to recognise them.
        return np.asarray(np.clip(out, -1e9, 1e9).transpose(2, 0, 1))

    def flow(self) -> _Flow:
        """Count paths and longest distances; computed once."""
        if self._flow is None:
            n, size = self.mask.shape
            edges = np.ascontiguousarray(self.adjacency.transpose(1, 2, 0))
            paths_in = np.zeros((size, n), np.float32)
            paths_out = np.zeros((size, n), np.float32)
            longest_in = np.zeros((size, n), np.float32)
            longest_out = np.zeros((size, n), np.float32)
            paths_in[0] = 1.0
            paths_out[self.last, np.arange(n)] = 1.0
            present = (edges > 0).astype(np.float32)
            for v in range(1, size):
                paths_in[v] = (edges[:v, v] * paths_in[:v]).sum(axis=0)
                longest_in[v] = (present[:v, v] * (longest_in[:v] + 1.0)).max(axis=0)
            for v in range(size - 2, -1, -1):
                paths_out[v] += (edges[v, v + 1 :] * paths_out[v + 1 :]).sum(axis=0)
                longest_out[v] = (present[v, v + 1 :] * (longest_out[v + 1 :] + 1.0)).max(axis=0)
            self._flow = _Flow(
                paths_in=paths_in.T,
                paths_out=paths_out.T,
                visits=(paths_in * paths_out).T,
                n_paths=paths_in[self.last, np.arange(n)],
                longest_in=longest_in.T,
                longest_out=longest_out.T,
            )
        return self._flow
