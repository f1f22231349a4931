"""Calibration: records in, coefficients out, and never worse than before."""

from hw_models.calibration.calibrate import CalibrationResult, TargetError, calibrate, load_corpus
from hw_models.calibration.estimate import estimate_records
from hw_models.coefficients import Coefficients, load_coefficients, save_coefficients
from hw_models.records import load_records

__all__ = [
    "CalibrationResult",
    "Coefficients",
    "TargetError",
    "calibrate",
    "estimate_records",
    "load_coefficients",
    "load_corpus",
    "load_records",
    "save_coefficients",
]
