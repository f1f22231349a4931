"""The types that every stage speaks."""

from codesign.ir.candidate import FLOWS, IO_TYPES, Candidate, HardwareConfig
from codesign.ir.fixed_point import FixedPoint, covering_format, integer_bits_for
from codesign.ir.network import Network, Node
from codesign.ir.population import COLUMNS, Population, Tensors
from codesign.ir.quantized import QuantizedNetwork
from codesign.ir.tensor import TensorType, Words

__all__ = [
    "COLUMNS",
    "FLOWS",
    "IO_TYPES",
    "Candidate",
    "FixedPoint",
    "HardwareConfig",
    "Network",
    "Node",
    "Population",
    "QuantizedNetwork",
    "TensorType",
    "Tensors",
    "Words",
    "covering_format",
    "integer_bits_for",
]
