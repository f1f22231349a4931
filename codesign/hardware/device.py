"""Devices and budgets: data with sources, from `constraints/`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from codesign.config import Strict, load
from codesign.resources import data_root

#: Resources that a budget may limit, as HardwareMetrics names them.
RESOURCES = ("lut", "ff", "dsp", "bram_18k")


class Device(Strict):
    """An FPGA.

    Attributes:
        name: short name.
        part: full part number for the vendor tool.
        n_slr: super logic regions.
        lut, ff, dsp, bram_18k: what the whole device has.
        source: document that the numbers come from.
    """

    name: str
    part: str = Field(pattern=r"^[a-z0-9][A-Za-z0-9\-]{3,40}$")
    n_slr: int = Field(ge=1)
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(ge=0)
    bram_18k: int = Field(ge=0)
    source: str = Field(min_length=5)


class Share(Strict):
    """Share of the device (or of one SLR) that the algorithm may use, 0..1 per resource."""

    lut: float = Field(gt=0, le=1)
    ff: float = Field(gt=0, le=1)
    dsp: float = Field(ge=0, le=1)
    bram_18k: float = Field(ge=0, le=1)


class Budget(Strict):
    """What the firmware grants.

    Attributes:
        name: short name.
        latency_ns: most time from first input to last output.
        interval_ns: most time between events (25 ns at 40 MHz); None: no limit.
        interval_cycles: most clock cycles between events; None: no limit.
        of: "slr" or "device": what the shares refer to.
        share: share per resource.
        maximum: absolute limits that apply beside the shares, per resource.
        confidence: one-sided probability with which a prediction must fit (0.5: the predicted value).
        minimum_score: least predicted score (greatest, where smaller is better) in the unit of the task's metric, or None.
        source: where the numbers come from.
    """

    name: str
    latency_ns: float = Field(gt=0)
    interval_ns: float | None = Field(default=None, gt=0)
    interval_cycles: int | None = Field(default=None, ge=1)
    of: str = Field(default="slr", pattern="^(slr|device)$")
    share: Share
    maximum: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.5, ge=0.5, lt=1)
    minimum_score: float | None = Field(default=None, ge=0)
    source: str = Field(min_length=5)

    @model_validator(mode="after")
    def _known_resources(self) -> Budget:
        for key, value in self.maximum.items():
            if key not in RESOURCES:
                raise ValueError(
                    f"maximum.{key}: unknown resource; choose from {', '.join(RESOURCES)}"
                )
            if value < 0:
                raise ValueError(f"maximum.{key}: must not be negative")
        return self

    def limit(self, resource: str, device: Device) -> float:
        """Return how much of `resource` the algorithm may use on `device`, in units of the resource."""
        whole = float(getattr(device, resource)) / (device.n_slr if self.of == "slr" else 1)
        granted = whole * float(getattr(self.share, resource))
        return min(granted, self.maximum.get(resource, float("inf")))


def load_device(reference: str | Path) -> Device:
    """Read a device by name or path."""
    return load(Device, reference, kind="devices")[0]


def device_of_part(part: str) -> Device | None:
    """Return the shipped device that is a part, None where none is."""
    folder = data_root("constraints") / "devices"
    devices = (load_device(path.stem) for path in sorted(folder.glob("*.yaml")))
    return next((device for device in devices if device.part == part), None)


def load_budget(reference: str | Path) -> Budget:
    """Read a budget by name or path."""
    return load(Budget, reference, kind="budgets")[0]
