"""Errors of the hardware models; `hw_models` stands alone, so they derive from built-ins only.

A message has three parts: what is wrong, what was expected, what to do.
"""


class ModelError(ValueError):
    """A design, a record or a coefficient file that the hardware models cannot use."""


class UnsupportedError(ModelError):
    """A layer, tool or option that no cost law covers; refused by name, never priced at zero."""
