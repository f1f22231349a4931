"""codesign: joint search over neural networks and FPGA configurations, with exact export.

Importing this package loads no heavy library; see `codesign.api` for the ten-line Python API.
"""

__version__ = "0.1.0"
