"""Random graphs for property tests, and how to renumber one."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from codesign.encoding.graph import Graph

#: A busy machine may take its time; the number of examples bounds the whole.
QUICK = settings(deadline=None, max_examples=40)

OPS = ("conv", "pool", "skip", "none")
ROLES = {"skip": "identity", "none": "zero"}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random connected DAGs with one input and one output, zero and identity nodes among them."""
    n = draw(st.integers(2, 8))
    inner = draw(st.lists(st.sampled_from(OPS), min_size=n - 2, max_size=n - 2))
    ops = ("input", *inner, "output")
    pairs = {(i, j) for i in range(n) for j in range(i + 1, n) if draw(st.booleans())}
    for v in range(1, n):
        if not any(t == v for _, t in pairs):
            pairs.add((v - 1, v))
    for v in range(n - 1):
        if not any(s == v for s, _ in pairs):
            pairs.add((v, v + 1))
    return Graph(
        name="random",
        ops=ops,
        roles=tuple(ROLES.get(op) for op in ops),
        attributes=tuple({} if op != "conv" else {"width": float(i)} for i, op in enumerate(ops)),
        edges=tuple((s, t, 1.0) for s, t in sorted(pairs)),
    )


def permute(graph: Graph, order: list[int]) -> Graph:
    """Return the same graph with node i renamed to order[i]."""
    back = np.argsort(order)
    return Graph(
        name=graph.name,
        ops=tuple(graph.ops[i] for i in back),
        roles=tuple(graph.roles[i] for i in back),
        attributes=tuple(graph.attributes[i] for i in back),
        edges=tuple((order[s], order[t], m) for s, t, m in graph.edges),
    )
