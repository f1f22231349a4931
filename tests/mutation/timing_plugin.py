"""A pytest plugin that writes how long each test took, as JSON lines: node id and seconds."""

import json
import os
from pathlib import Path

import pytest

#: Where to; the driver sets it.
VARIABLE = "CODESIGN_TEST_TIMES"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called in the controlling process for every phase of every test."""
    if report.passed and report.when == "call" and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([report.nodeid, report.duration]) + "\n")
