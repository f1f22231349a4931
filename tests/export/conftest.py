"""Fixtures for export tests."""

import pytest


@pytest.fixture
def no_tools(monkeypatch):
    """Hide every external program: only the forms that need none can run."""
    for variable in ("GXX", "MAKE", "PERL", "VERILATOR", "GHDL"):
        monkeypatch.setenv(f"CODESIGN_{variable}", f"/nonexistent/{variable.lower()}")
