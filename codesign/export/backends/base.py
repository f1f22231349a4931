"""What an hls4ml back end is to us: names, what it can express, and the scripts that go with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from codesign.errors import ExportError
from codesign.export.templates import render
from codesign.ir import QuantizedNetwork


class Backend(ABC):
    """Interface of a back end; leaves live in one file each and register an instance in `BACKENDS`.

    Attributes:
        name: registered name; a file format, never renamed.
        hls4ml_name: hls4ml's name of it.
        strategies: multiplication strategies that it realises as asked for.
        has_own_tables: hls4ml writes our table into the project; otherwise the back end computes its own.
        has_c_simulation: the project compiles with nothing but g++.
        templates: files rendered beside hls4ml's, output name by template name.
        executables: the rendered files that a person may run.
    """

    name: ClassVar[str]
    hls4ml_name: ClassVar[str]
    strategies: ClassVar[tuple[str, ...]]
    has_own_tables: ClassVar[bool]
    has_c_simulation: ClassVar[bool]
    templates: ClassVar[Mapping[str, str]]
    executables: ClassVar[frozenset[str]]

    @abstractmethod
    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        """Return the project-wide keys of hls4ml's configuration: part, clock and what the back end adds.

        Raises:
            ExportError: the candidate's hardware cannot be expressed.
        """

    def check(self, network: QuantizedNetwork) -> None:
        """Check that the back end can realise the candidate exactly.

        Raises:
            ExportError: a strategy or the I/O type is out of its reach; the message says which.
        """
        hardware = network.candidate.hardware
        if hardware.io_type not in ("io_parallel", "io_stream"):
            raise ExportError(
                f"io_type {hardware.io_type!r} unknown; choose io_parallel or io_stream"
            )
        for node, strategy in hardware.strategy.items():
            if strategy not in self.strategies:
                raise ExportError(
                    f"{node}: back end {self.name!r} has no strategy {strategy!r} (it has"
                    f" {', '.join(self.strategies)}); choose another back end or strategy"
                )

    def rendered(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        """Render the files of `hls_templates/<name>` that go with a project."""
        return {
            output: render(template, **context, backend=self.name)
            for template, output in self.templates.items()
        }
