"""How much of the code's behaviour the default tests hold: change it at random, see whether a test fails.

Mutants are cosmic-ray's (its operators and its way to apply them).  Its own runner starts one command for
every mutant, in order; 20,000 mutants times the whole suite is months.  So this driver draws a seeded
sample, the same number from every package, and runs for each mutant the tests of the default suite that
reach the changed line, shortest first, until one fails or their usual time exceeds `--tests-s`.  A
mutant is killed when a test fails or hangs; one that no test reaches has survived.

    python tests/mutation/run.py --n-mutants 150 --seed 1
    python tests/mutation/run.py --only codesign/layers/dense.py:41     # every mutant of that line

Every mutant runs in a fork of a process that has imported the heavy libraries already, and nothing of
ours: that saves the five seconds that importing torch and onnx takes.

Left out, since no test could tell: what stands in annotations, behind `if TYPE_CHECKING`, decorators that only
cache, mark as abstract or forbid changes, and the `strict` of a zip of equals; and what is no Python any more.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import coverage
import numpy as np
import psutil
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code, use_mutation
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
MARKERS = "not slow and not gpu and not hls and not network"

#: Where mutants are drawn from.
PACKAGES = (
    "hw_models",
    "codesign/layers",
    "codesign/stages",
    "codesign/search",
    "codesign/training",
)

#: Decorators whose loss changes nothing but time, or only what cannot be created.
SILENT_DECORATORS = (
    "cache",
    "cached_property",
    "lru_cache",
    "abstractmethod",
    "overload",
    "final",
    "dataclass",
)

#: What a test process imports before it is told which mutant to run.
LIBRARIES = (
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "torch",
    "pytest",
    "pydantic",
    "yaml",
    "typer",
    "onnx",
    "onnxruntime",
    "pymoo.core.problem",
    "plotly.graph_objects",
)

#: A mutant that runs so many times longer than its tests usually do hangs.
HANG_FACTOR = 6.0
HANG_S = 60.0
#: It is processor time that counts, so that a busy machine hangs no test; a test that waits for ever waits so
#: many times as long.
WAIT_FACTOR = 5.0


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of the source.

    Attributes:
        package: that it was drawn from.
        path: relative to the root.
        operator: cosmic-ray's name.
        occurrence: which of the operator's positions in the file.
        line, last_line: of the position.
        changed: the line, as it stands.
    """

    package: str
    path: str
    operator: str
    occurrence: int
    line: int
    last_line: int
    changed: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant: "killed", "hung", "survived" or "unreached", and by how many tests."""

    mutant: Mutant
    outcome: str
    n_tests: int
    seconds: float
    mutated: str

    @property
    def is_killed(self) -> bool:
        """Whether a test noticed."""
        return self.outcome in ("killed", "hung")


# ---- mutants ------------------------------------------------------------------------------------
def hidden_lines(source: str) -> tuple[set[tuple[int, int, int, int]], set[int]]:
    """Return the spans (first line, column, last line, column) and the lines whose change shows nowhere."""
    spans, lines = set(), set()
    for node in ast.walk(ast.parse(source)):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            found += [a.annotation for a in (*every, arguments.vararg, arguments.kwarg) if a]
            found.append(node.returns)
        elif isinstance(node, ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            found.append(node.value)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            lines |= set(range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                name = ast.unparse(decorator).partition("(")[0].rpartition(".")[2]
                if name in SILENT_DECORATORS:
                    lines |= set(range(decorator.lineno, (decorator.end_lineno or 0) + 1))
        for part in found:
            if part is not None:
                spans.add(
                    (part.lineno, part.col_offset, part.end_lineno or 0, part.end_col_offset or 0)
                )
    return spans, lines


def mutants_of(path: Path, package: str) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    source = path.read_text(encoding="utf-8")
    rows = source.splitlines()
    spans, lines = hidden_lines(source)
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        positions = (p for node in nodes for p in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            is_hidden = start[0] in lines or any(
                (a, b) <= start and end <= (c, d) for a, b, c, d in spans
            )
            if not is_hidden:
                yield Mutant(
                    package=package,
                    path=path.relative_to(ROOT).as_posix(),
                    operator=name,
                    occurrence=occurrence,
                    line=start[0],
                    last_line=end[0],
                    changed=rows[start[0] - 1].strip(),
                )


def is_python(mutant: Mutant) -> bool:
    """Whether the mutated file still compiles (cosmic-ray takes the `*` of a signature for a product)."""
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    mutated = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
    try:
        compile(mutated or "", mutant.path, "exec")
    except (SyntaxError, ValueError):
        return False
    return mutated not in (None, source)


def sample(packages: Sequence[str], n_mutants: int, seed: int) -> list[Mutant]:
    """Draw the same number of mutants from every package: a line first, then one of its mutants.

    Lines with many operators would otherwise crowd out those with one.
    """
    rng = np.random.default_rng(seed)
    drawn: list[Mutant] = []
    for package in packages:
        by_line: dict[tuple[str, int], list[Mutant]] = {}
        for path in sorted((ROOT / package).rglob("*.py")):
            for mutant in mutants_of(path, package):
                by_line.setdefault((mutant.path, mutant.line), []).append(mutant)
        keys = sorted(by_line)
        count = min(len(keys), n_mutants // len(packages))
        for i in rng.choice(len(keys), size=count, replace=False):
            choices = [m for m in by_line[keys[i]] if is_python(m)]
            if choices:
                drawn.append(choices[int(rng.integers(len(choices)))])
    return drawn


# ---- which tests reach a line -------------------------------------------------------------------
def copy_tree(folder: Path) -> Path:
    """Copy the working tree (what git tracks or does not ignore) to a folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            target.chmod((ROOT / name).stat().st_mode)
    return folder


