"""Which reuse factors hls4ml accepts: a table per shape, and a vectorised test.

Source: hls4ml 1.3.0, backends/fpga/fpga_backend.py, `_validate_reuse_factor` (Resource,
Unrolled) and the dense templates; Latency and distributed arithmetic take any factor from 1 to N.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw_models.errors import ModelError
from hw_models.types import MATVEC_STRATEGIES

#: Strategies whose kernels need a legal factor; the others accept every whole factor.
CHECKED_STRATEGIES = ("resource", "unrolled", "resource_unrolled")


def is_legal_reuse(n_in: ArrayLike, n_out: ArrayLike, reuse_factor: ArrayLike) -> NDArray[np.bool_]:
    """Test reuse factors of Resource kernels, element by element; arguments broadcast.

    Legal means: reuse_factor divides n_in * n_out; above n_in it is a multiple of n_in; at or below
    n_in the multiplier limit ceil(n_in * n_out / min(n_in, reuse_factor)) is a multiple of n_out.
    """
    inputs, outputs, reuse = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.int64) for a in (n_in, n_out, reuse_factor))
    )
    positive = (inputs > 0) & (outputs > 0) & (reuse > 0)
    safe_in, safe_out, safe = np.maximum(inputs, 1), np.maximum(outputs, 1), np.maximum(reuse, 1)
    limit = -(-safe_in * safe_out // np.minimum(safe_in, safe))
    functional = (limit % safe_out == 0) | (safe >= safe_in)
    aligned = (safe % safe_in == 0) | (safe < safe_in)
    legal: NDArray[np.bool_] = positive & functional & aligned & (safe_in * safe_out % safe == 0)
    return legal


@lru_cache(maxsize=65536)
def _resource_factors(n_in: int, n_out: int) -> tuple[int, ...]:
    # only divisors of n_in * n_out can be legal: enumerate them in pairs up to the square root
    total = n_in * n_out
    small = np.arange(1, int(total**0.5) + 1)
    small = small[total % small == 0]
    divisors = np.unique(np.concatenate([small, total // small]))
    return tuple(divisors[is_legal_reuse(n_in, n_out, divisors)].tolist())


def legal_reuse_factors(n_in: int, n_out: int, strategy: str) -> NDArray[np.int64]:
    """Return every reuse factor that hls4ml keeps as requested, ascending.

    Args:
        n_in, n_out: shape of the multiplied matrix, at least 1.
        strategy: one of `MATVEC_STRATEGIES`; distributed arithmetic has no multiplier to share, so only 1.

    Raises:
        ModelError: a shape below 1 or an unknown strategy.
    """
    if n_in < 1 or n_out < 1:
        raise ModelError(
            f"matrix shape {n_in} x {n_out}: expected at least 1 x 1; give positive widths"
        )
    if strategy not in MATVEC_STRATEGIES:
        raise ModelError(
            f"unknown strategy {strategy!r}; expected one of {', '.join(MATVEC_STRATEGIES)}"
        )
    if strategy == "distributed_arithmetic":
        return np.ones(1, dtype=np.int64)
    if strategy in CHECKED_STRATEGIES:
        return np.array(_resource_factors(int(n_in), int(n_out)), dtype=np.int64)
    return np.arange(1, n_in * n_out + 1, dtype=np.int64)
