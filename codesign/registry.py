"""One registry for everything that is added by dropping in a file."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from codesign.errors import DesignError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Named extensions of one kind, discovered from the modules of one package.

    Every module of `package` whose name has no leading underscore and is not `base` is imported on
    first use; the module registers its extension by calling `add`.  An import error is raised, never
    swallowed: an extension that cannot load must not vanish.
    """

    def __init__(self, *, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, T] = {}
        self._discovered = False

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name`.

        Raises:
            DesignError: the name is taken.
        """
        if name in self._items:
            raise DesignError(f"{self.kind} {name!r} is registered twice; choose another name")
        self._items[name] = item
        return item

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # before the imports: an extension may ask for names while it loads
        try:
            package = importlib.import_module(self._package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                if not module.startswith("_") and module != "base":
                    importlib.import_module(f"{self._package}.{module}")
        except BaseException:
            self._discovered = False  # the next use raises again instead of missing an extension
            raise

    def get(self, name: str) -> T:
        """Return the extension called `name`.

        Raises:
            DesignError: no such extension; the message names the nearest one.
        """
        self._discover()
        if name not in self._items:
            raise DesignError(unknown_name(self.kind, name, self._items))
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """Return all registered names, sorted."""
        self._discover()
        return tuple(sorted(self._items))

    def __iter__(self) -> Iterator[T]:
        return iter(self.get(name) for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._items
