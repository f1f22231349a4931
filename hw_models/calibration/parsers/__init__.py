"""Synthesis reports of many tools to records in one schema; whatever cannot be read is rejected with a reason."""

from hw_models.calibration.parsers.errors import Rejection, ReportError
from hw_models.calibration.parsers.folder import Record, read_reports
from hw_models.calibration.parsers.project import read_project

__all__ = ["Record", "Rejection", "ReportError", "read_project", "read_reports"]
