"""What an hls4ml back end is to us: names, what it can express, and the scripts that go with it."""

from __future__ import annotations

import contextlib
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from codesign.errors import ExportError
from codesign.ir import QuantizedNetwork
from hw_models.errors import UnsupportedError
from hw_models.families import family_of


class Backend(ABC):
    """Interface of a back end; leaves live in one file each and register an instance in `BACKENDS`.

    Attributes:
        name: registered name; a file format, never renamed.
        hls4ml_name: hls4ml's name of it.
        vendor: whose parts it takes: "amd", "intel" or "microchip".
        strategies: multiplication strategies that it realises as asked for.
        has_own_tables: hls4ml writes our tables into the project; other back ends compute their own, which
            differ, and so refuse networks with tanh or sigmoid.
        rounds_elements: its C++ can round every element of a tensor to a type of its own.
        has_c_simulation: the project compiles with nothing but g++.
    """

    name: ClassVar[str]
    hls4ml_name: ClassVar[str]
    vendor: ClassVar[str]
    strategies: ClassVar[tuple[str, ...]]
    has_own_tables: ClassVar[bool]
    rounds_elements: ClassVar[bool]
    has_c_simulation: ClassVar[bool]

    @abstractmethod
    def configuration(self, network: QuantizedNetwork) -> dict[str, Any]:
        """Return the project-wide keys of hls4ml's configuration: part, clock and what the back end adds.

        Raises:
            ExportError: the candidate's hardware cannot be expressed.
        """

    @abstractmethod
    def scripts(self, context: Mapping[str, Any]) -> dict[str, bytes]:
        """Render the scripts that go with a project, by relative file name.

        Args:
            context: name, digest, part, clock_period_ns, io_type, n_in, n_out, input_type, output_type,
                output_fraction_bits.
        """

    def check_part(self, part: str) -> None:
        """Check that a part is of the vendor whose parts the back end takes.

        Raises:
            ExportError: it is not.
        """
        if vendor_of(part) != self.vendor:
            raise ExportError(
                f"back end {self.name!r} takes parts of {self.vendor}, {part} is none; choose the"
                " back end of its vendor"
            )

    def check(self, network: QuantizedNetwork) -> None:
        """Check that the back end can realise the candidate exactly.

        Raises:
            ExportError: a strategy, the part or the I/O type is out of its reach; the message says which.
        """
        hardware = network.candidate.hardware
        if hardware.io_type not in ("io_parallel", "io_stream"):
            raise ExportError(
                f"io_type {hardware.io_type!r} unknown; choose io_parallel or io_stream"
            )
        self.check_part(hardware.part)
        for node, strategy in hardware.strategy.items():
            if strategy not in self.strategies:
                raise ExportError(
                    f"{node}: back end {self.name!r} has no strategy {strategy!r} (it has"
                    f" {', '.join(self.strategies)}); choose another back end or strategy"
                )


def vendor_of(part: str) -> str:
    """Return whose part this is: "amd", "intel", "microchip" or "other"."""
    if part.lower().startswith(("mpf", "rtpf")):
        return "microchip"
    try:
        family = family_of(part).name
    except UnsupportedError as error:
        raise ExportError(str(error)) from error
    if family == "intel":
        return "intel"
    return "other" if family in ("ecp5", "gowin") else "amd"


@contextlib.contextmanager
def quiet_hls4ml() -> Iterator[io.StringIO]:
    """Catch what hls4ml prints, and ignore the files that hls4ml 1.3 forgets to close."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield printed


def initial_configuration(hls4ml_name: str, **options: Any) -> dict[str, Any]:
    """Return hls4ml's own initial configuration of a back end, without its empty HLSConfig.

    Raises:
        ExportError: hls4ml refuses (for instance because the vendor's compiler must be found first).
    """
    from hls4ml.backends import get_backend

    try:
        with quiet_hls4ml():
            configuration = dict(get_backend(hls4ml_name).create_initial_config(**options))
    except Exception as error:  # hls4ml raises bare Exception for everything it refuses
        raise ExportError(f"hls4ml's back end {hls4ml_name} refused: {error}") from error
    configuration.pop("HLSConfig", None)
    return configuration
