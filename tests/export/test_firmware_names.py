"""Firmware of two networks, or of two versions of one, links into one design and one program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from codesign.errors import ExportError
from codesign.export.bundle import ExportResult, export_candidate
from codesign.export.emulator import build_emulator
from codesign.export.templates import check_firmware_name, firmware_name_of
from codesign.validate.verilator import verilator_environment
from tests.export.random_networks import random_network


@pytest.mark.parametrize("name", ["signal", "reg", "class", "set", "entity", "and", "while"])
def test_words_of_the_languages_are_refused(name: str) -> None:
    with pytest.raises(ExportError, match=f"'{name}', a word of"):
        check_firmware_name(name)


@pytest.mark.parametrize("name", ["Jets", "1st", "a__b", "a_", "a-b", "", "a" * 41, "a;exit"])
def test_what_is_no_identifier_everywhere_is_refused(name: str) -> None:
    with pytest.raises(ExportError, match="firmware cannot be called"):
        check_firmware_name(name)


@pytest.mark.parametrize(
    ("study", "name"), [("jets-100ns", "jets_100ns"), ("2nd", "n2nd"), ("signal", "signal_nn")]
)
def test_firmware_is_called_after_its_study(study: str, name: str) -> None:
    assert check_firmware_name(firmware_name_of(study)) == name


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[ExportResult]:
    """Two networks with tables, the second also as version 2 of the first."""
    seeds = [s for s in range(40) if _has_table(s)][:2]
    found = []
    for seed, name, version in (
        (seeds[0], "jets", 1),
        (seeds[1], "taus", 1),
        (seeds[1], "jets", 2),
    ):
        network = random_network(seed, strategies=("distributed_arithmetic",))
        words = network.input_type.min_words.reshape(1, -1).repeat(4, axis=0)
        folder = tmp_path_factory.mktemp("export") / f"{name}_{version}"
        found.append(
            export_candidate(
                network,
                folder,
                scaling={},
                vectors=words,
                backends=(),
                name=name,
                emulator_version=version,
            )  # fmt: skip
        )
    return found


def _has_table(seed: int) -> bool:
    network = random_network(seed, strategies=("distributed_arithmetic",))
    is_rtl = network.candidate.hardware.flow == "rtl"
    return is_rtl and any(n.layer in ("tanh", "sigmoid") for n in network.network.nodes)


def _sources(exports: list[ExportResult], flavor: str) -> list[str]:
    return [
        str(e.folder / "rtl" / flavor / name) for e in exports for name in e.rtl[flavor].sources
    ]


def test_no_module_is_defined_twice(exports: list[ExportResult]) -> None:
    for flavor, pattern in (
        ("verilog", r"^\s*module\s+(\w+)"),
        ("vhdl", r"^\s*entity\s+(\w+)\s+is"),
    ):
        names = [
            name
            for path in _sources(exports, flavor)
            for name in re.findall(pattern, Path(path).read_text(), re.MULTILINE)
        ]
        assert len(names) == len(set(names)) > 10
        assert all(name.startswith(("jets_v1", "taus_v1", "jets_v2")) for name in names)


def test_all_fit_into_one_verilator_design(exports: list[ExportResult], tmp_path: Path) -> None:
    (tmp_path / "both.v").write_text(_top(exports))
    environment = verilator_environment()
    command = ["verilator", "--lint-only", "-Wno-fatal", "--top-module", "both", "both.v"]
    done = subprocess.run(
        [*command, *_sources(exports, "verilog")], cwd=tmp_path, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "MODDUP" not in done.stderr


def _top(exports: list[ExportResult]) -> str:
    lines, ports = [], []
    for e in exports:
        name = e.rtl["verilog"].name
        text = (e.folder / f"rtl/verilog/src/{name}.v").read_text()
        declared = re.findall(
            r"(input|output)\s+(?:wire|reg)?\s*(\[[^\]]+\])?\s*(\w+)", text.split(");")[0]
        )
        joined = []
        for direction, span, port in declared:
            if port == "clk":
                joined.append(".clk(clk)")
                continue
            ports.append(f"{direction} wire {span} {name}_{port}")
            joined.append(f".{port}({name}_{port})")
        lines.append(f"    {name} u_{name} ({', '.join(joined)});")
    return "\n".join(
        ["module both (input wire clk, " + ", ".join(ports) + ");", *lines, "endmodule", ""]
    )


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_all_fit_into_one_iverilog_design(exports: list[ExportResult], tmp_path: Path) -> None:
    (tmp_path / "both.v").write_text(_top(exports))
    done = subprocess.run(
        ["iverilog", "-g2012", "-s", "both", "-o", "both", "both.v", *_sources(exports, "verilog")],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_all_link_into_one_program(exports: list[ExportResult], tmp_path: Path) -> None:
    lines, libraries, calls = [], [], []
    for e in exports:
        prefix = f"{e.name}_v{e.emulator_version}"
        folder = e.folder / "emulator"
        libraries.append(str(build_emulator(folder)))
        lines.append(f'#include "{folder / prefix}.h"')
        calls.append(f"    total += {prefix.upper()}_N_INPUTS + ({prefix}_run != nullptr);")
    source = "\n".join(
        [*lines, "int main() {", "    int total = 0;", *calls, "    return total > 0 ? 0 : 1;", "}"]
    )
    (tmp_path / "main.cpp").write_text(source + "\n")
    subprocess.run(
        ["g++", "-std=c++17", "main.cpp", *libraries, "-o", "main"], cwd=tmp_path, check=True
    )
    paths = ":".join(str(Path(library).parent) for library in libraries)
    subprocess.run(["./main"], cwd=tmp_path, env={"LD_LIBRARY_PATH": paths}, check=True)
