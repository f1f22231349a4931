"""Kernel ridge regression (Gaussian kernel) on raw positions or on globals of canonical graphs."""

from codesign.predictor.base import METHODS
from codesign.predictor.methods._dual import DualRidge, gaussian_kernel

for _name, _canonical in (("kernel_ridge_raw", False), ("kernel_ridge", True)):
    METHODS.add(
        _name,
        DualRidge(
            method_name=_name,
            kernel=gaussian_kernel,
            bandwidths=(0.1, 0.3, 1.0, 3.0, 10.0),
            canonical=_canonical,
        ),
    )
