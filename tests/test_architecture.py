"""Who may import whom, what `import codesign` loads, and what tracked files may not contain."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Units (sub-packages and top modules of codesign; hw_models) by row; see docs/architecture.md.
#: A unit imports from rows above its own, and from its own row where that makes no cycle.
ROWS: tuple[frozenset[str], ...] = (
    frozenset({"hw_models"}),
    frozenset(
        {
            "errors",
            "files",
            "registry",
            "config",
            "resources",
            "processes",
            "tools",
            "pools",
            "reporter",
        }
    ),
    frozenset({"ir"}),
    frozenset({"layers", "metrics", "tasks", "study", "results"}),
    frozenset({"space", "encoding", "hardware", "training"}),
    frozenset({"predictor", "search", "export", "synthesis", "importing"}),
    frozenset({"validate", "joint", "front", "checks"}),
    frozenset({"pipeline", "stages", "report", "catalog", "schema", "testing"}),
    frozenset({"api", "cli", "__main__"}),
)

#: Imports that the rows would allow, and why they are wrong all the same.
FORBIDDEN: dict[tuple[str, str], str] = {
    ("search", "predictor"): "the search is handed an evaluator",
    ("hardware", "synthesis"): "synthesis records flow back through files",
    ("export", "synthesis"): "an export is a plan; running tools on it comes later",
}

ANYWHERE = frozenset({"numpy", "scipy"})
#: Other third-party libraries and the only units that may import them.
LIBRARIES: dict[str, frozenset[str]] = {
    "pydantic": frozenset().union(*ROWS[1:]),
    "yaml": frozenset().union(*ROWS[1:]),
    "threadpoolctl": frozenset({"processes"}),
    "torch": frozenset().union(*ROWS[3:]),
    "sklearn": frozenset({"predictor", "stages"}),
    "pymoo": frozenset({"search"}),
    "moocore": frozenset({"search"}),  # pymoo's own dependency: hypervolume
    "optuna": frozenset({"search"}),
    "onnx": frozenset({"export", "validate", "layers", "importing"}),
    "onnxruntime": frozenset({"export", "validate"}),
    "qonnx": frozenset({"export"}),
    "keras": frozenset({"importing"}),  # whose models it reads, where somebody has it
    "hgq": frozenset({"importing"}),
    "hls4ml": frozenset({"export", "layers", "importing"}),
    "alkaid": frozenset({"export", "layers", "synthesis", "validate"}),
    "pyosys": frozenset({"synthesis"}),
    "jinja2": frozenset({"export", "report", "synthesis", "validate"}),
    "defusedxml": frozenset({"synthesis", "hw_models"}),
    "plotly": frozenset({"report"}),
    "distributed": frozenset({"pools"}),
    "pytest": frozenset({"testing"}),  # inside the tests: `import codesign.testing` needs none
    "typer": frozenset({"cli"}),
    "rich": frozenset({"cli", "report", "synthesis"}),
    "h5py": frozenset({"tasks"}),
    "pandas": frozenset({"tasks"}),
    "pyarrow": frozenset({"tasks"}),
    "uproot": frozenset({"tasks"}),
    "pythia8mc": frozenset({"tasks"}),
    "uhal": frozenset({"validate"}),  # IPbus, where the experiment installs it
}
#: The one folder of hw_models that reads vendor XML, and needs defusedxml for it.
VENDOR_XML = "hw_models/calibration/parsers/"
#: Libraries that `import codesign` and `codesign --help` must not load.
HEAVY = (
    "torch",
    "pymoo",
    "hls4ml",
    "onnx",
    "qonnx",
    "onnxruntime",
    "alkaid",
    "plotly",
    "sklearn",
)


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement: where it stands and what it loads."""

    file: str
    line: int
    unit: str
    target: str


def unit_of(path: Path, root: Path) -> str:
    """The unit that a file belongs to ("" for codesign/__init__.py)."""
    parts = path.relative_to(root).with_suffix("").parts
    if parts[0] == "hw_models":
        return "hw_models"
    return "" if parts[1] == "__init__" else parts[1]


