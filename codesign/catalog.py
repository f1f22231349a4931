"""What ships with codesign, by kind: for `codesign list` and for error messages."""

from __future__ import annotations

import importlib
import inspect
import sys

from codesign.config import read_yaml
from codesign.errors import ConfigError, unknown_name
from codesign.resources import data_root

#: Kinds that are YAML files in `constraints/`.
_FILES = ("devices", "budgets", "spaces")
#: Kinds that are registries: module and attribute.
_REGISTRIES = {
    "tasks": ("codesign.tasks.base", "TASKS"),
    "layers": ("codesign.layers", "LAYERS"),
    "strategies": ("codesign.search.strategies.base", "STRATEGIES"),
    "methods": ("codesign.predictor.base", "METHODS"),
    "templates": ("codesign.space.templates", "TEMPLATES"),
    "backends": ("codesign.export.backends", "BACKENDS"),
}


def list_names(kind: str) -> list[tuple[str, str]]:
    """Return (name, one-line description) of everything of a kind.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind in _FILES:
        files = sorted((data_root("constraints") / kind).glob("*.yaml"))
        return [(path.stem, str(read_yaml(path)["source"])) for path in files]
    if kind in _REGISTRIES:
        module, attribute = _REGISTRIES[kind]
        registry = getattr(importlib.import_module(module), attribute)
        rows = []
        for name in registry.names():
            item = registry.get(name)
            if inspect.isfunction(item):  # a factory: its file says what it makes
                text = sys.modules[item.__module__].__doc__
            else:
                text = (item if isinstance(item, type) else type(item)).__doc__
            rows.append((name, (text or "").strip().partition("\n")[0]))
        return rows
    raise ConfigError(unknown_name("kind", kind, (*_FILES, *_REGISTRIES)))
