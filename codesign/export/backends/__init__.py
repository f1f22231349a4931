"""hls4ml back ends, one file each."""

from codesign.export.backends.base import Backend
from codesign.registry import Registry

BACKENDS: Registry[Backend] = Registry(kind="back end", package="codesign.export.backends")

__all__ = ["BACKENDS", "Backend"]