def environment(tree: Path) -> dict[str, str]:
    """Return the variables under which a copy's own code runs, on one thread."""
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, **single, "PYTHONPATH": str(tree)}


def record_coverage(tree: Path, folder: Path, n_workers: int, tests: list[str]) -> None:
    """Run the default suite once and keep which test reaches which line, and how long it takes."""
    (folder / "times.jsonl").unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "-m", MARKERS, "-n", str(n_workers), "--dist", "loadfile",
        "-p", "tests.mutation.timing_plugin", "--cov=codesign", "--cov=hw_models", "--cov-context=test",
        "--cov-report=", *tests,
    ]  # fmt: skip
    variables = environment(tree) | {
        "CODESIGN_TEST_TIMES": str(folder / "times.jsonl"),
        "COVERAGE_FILE": str(folder / "coverage"),
    }
    done = subprocess.run(command, cwd=tree, env=variables, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the default suite did not run (status {done.returncode})")


class Reach:
    """Which tests reach a line, from the recorded coverage."""

    def __init__(self, tree: Path, folder: Path) -> None:
        data = coverage.CoverageData(basename=str(folder / "coverage"))
        data.read()
        rows = (folder / "times.jsonl").read_text(encoding="utf-8").splitlines()
        self._seconds: dict[str, float] = dict(json.loads(row) for row in rows)
        self._existing = {t for t in self._seconds if (tree / t.partition("::")[0]).is_file()}
        self._by_module: dict[str, set[str]] = {}
        for test in self._existing:
            self._by_module.setdefault(test.partition("::")[0], set()).add(test)
        self._lines: dict[str, dict[int, set[str]]] = {}
        for file in data.measured_files():
            name = Path(file).as_posix()
            relative = next(
                (
                    name[name.rindex(f"/{top}/") + 1 :]
                    for top in ("codesign", "hw_models")
                    if f"/{top}/" in name
                ),
                None,
            )
            if relative is not None:
                self._lines[relative] = {
                    line: self._tests_of(contexts)
                    for line, contexts in data.contexts_by_lineno(file).items()
                }

    def _tests_of(self, contexts: Sequence[str]) -> set[str]:
        """Return the tests that see what ran in some contexts ("test|phase").

        What a fixture of a whole module runs is recorded for the first test only, but all tests of the
        module look at it.
        """
        seen = set()
        for test, _, phase in (context.partition("|") for context in contexts):
            module = test.partition("::")[0]
            seen |= self._by_module.get(module, set()) if phase == "setup" else {test}
        return seen

    def tests(self, mutant: Mutant, limit_s: float) -> list[str]:
        """Return the tests to run, shortest first, together at most `limit_s` seconds as a rule.

        A line that runs when its module is imported counts as reached by all tests that reach any line
        inside the module's functions.
        """
        lines = self._lines.get(mutant.path, {})
        first, last, is_inside = self._statement(mutant)
        reached: set[str] = set()
        for line in range(first, last + 1) if is_inside else lines:
            reached |= lines.get(line, set())
        known = sorted((self._seconds[test], test) for test in reached & self._existing)
        chosen, total = [], 0.0
        for seconds, test in known:
            total += seconds
            if chosen and total > limit_s:
                break
            chosen.append(test)
        return chosen

    def _statement(self, mutant: Mutant) -> tuple[int, int, bool]:
        """Return the lines of the innermost statement around a mutant, and whether a function holds it."""
        tree = ast.parse((ROOT / mutant.path).read_text(encoding="utf-8"))
        best = (mutant.line, mutant.last_line)
        is_inside, width = False, 10**9
        for node in ast.walk(tree):
            end = getattr(node, "end_lineno", None)
            if not isinstance(node, ast.stmt) or end is None:
                continue
            if isinstance(node, ast.FunctionDef):
                start_of_body = node.body[0].lineno
                is_inside |= start_of_body <= mutant.line <= end
            elif node.lineno <= mutant.line and mutant.last_line <= end:
                head = getattr(node, "body", None)
                end = head[0].lineno - 1 if head and mutant.line < head[0].lineno else end
                if end - node.lineno < width and end >= mutant.last_line:
                    best, width = (node.lineno, end), end - node.lineno
        return (*best, is_inside)


# ---- running --------------------------------------------------------------------------------------
def run_tests(tree: Path, tests: list[str], limit_s: float) -> str:
    """Run tests on a copy of the tree in a fork of this process: "killed", "survived" or "hung"."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.chdir(tree)
        os.environ.update(environment(tree))
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(tree))
        import pytest

        options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = 3
        with contextlib.suppress(Exception):
            status = int(pytest.main([*options, "-p", "no:cov", *tests]))
        os._exit(status)
    child = psutil.Process(pid)
    deadline_s = time.monotonic() + WAIT_FACTOR * limit_s
    try:
        while time.monotonic() < deadline_s and processor_s(child) < limit_s:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                # not even collecting the tests (a registry that lost an entry) is noticed too
                return "survived" if code == 0 else "killed"
            time.sleep(0.05)
        return "hung"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def processor_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of what it has started and ended; 0 once it is gone."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def judge(mutant: Mutant, tree: Path, tests: list[str], usual_s: float) -> Verdict:
    """Apply a mutant to a copy of the tree, run tests on it, and take it back."""
    started_s = time.monotonic()
    operator = get_operator(mutant.operator)()
    with use_mutation(tree / mutant.path, operator, mutant.occurrence) as (before, after):
        rows = zip(before.splitlines(), (after or "").splitlines(), strict=False)
        mutated = next((b.strip() for a, b in rows if a != b), "")
        limit_s = HANG_S + HANG_FACTOR * usual_s
        outcome = run_tests(tree, tests, limit_s) if tests else "unreached"
    return Verdict(
        mutant=mutant,
        outcome=outcome,
        n_tests=len(tests),
        seconds=round(time.monotonic() - started_s, 1),
        mutated=mutated,
    )


def work(
    tree: Path,
    tasks: multiprocessing.Queue[tuple[Mutant, list[str], float] | None],
    verdicts: multiprocessing.Queue[Verdict | None],
) -> None:
    """Judge mutants on one copy of the tree until told to stop."""
    for name in LIBRARIES:
        importlib.import_module(name)
    while (task := tasks.get()) is not None:
        mutant, tests, usual_s = task
        verdicts.put(judge(mutant, tree, tests, usual_s))
    verdicts.put(None)


def judge_all(
    mutants: list[Mutant], trees: list[Path], reach: Reach, tests_s: float
) -> Iterator[Verdict]:
    """Judge mutants side by side, one copy of the tree for each worker, in the order they end."""
    context = multiprocessing.get_context("spawn")
    tasks, verdicts = context.Queue(), context.Queue()
    for mutant in mutants:
        tasks.put((mutant, reach.tests(mutant, tests_s), tests_s))
    workers = [context.Process(target=work, args=(tree, tasks, verdicts)) for tree in trees]
    for worker in workers:
        tasks.put(None)
        worker.start()
    n_working = len(workers)
    while n_working:
        verdict = verdicts.get()
        if verdict is None:
            n_working -= 1
        else:
            yield verdict
    for worker in workers:
        worker.join()


def table(verdicts: list[Verdict]) -> str:
    """Return the score of every package as text."""
    lines = [f"{'package':<20} {'mutants':>8} {'killed':>8} {'score':>8}"]
    for package in (*PACKAGES, "all"):
        own = [v for v in verdicts if package in (v.mutant.package, "all")]
        killed = sum(v.is_killed for v in own)
        score = f"{100 * killed / len(own):.0f} %" if own else "-"
        lines.append(f"{package:<20} {len(own):>8} {killed:>8} {score:>8}")
    return "\n".join(lines)


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n-mutants", type=int, default=150)
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n-workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tests-s", type=float, default=30.0, help="seconds of tests per mutant")
    parser.add_argument("--only", help="PATH:LINE: every mutant of one line")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "mutants")
    parser.add_argument("--tests", nargs="*", default=[], help="record these instead of all")
    parser.add_argument("--record", action="store_true", help="record the coverage anew")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="codesign-mutants-") as temporary:
        trees = [copy_tree(Path(temporary) / f"copy_{i}") for i in range(options.n_workers)]
        if options.record or not (folder / "coverage").exists():
            record_coverage(trees[0], folder, options.n_workers, options.tests)
        reach = Reach(trees[0], folder)
        if options.only:
            name, _, line = options.only.rpartition(":")
            everything = mutants_of(ROOT / name, name)
            mutants = [m for m in everything if m.line == int(line)]
        else:
            mutants = sample(options.packages, options.n_mutants, options.seed)
        verdicts: list[Verdict] = []
        for verdict in judge_all(mutants, trees, reach, options.tests_s):
            verdicts.append(verdict)
            m = verdict.mutant
            print(
                f"{len(verdicts):>4} {verdict.outcome:<9} {verdict.seconds:>6.1f} s {verdict.n_tests:>4} tests"
                f"  {m.path}:{m.line}  {m.changed[:60]}  =>  {verdict.mutated[:60]}",
                flush=True,
            )
    found = [asdict(v) for v in verdicts]
    (folder / "verdicts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(verdicts))


if __name__ == "__main__":
    main()
