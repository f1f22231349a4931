"""The testbench that vendors' simulators run passes on the project, and fails on anything else."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from codesign.export.hls4ml import export_hls4ml
from codesign.export.rtl import export_rtl
from codesign.layers import run_words
from tests.export.random_networks import random_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = random_network(3, max_width=4, n_blocks=1, strategies=("latency",))
    words = network.input_type.draw(np.random.default_rng(0), 20).reshape(20, -1)
    golden = (words, np.asarray(run_words(network, words)))
    folder = tmp_path_factory.mktemp("project") / "hls"
    export_hls4ml(network, name="tau_v1", golden=golden).plan.write(folder)
    return folder


def _bench(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", "-f", "codesign.mk", "csim_gcc"], cwd=project, text=True, capture_output=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_bench_fails_on_one_wrong_word_and_on_firmware_that_answers_zero(project: Path) -> None:
    done = _bench(project)
    assert done.returncode == 0 and "PASS: 20 vectors" in done.stdout, done.stderr
    golden = project / "golden_words.txt"
    kept = golden.read_text()
    lines = kept.splitlines()
    first, *rest = lines[7].split()
    lines[7] = " ".join([str(int(first) + 1), *rest])
    golden.write_text("\n".join(lines) + "\n")
    done = _bench(project)
    assert done.returncode != 0 and "FAIL: vector 7, output 0" in done.stderr
    golden.write_text("\n".join(kept.splitlines()[:-1]) + "\n")
    assert _bench(project).returncode != 0  # a vector without an answer
    golden.write_text(kept)
    assert _bench(project).returncode == 0
    source = project / "firmware" / "tau_v1.cpp"
    text = source.read_text()
    ends = text.rindex("}")
    output = text[text.index("result_t ") + len("result_t ") :].split("[")[0]
    source.write_text(f"{text[:ends]}    {output}[0] = 0;\n{text[ends:]}")
    (project / "csim_gcc.exe").unlink()
    assert any(int(line.split()[0]) for line in kept.splitlines())
    assert _bench(project).returncode != 0


def test_the_vendors_scripts_run_that_bench_and_keep_their_clock(project: Path) -> None:
    script = (project / "codesign_hls.tcl").read_text()
    assert (
        "add_files -tb codesign_csim.cpp" in script and "add_files -tb golden_words.txt" in script
    )
    assert "tau_v1_test.cpp" not in script
    assert "vitis-run --mode hls --tcl" in (project / "codesign.mk").read_text()
    for text in (
        (project / "codesign_implement.tcl").read_text(),
        export_rtl(random_network(1), name="tau_v1").plan.files["vivado.tcl"].decode(),
    ):  # constraints read for out-of-context runs alone would leave a top-level run without a clock
        assert "read_xdc -mode" not in text and "read_xdc" in text
