"""One registry for everything that is added by dropping in a file, here or in another package."""

import dataclasses
import importlib
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from codesign.errors import DesignError, unknown_name

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def listed(package: str) -> set[str]:
    """Return the names of extensions whose modules are called like them, without importing any.

    Args:
        package: in full, "codesign.search.strategies"; its modules must be called like what they add.
    """
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    own = {module.name for module in pkgutil.iter_modules([str(folder)])}
    group = f"codesign.{package.rpartition('.')[2]}"
    others = {point.name for point in importlib.metadata.entry_points(group=group)}
    return {name for name in own if not name.startswith("_") and name != "base"} | others


class Registry(Generic[T]):
    """Named extensions of one kind, discovered from the modules of one package and from other packages.

    Every module of `package` whose name has no leading underscore and is not `base` is imported on
    first use; the module registers its extension by calling `add`.  So is every module that an installed
    package names in the entry point group `codesign.<last part of package>`, under the name of the
    extension that it adds:

        [project.entry-points."codesign.layers"]
        softsign = "my_package.softsign"

    An error on the way is raised, never swallowed: an extension that cannot load must not vanish.
    """

    def __init__(self, *, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._group = f"codesign.{package.rpartition('.')[2]}"
        self._items: dict[str, T] = {}
        self._modules: dict[str, str] = {}
        self._discovered = False

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name`.

        Raises:
            DesignError: the name is taken, or is none that may stand in files, paths and sources.
        """
        if not _NAME.fullmatch(name):
            raise DesignError(
                f"{self.kind} {name!r}: a name is made of lower-case letters, digits and _, a letter first;"
                " choose another name"
            )
        if name in self._items:
            raise DesignError(f"{self.kind} {name!r} is registered twice; choose another name")
        self._items[name] = item
        self._modules[name] = sys._getframe(1).f_globals["__name__"]
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
            for point in sorted(importlib.metadata.entry_points(group=self._group)):
                self._load(point)
        except BaseException:
            self._discovered = False  # the next use raises again instead of missing an extension
            raise

    def _load(self, point: importlib.metadata.EntryPoint) -> None:
        """Import the module of an extension that another package brings.

        Raises:
            DesignError: it does not import, or does not add what it is said to.
        """
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            point.load()
        except DesignError as error:
            raise DesignError(f"package {package!r}: {error}") from error
        except Exception as error:
            raise DesignError(
                f"{self.kind} {point.name!r} of package {package!r} cannot be loaded from {point.value!r}"
                f" ({type(error).__name__}: {error}); mend the package or uninstall it"
            ) from error
        if point.name not in self._items:
            raise DesignError(
                f"package {package!r} offers {self.kind} {point.name!r}, but {point.value!r} adds none of that"
                " name; mend the package or uninstall it"
            )

    def get(self, name: str) -> T:
        """Return the extension called `name`.

        Raises:
            DesignError: no such extension; the message names the nearest one.
        """
        self._discover()
        if name not in self._items:
            raise DesignError(unknown_name(self.kind, name, self._items))
        return self._items[name]

    def description(self, name: str) -> str:
        """Return one line about an extension: that of its class, or else of the file that adds it.

        A class tells what its extension is unless several share it, or its first line is about its fields.
        """
        item = self.get(name)
        kind = item if isinstance(item, type) else type(item)
        own = kind.__module__ == self._modules[name] and not dataclasses.is_dataclass(kind)
        text = kind.__doc__ if own else sys.modules[self._modules[name]].__doc__
        return (text or "").strip().partition("\n")[0]

    def names(self) -> tuple[str, ...]:
        """Return all registered names, sorted."""
        self._discover()
        return tuple(sorted(self._items))

    def __iter__(self) -> Iterator[T]:
        return iter(self.get(name) for name in self.names())

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._items
