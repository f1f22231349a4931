"""Standardisation of inputs: fitted on the training set, stated for the firmware.

    scaled = (raw - mean) / scale        (one mean and one scale for each feature)

The firmware must apply the same formula, or the first layer must absorb it (`fold_into_dense`).
With `power_of_two` scales it is a shift and a subtraction: scaled = raw * 2**-k - offset, where
offset = mean / scale is a multiple of 2**-offset_fraction_bits.  With `hardware`, raw values are whole
numbers and so are the means: what a network reads is (raw - offset) >> shift, in integers, saturated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.tasks.base import TaskData

METHODS = ("standard", "power_of_two", "hardware", "none")
#: Fraction bits of mean / scale with power-of-two scales: 1/256 of a standard deviation, finer than
#: the input precisions searched (at most 8 fraction bits by default).
OFFSET_FRACTION_BITS = 8


@dataclass(frozen=True, kw_only=True)
class InputScaling:
    """The affine map from raw to network inputs.

    Args:
        method: "standard" (mean 0, standard deviation 1), "power_of_two", "hardware" or "none".
        feature_names: one for each entry below.
        mean: float64 [n_features], in units of the raw feature.
        scale: float64 [n_features], positive, in units of the raw feature.
        constant_features: features that never vary in training; their scale is 1.
        n_fitted_rows: training rows it was fitted on (0 for "none").
        task_digest: digest of the data it was fitted on.
    """

    method: str
    feature_names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    constant_features: tuple[str, ...]
    n_fitted_rows: int
    task_digest: str

    def __post_init__(self) -> None:
        """Validate shapes and values."""
        n = len(self.feature_names)
        if self.mean.shape != (n,) or self.scale.shape != (n,):
            raise DataError(
                f"input scaling: mean {self.mean.shape} and scale {self.scale.shape} for {n} features; "
                "expected one of each for every feature"
            )
        if not (
            np.isfinite(self.mean).all()
            and np.isfinite(self.scale).all()
            and (self.scale > 0).all()
        ):
            raise DataError(
                "input scaling: a mean is not finite or a scale not positive; fit it again"
            )

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return (x - mean) / scale as a new float32 array [..., n_features]; computed in float64."""
        scaled = (np.asarray(x, dtype=np.float64) - self.mean) / self.scale
        return np.asarray(scaled, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the statement of the scaling that goes to the firmware, as JSON values."""
        features = []
        for name, mean, scale in zip(
            self.feature_names, self.mean.tolist(), self.scale.tolist(), strict=True
        ):
            entry = {"name": name, "mean": mean, "scale": scale, "offset": mean / scale}
            if self.method == "power_of_two":
                entry["scale_log2"] = int(np.log2(scale))
            features.append(entry)
        statement: dict[str, Any] = {
            "schema": 1,
            "method": self.method,
            "formula": "scaled = (raw - mean) / scale = raw / scale - offset",
            "fitted_on": "the training set only",
            "n_fitted_rows": self.n_fitted_rows,
            "task_digest": self.task_digest,
            "constant_features": list(self.constant_features),
            "features": features,
        }
        if self.method == "power_of_two":
            statement["offset_fraction_bits"] = OFFSET_FRACTION_BITS
            statement["hardware"] = "shift right by scale_log2, then subtract offset: no multiplier"
        return statement

    def integer_ports(self, fraction_bits: int) -> dict[str, Any] | None:
        """Return how whole raw numbers become input words in integers alone; None where they do not.

        Args:
            fraction_bits: of the input words.

        Returns:
            JSON values: per feature an offset and a right shift (left where it is negative), by which
            word = saturate((raw - offset) >> shift).
        """
        if self.method != "hardware":
            return None
        return {
            "formula": "word = clip((raw - offset) >> right_shift, min_word, max_word)",
            "offset": self.mean.astype(np.int64).tolist(),
            "right_shift": (np.log2(self.scale).astype(np.int64) - fraction_bits).tolist(),
        }


def scaling_from_json(statement: Mapping[str, Any]) -> InputScaling:
    """Read what `InputScaling.to_json` wrote.

    Raises:
        DataError: another schema, or a key is missing.
    """
    if statement.get("schema") != 1:
        raise DataError(
            f"input scaling has schema {statement.get('schema')!r}; expected 1; export it again"
        )
    try:
        features = statement["features"]
        return InputScaling(
            method=statement["method"],
            feature_names=tuple(feature["name"] for feature in features),
            mean=np.array([feature["mean"] for feature in features], dtype=np.float64),
            scale=np.array([feature["scale"] for feature in features], dtype=np.float64),
            constant_features=tuple(statement["constant_features"]),
            n_fitted_rows=statement["n_fitted_rows"],
            task_digest=statement["task_digest"],
        )
    except KeyError as error:
        raise DataError(f"input scaling lacks the key {error}; export it again") from error


def fit_scaling(task_data: TaskData, *, method: str = "standard") -> InputScaling:
    """Fit the scaling on the training set.

    Args:
        task_data: raw data; statistics run over all axes but the last.
        method: "standard": mean and standard deviation (population, as scikit-learn's
            StandardScaler); "power_of_two": the standard deviation rounded to the nearest power of
            two (in the exponent) and the mean to 1/256 of it; "hardware": the same of whole numbers, with
            the mean a whole number, too; "none": mean 0, scale 1.

    Raises:
        DataError: unknown method; "hardware" and raw values that are no whole numbers.
    """
    n = task_data.n_features
    trained_on = task_data.target.is_trained_on(task_data.y_train)
    flat = task_data.x_train[trained_on].reshape(-1, n)
    is_constant = flat.max(axis=0) == flat.min(axis=0)
    if method == "none":
        mean, scale = np.zeros(n), np.ones(n)
    elif method in METHODS:
        mean, scale = flat.mean(axis=0, dtype=np.float64), flat.std(axis=0, dtype=np.float64)
        # A spread below float32 resolution, or denormal, would blow up rounding noise: treat as constant.
        is_constant |= scale <= np.finfo(np.float32).tiny
        scale = np.where(is_constant, 1.0, scale)
        if method == "power_of_two":
            scale = np.exp2(np.round(np.log2(scale)))
            step = scale * 2.0**-OFFSET_FRACTION_BITS
            mean = np.round(mean / step) * step
        if method == "hardware":
            is_whole = (flat == np.floor(flat)).all(axis=0)
            if not is_whole.all():
                names = [n for n, w in zip(task_data.feature_names, is_whole, strict=True) if not w]
                raise DataError(
                    f"input scaling 'hardware' reads whole numbers, but {names[:5]} of {task_data.name} are none; give"
                    " integers as the hardware has them, or choose power_of_two"
                )
            scale, mean = np.exp2(np.round(np.log2(scale))), np.round(mean)
    else:
        raise DataError(f"unknown input scaling {method!r}; expected one of {', '.join(METHODS)}")
    return InputScaling(
        method=method,
        feature_names=task_data.feature_names,
        mean=mean,
        scale=scale,
        constant_features=tuple(np.array(task_data.feature_names)[is_constant].tolist()),
        n_fitted_rows=0 if method == "none" else int(trained_on.sum()),
        task_digest=task_data.digest,
    )


def dataset_arrays(
    task_data: TaskData, scaling: InputScaling
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x_train, y_train, x_test, y_test, scaled, as new writable arrays (float32 and int64).

    Raises:
        DataError: the scaling is of other features.
    """
    if scaling.feature_names != task_data.feature_names:
        raise DataError(
            f"the scaling is of features {list(scaling.feature_names)}, the data has "
            f"{list(task_data.feature_names)}; expected the same; fit the scaling on this data"
        )
    return (
        scaling.apply(task_data.x_train),
        task_data.y_train.copy(),
        scaling.apply(task_data.x_test),
        task_data.y_test.copy(),
    )


def fold_into_dense(
    scaling: InputScaling, weights_out_in: np.ndarray, bias_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and bias of a dense layer that takes raw inputs and computes the same.

    weights'[o, i] = weights[o, i] / scale[i]
    bias'[o] = bias[o] - sum_i weights[o, i] mean[i] / scale[i]

    Exact in real numbers, not on a fixed-point grid: quantize after folding, or state the scaling.

    Args:
        scaling: the scaling to absorb.
        weights_out_in: float [n_out, n_features].
        bias_out: float [n_out].

    Raises:
        DataError: the layer does not take these features.
    """
    if weights_out_in.shape[1:] != scaling.mean.shape or bias_out.shape != weights_out_in.shape[:1]:
        raise DataError(
            f"a layer with weights {weights_out_in.shape} and bias {bias_out.shape} cannot absorb a scaling of "
            f"{len(scaling.mean)} features; expected weights [n_out, {len(scaling.mean)}] and bias [n_out]"
        )
    folded = weights_out_in / scaling.scale
    return folded, bias_out - folded @ scaling.mean