def imports_of(root: Path) -> Iterator[Import]:
    """Yield every import of every module of `codesign` and `hw_models` under `root`."""
    for package in ("codesign", "hw_models"):
        for path in sorted((root / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    targets = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 0, f"{path}: relative import; write the full name"
                    targets = [str(node.module)]
                    if node.module == "codesign":
                        targets = [f"codesign.{alias.name}" for alias in node.names]
                else:
                    continue
                for target in targets:
                    yield Import(
                        file=str(path.relative_to(root)),
                        line=node.lineno,
                        unit=unit_of(path, root),
                        target=target,
                    )


def row_of(unit: str) -> int | None:
    """Index of the unit's row; None for an unknown unit."""
    return next((i for i, units in enumerate(ROWS) if unit in units), None)


def complaints(root: Path) -> list[str]:
    """Say, a sentence each, which imports break the rules."""
    found = []
    same_row: dict[str, set[str]] = {}
    for item in imports_of(root):
        where = f"{item.file}:{item.line}"
        if not item.unit:
            found.append(
                f"{where}: codesign/__init__.py imports {item.target}; it must import nothing"
            )
            continue
        row = row_of(item.unit)
        if row is None:
            found.append(
                f"{where}: {item.unit} stands in no row; add it to ROWS and docs/architecture.md"
            )
            continue
        library, _, rest = item.target.partition(".")
        if library in ("codesign", "hw_models"):
            target = "hw_models" if library == "hw_models" else rest.partition(".")[0]
            if target in ("", item.unit, "__version__"):
                continue
            target_row = row_of(target)
            if target_row is None:
                found.append(f"{where}: imports {item.target}, whose unit stands in no row")
            elif target_row > row:
                found.append(
                    f"{where}: {item.unit} (row {row}) imports {target} (row {target_row}); imports point "
                    f"upwards only: move the code, or hand {target}'s result in as an argument"
                )
            elif target_row == row:
                same_row.setdefault(item.unit, set()).add(target)
            if (item.unit, target) in FORBIDDEN:
                reason = FORBIDDEN[item.unit, target]
                found.append(f"{where}: {item.unit} must not import {target}: {reason}")
        elif library not in sys.stdlib_module_names and library not in ANYWHERE:
            allowed = LIBRARIES.get(library, frozenset())
            if item.unit not in allowed:
                found.append(
                    f"{where}: {item.unit} imports {library}; only {sorted(allowed) or 'no unit'} may: hide it "
                    "behind one of them, or argue for it in LIBRARIES and pyproject.toml"
                )
            elif item.unit == "hw_models" and not item.file.startswith(VENDOR_XML):
                found.append(
                    f"{where}: hw_models stands on numpy and scipy alone; {library} belongs in {VENDOR_XML}"
                )
    return found + [
        f"{a} and {b} import one another; move what they share one row up"
        for a, targets in same_row.items()
        for b in targets
        if a < b and a in same_row.get(b, set())
    ]


def test_imports_point_upwards_and_libraries_stay_where_they_belong() -> None:
    found = complaints(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_every_unit_of_the_package_stands_in_a_row() -> None:
    units = {
        unit_of(path, ROOT)
        for path in (ROOT / "codesign").rglob("*.py")
        if path.parent != ROOT / "codesign" or path.name != "__init__.py"
    }
    assert units <= frozenset().union(*ROWS)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("codesign/ir/a.py", "import codesign.search.loop", "ir (row 2) imports search (row 5)"),
        ("codesign/ir/a.py", "from codesign import search", "ir (row 2) imports search (row 5)"),
        (
            "codesign/ir/a.py",
            "def f():\n    from codesign.api import x",
            "a.py:2: ir (row 2) imports api",
        ),
        ("codesign/search/a.py", "from codesign.predictor import x", "is handed an evaluator"),
        (
            "codesign/hardware/a.py",
            "import pymoo.core",
            "hardware imports pymoo; only ['search'] may",
        ),
        ("codesign/api.py", "import requests", "api imports requests; only no unit may"),
        ("codesign/__init__.py", "import numpy", "it must import nothing"),
        ("codesign/newcomer/a.py", "import json", "newcomer stands in no row"),
        ("codesign/cli/a.py", "import codesign.newcomer", "whose unit stands in no row"),
        ("hw_models/a.py", "from codesign.errors import x", "hw_models (row 0) imports errors"),
        ("hw_models/a.py", "import torch", "hw_models imports torch"),
        ("hw_models/a.py", "import defusedxml", "belongs in hw_models/calibration/parsers/"),
    ],
)
def test_a_wrong_import_is_complained_about(
    tmp_path: Path, file: str, text: str, complaint: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = complaints(tmp_path)
    assert len(found) >= 1 and any(complaint in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("codesign/cli/a.py", "import typer\nimport codesign\nfrom codesign.api import x"),
        ("codesign/layers/a.py", "import numpy\nimport torch\nfrom hw_models.types import x"),
        ("hw_models/calibration/parsers/a.py", "import scipy\nimport defusedxml"),
        ("codesign/hardware/a.py", "from codesign.space import x\nfrom codesign.hardware import b"),
    ],
)
def test_a_right_import_is_left_alone(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert complaints(tmp_path) == []


def test_two_units_of_a_row_that_import_one_another_are_complained_about(tmp_path: Path) -> None:
    for unit, other in (("space", "hardware"), ("hardware", "space")):
        (tmp_path / "codesign" / unit).mkdir(parents=True)
        (tmp_path / "codesign" / unit / "a.py").write_text(f"import codesign.{other}")
    assert complaints(tmp_path) == [
        "hardware and space import one another; move what they share one row up"
    ]


def test_tests_import_only_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    declared = {
        re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in requirements
    }
    home = importlib.metadata.packages_distributions()
    own = {"codesign", "hw_models", "tests"} | {
        path.stem for path in tracked_files() if path.suffix == ".py"
    }
    found = {}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [str(node.module).partition(".")[0]]
            else:
                continue
            for target in targets:
                names = {name.lower().replace("_", "-") for name in home.get(target, [target])}
                if target in sys.stdlib_module_names or target in own or names & declared:
                    continue
                found[target] = str(path.relative_to(ROOT))
    # rivals of a benchmark, and frameworks whose networks are imported, bring an environment of their own
    for rival in ("rule4ml", "hgq", "keras", "brevitas", "qkeras", "tensorflow", "pquant"):
        found.pop(rival, None)
    assert not found, f"declare these in pyproject.toml: {found}"


# ---------------------------------------------------------------------- what a user can reach

#: Functions that nothing but tests and benchmarks calls, and why they stand in the package all the same.
REACHED_BY_TESTS_ONLY: dict[str, str] = {
    "hw_models/calibration/stages.py: held_out_stage_error": "judges a law that ships beside it",
    "hw_models/distributed.py: post_route_lut": "the published comparison that docs/hardware-models.md states",
}
#: Files that users import: all that they define is reached.
FOR_USERS = ("codesign/api.py", "codesign/testing/")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A class, or a function of a module or class: where it stands and what it mentions."""

    where: str
    name: str
    mentions: frozenset[str]
    is_reached: bool


def mentioned(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names, attributes and strings that look like names in some statements."""
    found = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and str(node.value).isidentifier():
            found.add(str(node.value))  # a name by which something is looked up
    return frozenset(found)


def definitions(root: Path) -> tuple[list[Definition], set[str]]:
    """Return what both packages define, and the names that are mentioned outside of any definition.

    Reached from outside are what users import, what runs on import (decorated by a call: a verb, a
    validator) and methods that a class of another library calls.
    """
    trees = {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in ("codesign", "hw_models")
        for path in sorted((root / package).rglob("*.py"))
    }
    own = {n.name for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.ClassDef)}
    found: list[Definition] = []
    outside: set[str] = set()

    def walk(body: Iterable[ast.stmt], file: str, prefix: str, is_called: bool) -> frozenset[str]:
        """Collect the definitions of a body; return what its other statements mention."""
        others: frozenset[str] = frozenset()
        for node in body:
            if not isinstance(node, DEFINITIONS):
                others |= mentioned([node])
                continue
            if isinstance(node, ast.ClassDef):
                bases = {
                    ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases
                }
                foreign = not bases <= own | {"ABC", "Protocol", "Generic", "Enum", "NamedTuple"}
                head = mentioned([*node.bases, *node.decorator_list, *node.keywords])
                inner = walk(node.body, file, f"{prefix}{node.name}.", foreign) | head
            else:
                inner = mentioned(ast.iter_child_nodes(node))
            is_run = any(isinstance(d, ast.Call) for d in node.decorator_list)
            found.append(
                Definition(
                    where=f"{file}: {prefix}{node.name}",
                    name=node.name,
                    mentions=inner,
                    is_reached=(isinstance(node, ast.FunctionDef) and is_run)
                    or is_called
                    or file.startswith(FOR_USERS)
                    or node.name.startswith("__"),
                )
            )
        return others

    for file, tree in trees.items():
        outside |= walk(tree.body, file, "", False)
    for template in [*root.glob("codesign/**/*.j2"), *root.glob("hls_templates/**/*")]:
        if template.is_file():
            outside |= set(re.findall(r"\w+", template.read_text(encoding="utf-8")))
    return found, outside


def unreached(root: Path) -> list[str]:
    """Name what nothing but tests can reach, following what is reached from name to name."""
    left, names = definitions(root)
    # the verbs and stages are called by the names of their modules' functions
    names |= {"main", "register", "run"}
    while True:
        reached = [d for d in left if d.is_reached or d.name in names]
        if not reached:
            return sorted(d.where for d in left)
        names |= frozenset().union(*(d.mentions for d in reached))
        left = [d for d in left if d not in reached]


def test_whatever_the_packages_define_is_reached_by_more_than_tests() -> None:
    found = unreached(ROOT)
    assert found == sorted(REACHED_BY_TESTS_ONLY), (
        "let a study key or a verb reach these, or delete them: "
        f"{sorted(set(found) ^ set(REACHED_BY_TESTS_ONLY))}"
    )


def test_what_only_the_unreached_call_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "codesign").mkdir()
    (tmp_path / "codesign" / "a.py").write_text(
        "import enum\n"
        "from json import JSONEncoder\n"
        "def used(): return helper()\n"
        "def helper(): return Kept().figure\n"
        "def forgotten(): return also_forgotten()\n"
        "def also_forgotten(): pass\n"
        "class Kept(JSONEncoder):\n    figure = 1\n    def default(self, o): return hook()\n"
        "def hook(): pass\n"
        "class Plain:\n    def never(self): pass\n    def asked(self): pass\n"
        "TABLE = {'used': 1, 'asked': Plain()}\n"
    )
    assert unreached(tmp_path) == [
        "codesign/a.py: Plain.never",
        "codesign/a.py: also_forgotten",
        "codesign/a.py: forgotten",
    ]


