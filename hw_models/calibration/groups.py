"""Which records belong together: what must not be split between fitting and testing."""

import math

from hw_models.records import Record

#: Sources that belong together: one research group with its own stream kernels.
_MODIFIED_KERNELS = ("YanLunHuang/", "ChiRuiChen/", "crimson1256/")
_JET_TAGGER = ((16, 64), (64, 32), (32, 32), (32, 5))


def dense_shape(record: Record) -> tuple[tuple[int, int], ...]:
    """Return (n_in, n_out) of every Dense layer, in order."""
    return tuple(
        (math.prod(layer.in_shape), math.prod(layer.out_shape))
        for layer in record.layers
        if layer.type == "Dense" and layer.in_shape and layer.out_shape
    )


def group_of(record: Record) -> str:
    """Return the group that must not be split between fitting and testing.

    One research group with modified stream kernels; all forks of the jet-tagger tutorial; otherwise the
    author: the owner of a source called "owner/repository".
    """
    if record.source.startswith(_MODIFIED_KERNELS):
        return "modified-stream-kernels"
    if dense_shape(record) == _JET_TAGGER:
        return "jet-tagger-16-64-32-32-5"
    return record.source.split("/")[0]
