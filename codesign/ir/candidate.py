"""A candidate: a network and the hardware configuration that realises it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codesign.errors import DesignError
from codesign.ir.network import Network

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """How a network is put on the device.

    Attributes:
        part: device part number, e.g. "xcvu13p-flga2577-2-e".
        clock_period_ns: target clock period.
        io_type: "io_parallel" or "io_stream".
        strategy: per node that has multipliers: one of `hw_models.types.STRATEGIES`.
        reuse_factor: per node that has multipliers: how often each multiplier is used per inference.
    """

    part: str
    clock_period_ns: float
    io_type: str
    strategy: Mapping[str, str]
    reuse_factor: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair of (architecture with precision, hardware configuration)."""

    network: Network
    hardware: HardwareConfig

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return {
            "schema": SCHEMA,
            "network": self.network.to_json(),
            "hardware": {
                "part": self.hardware.part,
                "clock_period_ns": self.hardware.clock_period_ns,
                "io_type": self.hardware.io_type,
                "strategy": dict(self.hardware.strategy),
                "reuse_factor": dict(self.hardware.reuse_factor),
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Candidate":
        """Read what `to_json` wrote.

        Raises:
            DesignError: another schema, or a key is missing.
        """
        if value.get("schema") != SCHEMA:
            raise DesignError(
                f"candidate has schema {value.get('schema')!r}; this version reads schema {SCHEMA}"
            )
        try:
            hardware = value["hardware"]
            return cls(
                network=Network.from_json(value["network"]),
                hardware=HardwareConfig(
                    part=str(hardware["part"]),
                    clock_period_ns=float(hardware["clock_period_ns"]),
                    io_type=str(hardware["io_type"]),
                    strategy=dict(hardware["strategy"]),
                    reuse_factor={k: int(v) for k, v in hardware["reuse_factor"].items()},
                ),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DesignError(
                f"candidate lacks or garbles {error}; expected what `to_json` writes"
            ) from error

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