# ---------------------------------------------------------------------- fresh interpreters


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after running `statement`."""
    code = f"import sys\n{statement}\nprint('LOADED', *sorted({{m.partition('.')[0] for m in sys.modules}}))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    return set(output.rpartition("LOADED ")[2].split())


HELP = (
    "import codesign.cli\n"
    "sys.argv = ['codesign', *sys.argv[1:], '--help']\n"
    "try:\n    codesign.cli.main()\nexcept SystemExit as leave:\n    assert not leave.code, leave.code"
)


def test_importing_codesign_loads_nothing_but_the_standard_library() -> None:
    before, after = loaded_by("pass"), loaded_by("import codesign")
    assert after - before - set(sys.stdlib_module_names) == {"codesign"}


def test_help_loads_no_heavy_library() -> None:
    assert loaded_by(HELP).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "words", ["list tasks", "data list", "schema budget", "calibrate --history"]
)
def test_verbs_that_only_tell_start_without_torch(words: str) -> None:
    run = HELP.replace("'--help'", ", ".join(map(repr, words.split())))
    assert loaded_by(run).isdisjoint({"torch", "pandas", "pymoo"})


def test_hw_models_stands_on_numpy_and_scipy_alone() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "hw_models").rglob("*.py"))
        if path.name != "__main__.py" and not str(path.relative_to(ROOT)).startswith(VENDOR_XML)
    ]
    loaded = loaded_by("import " + ", ".join(modules))
    assert loaded.isdisjoint({"codesign", *LIBRARIES})


def test_the_check_of_fresh_interpreters_can_fail() -> None:
    assert "onnx" in loaded_by("import onnx")
    with pytest.raises(subprocess.CalledProcessError):
        loaded_by("raise SystemExit(3)")


# ---------------------------------------------------------------------- tracked files

# Written in pieces, so that this file does not contain what it looks for.
UNWANTED: dict[str, str] = {
    "a path of the machine it was written on": r"(?<![\w.\-/}])/("
    + "|".join(("wo" + "rk", "ro" + "ot"))
    + r")/\w",
    "the address of a package registry": "|".join(
        (
            "/opt/py" + "pi",
            "py" + r"pi\.org/simple",
            "files\\.python" + "hosted",
            "extra-index" + "-url",
            "--index" + "-url",
        )
    ),
    "a private key": "BEGIN " + r"[A-Z ]*PRIVATE KEY",
}


def unwanted_in(text: str) -> list[str]:
    """Say which unwanted things a text contains, with the line number."""
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {what} ({match.group()})"
        for what, pattern in UNWANTED.items()
        for match in re.finditer(pattern, text)
    ]


def tracked_files() -> list[Path]:
    """Files under version control; skips when this is no checkout."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def test_tracked_files_name_no_machine_registry_or_secret() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # binary, or deleted in the working tree
        found += [f"{path.relative_to(ROOT)} {sentence}" for sentence in unwanted_in(text)]
    assert not found, "\n" + "\n".join(found)


def test_an_unwanted_text_is_found() -> None:
    assert unwanted_in("a\nopen('/wo" + "rk/x')") == [
        "line 2: a path of the machine it was written on (/wo" + "rk/x)"
    ]
    assert unwanted_in("pip install --index" + "-url http://x")
    assert unwanted_in("path/to/wo" + "rk/x and docs/ro" + "ot/x") == []


def test_tracked_files_are_small_and_no_build_output() -> None:
    for path in tracked_files():
        if not path.exists():
            continue
        assert path.stat().st_size < 2_000_000, f"{path.relative_to(ROOT)} is larger than 2 MB"
        assert not {"__pycache__", ".venv", "runs", "dist"} & set(path.relative_to(ROOT).parts)
