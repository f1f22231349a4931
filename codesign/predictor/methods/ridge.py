"""Ridge regression: one-hots, pairs and triples of raw positions, or globals of canonical graphs."""

from codesign.predictor.base import METHODS
from codesign.predictor.methods._dual import DualRidge, linear_kernel, sequence_kernel

METHODS.add(
    "ridge_raw",
    DualRidge(
        method_name="ridge_raw",
        kernel=sequence_kernel,
        bandwidths=(1.0, 10.0),
        canonical=False,
    ),
)
METHODS.add(
    "ridge",
    DualRidge(method_name="ridge", kernel=linear_kernel, bandwidths=(1.0,), canonical=True),
)
