"""The registry: what is dropped in is found, and nothing vanishes in silence."""

import itertools
from pathlib import Path

import pytest

from codesign.errors import DesignError, unknown_name
from codesign.registry import Registry

_numbers = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty importable package of a name not used before."""
    folder = tmp_path / f"plugins_{next(_numbers)}"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from codesign.registry import Registry\nITEMS = Registry(kind='plug-in', package='{folder.name}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def drop_in(package: Path, module: str, name: str) -> None:
    (package / f"{module}.py").write_text(
        f"from {package.name} import ITEMS\nITEMS.add({name!r}, {module!r})\n"
    )


def registry_of(package: Path) -> "Registry[str]":
    import importlib

    items: Registry[str] = importlib.import_module(package.name).ITEMS
    return items


def test_a_file_dropped_in_is_found(package: Path) -> None:
    drop_in(package, "first", "one")
    drop_in(package, "second", "two")
    items = registry_of(package)
    assert items.names() == ("one", "two")
    assert items.get("two") == "second"
    assert list(items) == ["first", "second"]
    assert "one" in items and "three" not in items


def test_base_and_underscore_modules_are_no_extensions(package: Path) -> None:
    for module in ("base", "_helper"):
        (package / f"{module}.py").write_text("raise RuntimeError('imported')\n")
    assert registry_of(package).names() == ()


def test_nothing_is_imported_before_the_first_use(package: Path) -> None:
    (package / "broken.py").write_text("raise RuntimeError('imported')\n")
    items = registry_of(package)
    with pytest.raises(RuntimeError, match="imported"):
        items.names()


def test_an_extension_that_cannot_load_is_an_error_every_time(package: Path) -> None:
    drop_in(package, "a_good", "good")
    (package / "broken.py").write_text("import no_such_module_anywhere\n")
    items = registry_of(package)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            items.get("good")
    drop_in(package, "broken", "mended")
    assert items.names() == ("good", "mended")


def test_a_taken_name_is_refused(package: Path) -> None:
    drop_in(package, "first", "one")
    drop_in(package, "second", "one")
    with pytest.raises(DesignError, match="plug-in 'one' is registered twice; choose another name"):
        registry_of(package).names()


def test_a_miss_suggests_the_nearest_name(package: Path) -> None:
    drop_in(package, "first", "dense")
    with pytest.raises(
        DesignError, match="unknown plug-in 'dence'; did you mean 'dense'\\? \\(available: dense\\)"
    ):
        registry_of(package).get("dence")


def test_unknown_names_without_a_near_one_list_what_there_is() -> None:
    assert unknown_name("device", "zzz", ["b", "a"]) == "unknown device 'zzz' (available: a, b)"
    assert unknown_name("device", 7, []) == "unknown device 7 (available: none)"


# ---------------------------------------------------------------------- extensions of other packages


def install(site: Path, name: str, group: str, **points: str) -> None:
    """Pretend that a package which declares entry points is installed on the path `site`."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {module}\n" for point, module in points.items()]
    (folder / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))


def plugin(package: Path, text: str) -> str:
    """Write a module beside the package of the registry; return its name."""
    name = f"their_module_{next(_numbers)}"
    (package.parent / f"{name}.py").write_text(f"from {package.name} import ITEMS\n{text}\n")
    return name


def test_an_installed_package_brings_an_extension(package: Path) -> None:
    drop_in(package, "first", "one")
    module = plugin(package, "ITEMS.add('theirs', 42)")
    install(package.parent, "their-package", f"codesign.{package.name}", theirs=module)
    assert registry_of(package).names() == ("one", "theirs")
    assert registry_of(package).get("theirs") == 42


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0", r"'theirs' of package 'their-package' cannot be loaded from '\w+' \(ZeroDivisionError"),
        ("import no_such_module", r"ModuleNotFoundError: .*no_such_module.*; mend the package or uninst"),
        ("", r"'their-package' offers plug-in 'theirs', but '\w+' adds none of that name"),
        ("ITEMS.add('one', 1)", r"package 'their-package': plug-in 'one' is registered twice"),
        ("ITEMS.add('../x', 1)", r"package 'their-package': plug-in '../x': a name is made of lower"),
    ],
)  # fmt: skip
def test_a_broken_package_is_named_in_one_sentence_every_time(
    package: Path, text: str, says: str
) -> None:
    drop_in(package, "first", "one")
    install(
        package.parent, "their-package", f"codesign.{package.name}", theirs=plugin(package, text)
    )
    for _ in range(2):
        with pytest.raises(DesignError, match=says) as caught:
            registry_of(package).names()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Dense", "a-b", "a b", "1x", "x/../y", "x;rm", "a" * 42, "é"])
def test_a_name_that_could_not_stand_in_sources_is_refused(name: str) -> None:
    registry: Registry[int] = Registry(kind="plug-in", package="nothing")
    with pytest.raises(DesignError, match="a name is made of lower-case letters"):
        registry.add(name, 1)
