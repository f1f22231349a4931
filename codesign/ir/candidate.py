"""A candidate: a network and the hardware configuration that realises it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.errors import CodesignError, DesignError, unknown_name
from codesign.ir.network import Network

SCHEMA = 2
#: How a candidate is realised: as one plain RTL design of distributed arithmetic, or as an hls4ml
#: project whose layers each have a strategy.  Populations hold indices: only append.
FLOWS = ("rtl", "hls")
#: How values move between layers: all at once, or one position after another.  Only append.
IO_TYPES = ("io_parallel", "io_stream")
#: The one strategy that plain RTL knows.
RTL_STRATEGY = "distributed_arithmetic"


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """How a network is put on the device.

    Attributes:
        part: device part number, e.g. "xcvu13p-flga2577-2-e".
        clock_period_ns: target clock period.
        flow: one of `FLOWS`.
        io_type: one of `IO_TYPES`.
        strategy: per node that has multipliers: one of `hw_models.types.MATVEC_STRATEGIES`.
        reuse_factor: per node that has multipliers: how often each multiplier is used per inference.
        spare_adder_levels: levels of adders that each product of plain RTL may take beyond the fewest
            possible; None: as many as save adders.
        interval_cycles: of plain RTL, cycles from one event to the next; above 1 particles take turns at the same
            logic (`codesign.space.turns`).
    """

    part: str
    clock_period_ns: float
    flow: str
    io_type: str
    strategy: Mapping[str, str]
    reuse_factor: Mapping[str, int]
    spare_adder_levels: int | None = None
    interval_cycles: int = 1

    def __post_init__(self) -> None:
        for name, value, known in (
            ("flow", self.flow, FLOWS),
            ("io_type", self.io_type, IO_TYPES),
        ):
            if value not in known:
                raise DesignError(f"hardware configuration: {unknown_name(name, value, known)}")
        if (self.spare_adder_levels or 0) < 0:
            raise DesignError(
                f"hardware configuration: spare_adder_levels is {self.spare_adder_levels}; expected 0 or more"
            )
        if self.interval_cycles < 1:
            raise DesignError(
                f"hardware configuration: interval_cycles must be at least 1, got {self.interval_cycles}"
            )
        if self.flow != "rtl":
            if self.interval_cycles > 1:
                raise DesignError(
                    f"hardware configuration: an interval of {self.interval_cycles} cycles in flow {self.flow}, where"
                    " reuse factors and io_type say it; leave it out, or choose flow rtl"
                )
            return
        if self.io_type != "io_parallel":
            raise DesignError(
                f"hardware configuration: flow rtl takes all inputs at once, got {self.io_type};"
                " choose io_parallel, or flow hls"
            )
        for node, strategy in self.strategy.items():
            if strategy != RTL_STRATEGY:
                raise DesignError(
                    f"{node}: strategy {strategy!r} in flow rtl, which knows {RTL_STRATEGY} only;"
                    " choose that, or flow hls"
                )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair of (architecture with precision, hardware configuration).

    Attributes:
        network: the architecture.
        hardware: how it is realised.
        lut_budget: LUTs that training may spend on widths of its own choice; None: the widths that the
            network's nodes state.
    """

    network: Network
    hardware: HardwareConfig
    lut_budget: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        # candidates without them are written, and digested, as before there were others
        budget = {} if self.lut_budget is None else {"lut_budget": self.lut_budget}
        spare = self.hardware.spare_adder_levels
        levels = {} if spare is None else {"spare_adder_levels": spare}
        turns = {"interval_cycles": self.hardware.interval_cycles}
        return {
            **budget,
            "schema": SCHEMA,
            "network": self.network.to_json(),
            "hardware": {
                "part": self.hardware.part,
                "clock_period_ns": self.hardware.clock_period_ns,
                "flow": self.hardware.flow,
                "io_type": self.hardware.io_type,
                "strategy": dict(self.hardware.strategy),
                "reuse_factor": dict(self.hardware.reuse_factor),
                **levels,
                **(turns if self.hardware.interval_cycles > 1 else {}),
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Candidate":
        """Read what `to_json` wrote, or what version 1 of the schema held.

        Schema 1 did not say the flow; there a candidate was plain RTL where all its strategies are
        distributed arithmetic.

        Raises:
            DesignError: another schema, a key is missing, or the hardware configuration is illegal.
        """
        schema = value.get("schema")
        if schema not in (1, SCHEMA):
            raise DesignError(
                f"candidate has schema {schema!r}; this version reads schemas 1 and {SCHEMA}"
            )
        try:
            hardware = value["hardware"]
            spare = hardware.get("spare_adder_levels")
            is_rtl = all(s == RTL_STRATEGY for s in hardware["strategy"].values())
            flow = ("rtl" if is_rtl else "hls") if schema == 1 else str(hardware["flow"])
            return cls(
                network=Network.from_json(value["network"]),
                hardware=HardwareConfig(
                    part=str(hardware["part"]),
                    clock_period_ns=float(hardware["clock_period_ns"]),
                    flow=flow,
                    io_type=str(hardware["io_type"]),
                    strategy=dict(hardware["strategy"]),
                    reuse_factor={k: int(v) for k, v in hardware["reuse_factor"].items()},
                    spare_adder_levels=None if spare is None else int(spare),
                    interval_cycles=int(hardware.get("interval_cycles", 1)),
                ),
                lut_budget=float(value["lut_budget"]) if "lut_budget" in value else None,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, CodesignError):
                raise
            raise DesignError(
                f"candidate lacks or garbles {error}; expected what `to_json` writes"
            ) from error

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
