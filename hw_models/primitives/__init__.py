"""Hardware primitives, one file each; a new file is found by name, with no list to edit."""

import importlib
import pkgutil
from functools import cache

from hw_models.errors import UnsupportedError
from hw_models.primitives.base import Primitive


@cache
def primitives() -> dict[str, Primitive]:
    """Return all primitives by name."""
    found: dict[str, Primitive] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if info.name.startswith("_") or info.name == "base":
            continue
        primitive: Primitive = importlib.import_module(f"{__name__}.{info.name}").PRIMITIVE
        if primitive.name in found:
            raise AssertionError(f"primitive {primitive.name!r} is defined twice")
        found[primitive.name] = primitive
    return found


def get_primitive(name: str) -> Primitive:
    """Return the primitive called `name`.

    Raises:
        UnsupportedError: no such primitive.
    """
    known = primitives()
    if name not in known:
        raise UnsupportedError(
            f"unknown primitive {name!r}; expected one of {', '.join(known)}; "
            "lower the layer to these, or add a file to hw_models/primitives"
        )
    return known[name]
