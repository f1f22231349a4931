"""How good a front is: the volume that it dominates."""

import numpy as np
from moocore import hypervolume

from codesign.search.problem import Floats


def scale_to(objectives: Floats, ideal: Floats, nadir: Floats) -> Floats:
    """Map objectives so that `ideal` becomes 0 and `nadir` 1; a constant objective becomes 0."""
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    return np.asarray((objectives - ideal) / span)


def normalized_hypervolume(
    objectives: Floats, *, ideal: Floats, nadir: Floats, margin: float = 0.1
) -> float:
    """Return the hypervolume of objectives float[n, m] scaled by a reference front's box.

    Args:
        objectives: feasible points; may be dominated, may be none.
        ideal: float[m], best of the reference front.
        nadir: float[m], worst of the reference front.
        margin: the reference point is 1 + margin in every scaled objective, so that the front's
            ends count.

    Returns:
        Volume dominated, at most (1 + margin) ** m.

    Source: Zitzler and Thiele (1998); computed by moocore, the library behind pymoo's indicator.
    """
    if len(objectives) == 0:
        return 0.0
    scaled = np.maximum(scale_to(objectives, ideal, nadir), 0.0)
    return float(hypervolume(scaled, ref=np.full(scaled.shape[1], 1.0 + margin)))
