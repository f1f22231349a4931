"""Devices by URL: `tcp://host:port`, `uart:///dev/ttyUSB0?baud=921600`, `emulator:PATH.so`, `rtl:`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from codesign.errors import DesignError
from codesign.ir import QuantizedNetwork
from codesign.registry import Registry
from codesign.validate.implementation import Implementation

#: Seconds within which an answer must be complete, unless the URL says otherwise.
DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class DeviceUrl:
    """The parts of a device URL.

    Attributes:
        text: the URL as given.
        scheme: registered device kind.
        host, port: of network devices, else "" and None.
        path: of everything else; "" when the URL names none.
        options: what follows the question mark.
    """

    text: str
    scheme: str
    host: str
    port: int | None
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> DeviceUrl:
        """Read a URL.

        Raises:
            DesignError: no scheme, a malformed port, or an option that is repeated.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise DesignError(f"device URL {text!r}: {error}; expected tcp://host:port") from error
        if not parts.scheme:
            raise DesignError(
                f"device URL {text!r} has no scheme; expected one like tcp://host:port or emulator:PATH"
            )
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        options = dict(pairs)
        if len(options) != len(pairs):
            raise DesignError(f"device URL {text!r} repeats an option; give each once")
        host = parts.hostname or ""
        path = unquote(parts.path)
        if parts.scheme == "emp" and parts.netloc:  # emp://folder/sub: a relative folder
            host, port, path = "", None, unquote(parts.netloc + parts.path)
        return cls(text=text, scheme=parts.scheme, host=host, port=port, path=path, options=options)

    def check_options(self, *allowed: str) -> None:
        """Refuse options that the device does not know.

        Raises:
            DesignError: an unknown option.
        """
        for name in self.options:
            if name not in allowed:
                raise DesignError(
                    f"device URL {self.text!r}: unknown option {name!r};"
                    f" available: {', '.join(allowed) or 'none'}"
                )

    def number(self, name: str, default: float) -> float:
        """Return a positive numeric option.

        Raises:
            DesignError: not a positive number.
        """
        text = self.options.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError as error:
            raise DesignError(
                f"device URL {self.text!r}: {name} must be a number, got {text!r}"
            ) from error
        if not 0 < value < float("inf"):
            raise DesignError(f"device URL {self.text!r}: {name} must be positive, got {text!r}")
        return value

    def endpoint(self) -> tuple[str, int]:
        """Return host and port.

        Raises:
            DesignError: one of them is missing.
        """
        if not self.host or self.port is None:
            raise DesignError(
                f"device URL {self.text!r} needs a host and a port: {self.scheme}://host:port"
            )
        return self.host, self.port


@dataclass(frozen=True, kw_only=True)
class DeviceContext:
    """What is known about the candidate that the device should compute.

    Attributes:
        network: the quantized network, or None when only the device itself is known.
        firmware_folder: everything exported for the candidate, or None.
    """

    network: QuantizedNetwork | None = None
    firmware_folder: Path | None = None

    @property
    def expected_digest(self) -> str | None:
        """Digest that the firmware must have, or None when any will do."""
        return None if self.network is None else self.network.digest

    def require_network(self, url: DeviceUrl) -> QuantizedNetwork:
        """Return the network.

        Raises:
            DesignError: there is none.
        """
        if self.network is None:
            raise DesignError(
                f"device {url.text!r} needs the quantized network; name the study it belongs to"
            )
        return self.network

    def locate(self, url: DeviceUrl, default: str) -> Path:
        """Return the path of the URL, or `default` inside the firmware folder.

        Raises:
            DesignError: the URL names no path and there is no firmware folder, or nothing is there.
        """
        if url.path:
            path = Path(url.path)
        elif self.firmware_folder is not None:
            path = self.firmware_folder / default
        else:
            raise DesignError(f"device {url.text!r} names no path; expected {url.scheme}:PATH")
        if not path.exists():
            raise DesignError(f"device {url.text!r}: {path} does not exist; export the candidate")
        return path


Opener = Callable[[DeviceUrl, DeviceContext], Implementation]
DEVICES: Registry[Opener] = Registry(kind="device", package="codesign.validate.devices")


def open_device(text: str, context: DeviceContext | None = None) -> Implementation:
    """Create the device that a URL names; it connects when it is loaded.

    Args:
        text: the URL.
        context: the candidate; a device that runs another firmware is then refused.

    Raises:
        DesignError: a malformed URL, an unknown kind of device or option.
    """
    url = DeviceUrl.parse(text)
    return DEVICES.get(url.scheme)(url, context or DeviceContext())
