"""The site builds strictly, its files and commands exist, and its notebooks run."""

import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from codesign.checks import load_config
from codesign.cli import build_app
from codesign.results import Page
from codesign.study import Study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
APP = get_command(build_app())
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """Links and anchors between pages, everything in the menu, the page of keys and the Python reference."""
    pytest.importorskip("material", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-3000:]
    keys = (tmp_path / "keys" / "index.html").read_text(encoding="utf-8")
    assert "train.score_tolerance" in keys and "the label column" in keys
    assert "Run (or resume) a study" in (tmp_path / "api" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target and target != "keys.md":  # made when the site is built
            assert (page.parent / target).exists(), target


def _commands(page: Path) -> list[list[str]]:
    found = []
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text("utf-8"), re.S):
        for line in block.splitlines():
            line = line.removeprefix("$ ").strip().removeprefix(".venv/bin/")
            if line.startswith("codesign "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_of_a_page_exists(page: Path) -> None:
    app = APP
    for words in _commands(page):
        command = app
        for word in words:
            if word.startswith("-"):
                break
            inner = getattr(command, "commands", {}).get(word)
            command = inner or command
        known = {option for known in command.params for option in known.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, (page.name, words)
        assert command is not app, (page.name, words)


def test_studies_in_the_guides_are_legal(tmp_path: Path) -> None:
    text = (DOCS / "own-data.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```yaml\n(.*?)```", text, re.S) if "schema: 1" in b]
    path = tmp_path / "mine.yaml"
    path.write_text(block, encoding="utf-8")
    (tmp_path / "mydata.csv").touch()
    assert load_config(path).task.source == "csv"
    budget = (DOCS / "own-budget.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", budget, re.S)
    from codesign.hardware.device import Budget

    assert Budget.model_validate(yaml.safe_load(block)).latency_ns == 75


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on PATH")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra notebooks is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra notebooks is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    nbclient.NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()


@pytest.mark.slow
def test_the_first_run_ends_proved_within_two_minutes_of_processor_time(tmp_path: Path) -> None:
    """Measured: 64 s on cores that others used as well; a quiet machine takes about half."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", "from codesign.cli import main; main()", "run"]
    command += ["examples/first_run.yaml", "--output", str(tmp_path / "first_run")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert ran.returncode == 0, ran.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 120
    study = Study.open(tmp_path / "first_run")
    assert study.results().last(Page) is not None
    exported = study.exported(study.designs()[study.winner()])
    assert exported is not None and {row.mismatches for row in exported.comparisons.values()} <= {
        0,
        None,
    }
