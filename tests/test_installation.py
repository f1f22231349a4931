"""What is built from the sources works without them: wheel and sdist hold all that a study needs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from tests.test_architecture import tracked_files
from tests.test_cli import block_all_but_the_core

#: Every stage and every form, with little to do in each.
STUDY = """
schema: 1
name: tiny
space: mlp_tiny
budget: l1_corner
seed: 3
labels: {n_initial: 16, n_per_round: 4, epochs: 1, predictor: ridge}
search: {n_evaluations: 800, n_rounds: 1, strategy: nsga2}
train: {n_finalists: 1, epochs: 2}
"""

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a program without this checkout on its path; return what it prints."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with codesign installed from a wheel that was built from the sdist, beside its dependencies."""
    folder = tmp_path_factory.mktemp("installation")
    sources = folder / "sources"
    for path in tracked_files():
        target = sources / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, folder=sources)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=unpacked)
    shutil.rmtree(sources)
    shutil.rmtree(unpacked)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    # the packages that it depends on are those of this Python; its checkout, which pip put on the path of
    # this Python alone, is not among them
    home = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", home, folder=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wheel_runs_the_small_study_far_from_any_checkout(python: Path, tmp_path: Path) -> None:
    where = run(python, "-c", "import codesign; print(codesign.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parents[1])
    (tmp_path / "tiny.yaml").write_text(STUDY)
    command = python.with_name("codesign")
    configuration = {"XDG_CONFIG_HOME": str(tmp_path)}
    run(command, "run", "tiny.yaml", folder=tmp_path, **configuration)
    study = tmp_path / "runs" / "tiny"
    summary = json.loads(run(command, "report", study, "--json", folder=tmp_path))
    assert summary["complete"] and summary["mismatches"]["hls4ml_vitis"]["mismatches"] == 0

    # somebody else, with the core alone, chooses, reads the certificate, compares and estimates
    core_only = (python, "-c", block_all_but_the_core())
    front = run(*core_only, "front", study, "--json", folder=tmp_path, **configuration)
    assert summary["winner"]["digest"] in {design["digest"] for design in json.loads(front)}
    (checked,) = json.loads(run(*core_only, "validate", study, "--json", folder=tmp_path)).values()
    assert checked["n_vectors"] > 1000 and "torch" in checked["not compared again"]
    run(*core_only, "compare", study, study, folder=tmp_path, **configuration)
    (project,) = study.glob("candidates/*/firmware/hls4ml_vitis")
    estimate = run(*core_only, "estimate", project, "--json", folder=tmp_path, **configuration)
    known = json.loads(
        estimate
    )  # distributed arithmetic is priced from weights, not from a project
    assert known["supported"] or "has no cost law" in known["notes"][0], known
