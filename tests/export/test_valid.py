"""`<name>_valid`: valid marks exactly the answers to what came with valid, and reset forgets what is on its way."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.export.plan import ProjectPlan
from codesign.export.rtl import RtlExport, export_rtl, pack_hex, unpack_hex
from codesign.export.shared_rtl import export_shared_rtl
from codesign.ir import QuantizedNetwork
from codesign.layers import run_words
from codesign.validate.rtl_emulation import build_library
from tests.export.random_networks import random_network, random_words
from tests.export.test_shared_rtl import network as deep_set

_DRIVER = """
#include "V{name}_valid.h"
#include <cstdio>
extern "C" void drive() {{
    V{name}_valid top;
    unsigned rst, valid;
    unsigned long long x;
    std::FILE *in = std::fopen("stimulus.txt", "r"), *out = std::fopen("result.txt", "w");
    top.clk = 0; top.eval();
    while (std::fscanf(in, "%u %u %llx", &rst, &valid, &x) == 3) {{
        top.rst = rst; top.x_valid = valid; top.x = x; top.eval();
        top.clk = 1; top.eval(); top.clk = 0; top.eval();
        std::fprintf(out, "%u %llx\\n", unsigned(top.y_valid), (unsigned long long)top.y);
    }}
    std::fclose(in); std::fclose(out);
}}
"""
_BENCH = """
module bench;
    reg clk = 0, rst, x_valid;
    reg [63:0] x;
    wire y_valid;
    wire [{out}:0] y;
    integer file, got;
    {name}_valid dut (.clk(clk), .rst(rst), .x_valid(x_valid), .x(x[{inp}:0]), .y_valid(y_valid), .y(y));
    initial begin
        file = $fopen("stimulus.txt", "r");
        got = $fscanf(file, "%b %b %h", rst, x_valid, x);
        while (got == 3) begin
            #1 clk = 1;
            #1 clk = 0;
            $display("%b %h", y_valid, y);
            got = $fscanf(file, "%b %b %h", rst, x_valid, x);
        end
        $finish;
    end
endmodule
"""
_VHDL_BENCH = """
library ieee; use ieee.std_logic_1164.all; use std.textio.all;
entity bench is end entity;
architecture test of bench is
    signal clk : std_logic := '0';
    signal rst, x_valid, y_valid : std_logic := '0';
    signal x : std_logic_vector({inp} downto 0) := (others => '0');
    signal y : std_logic_vector({out} downto 0);
begin
    dut : entity work.{name}_valid port map (clk, rst, x_valid, x, y_valid, y);
    process
        file stimulus : text open read_mode is "stimulus.txt";
        file result : text open write_mode is "result.txt";
        variable row : line;
        variable bits : bit_vector(0 to 1);
        variable one : bit;
        variable wide : std_logic_vector(63 downto 0);
    begin
        while not endfile(stimulus) loop
            readline(stimulus, row);
            read(row, one); rst <= to_stdulogic(one);
            read(row, one); x_valid <= to_stdulogic(one);
            hread(row, wide); x <= wide(x'range);
            wait for 1 ns; clk <= '1'; wait for 1 ns; clk <= '0'; wait for 1 ns;
            write(row, to_bit(y_valid)); write(row, ' ');
            wide := (others => '0'); wide(y'range) := y;
            hwrite(row, wide); writeline(result, row);
        end loop;
        wait;
    end process;
end architecture;
"""


def _verilator(export: RtlExport, folder: Path, spans: dict[str, object]) -> str:
    driver = ProjectPlan(files={"driver.cc": _DRIVER.format(**spans).encode()})
    library, module = folder / "built/driver.so", f"{export.name}_valid"
    build_library(
        replace(export, plan=export.plan.merged(driver)), folder / "built", library, module=module,
        sources=(f"src/{module}.v",), harness="driver.cc", optimize=False,
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1]).drive()", library],
        cwd=folder,
        check=True,
    )
    return (folder / "result.txt").read_text()


def _iverilog(export: RtlExport, folder: Path, spans: dict[str, object]) -> str:
    (folder / "bench.v").write_text(_BENCH.format(**spans))
    sources = [*export.sources, f"src/{export.name}_valid.v", "bench.v"]
    subprocess.run(
        ["iverilog", "-g2012", "-s", "bench", "-o", "bench", *sources], cwd=folder, check=True
    )
    return subprocess.run(
        ["vvp", "bench"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def _ghdl(export: RtlExport, folder: Path, spans: dict[str, object]) -> str:
    (folder / "bench.vhd").write_text(_VHDL_BENCH.format(**spans))
    sources = [*export.sources, f"src/{export.name}_valid.vhd", "bench.vhd"]
    for step in (["-a", "--std=08", *sources], ["-e", "--std=08", "bench"], ["-r", "--std=08", "bench"]):  # fmt: skip
        subprocess.run(["ghdl", *step], cwd=folder, check=True, capture_output=True)
    return (folder / "result.txt").read_text()


def _told(answer: str, form: str) -> tuple[np.ndarray, list[str]]:
    """Return what the port said of valid after each edge, and of y, as digits."""
    rows = [line.split() for line in answer.splitlines() if len(line.split()) == 2]
    return np.array([row[0] == "1" for row in rows]), [row[1] for row in rows]


def _narrow(interval: int) -> QuantizedNetwork:
    """Return a network whose ports fit into 64 bits."""
    if interval > 1:
        return deep_set(particles=4)
    return next(
        n
        for n in (random_network(s, strategies=("distributed_arithmetic",)) for s in range(8, 30))
        if max(n.input_format.bits * run_width(n)[0], n.output_format.bits * run_width(n)[1]) <= 64
    )


def run_width(network: QuantizedNetwork) -> tuple[int, int]:
    words = random_words(network, 1)
    return words.shape[1], np.asarray(run_words(network, words)).shape[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "flavor", "interval"),
    [
        pytest.param(_verilator, "verilog", 1, id="verilator"),
        pytest.param(_verilator, "verilog", 2, id="verilator-turns"),
        pytest.param(
            _iverilog, "verilog", 1, id="iverilog",
            marks=pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed"),
        ),
        pytest.param(
            _ghdl, "vhdl", 1, id="ghdl",
            marks=pytest.mark.skipif(shutil.which("ghdl") is None, reason="ghdl is not installed"),
        ),
    ],
)  # fmt: skip
def test_valid_marks_the_answers_and_reset_forgets(run, flavor, interval, tmp_path):
    network = _narrow(interval)
    export = (
        export_rtl(network, flavor=flavor)
        if interval == 1
        else export_shared_rtl(network, interval)
    )
    export.plan.write(tmp_path)
    n_in, n_out = run_width(network)
    n, latency = 400, export.latency_cycles
    rng = np.random.default_rng(0)
    words = random_words(network, n)
    valid = rng.random(n) < 0.5
    if interval > 1:  # events at the earliest after so many cycles
        for i in range(1, n):
            valid[i] &= not valid[max(0, i - interval + 1) : i].any()
    reset = np.zeros(n, dtype=bool)
    reset[:3] = reset[200:203] = True  # at the start, and with answers on their way
    digits = pack_hex(words, network.input_format.bits).split()
    lines = [
        f"{int(r)} {int(v)} {x.zfill(16)}\n" for r, v, x in zip(reset, valid, digits, strict=True)
    ]
    (tmp_path / "stimulus.txt").write_text("".join(lines))
    spans = {
        "name": export.name,
        "inp": n_in * network.input_format.bits - 1,
        "out": n_out * network.output_format.bits - 1,
    }
    told, y = _told(run(export, tmp_path, spans), flavor)
    # an answer is valid unless a reset came with its question or after it
    expected = np.zeros(n, dtype=bool)
    for i in np.flatnonzero(valid[: n - latency]):
        expected[i + latency] = not reset[i : i + latency + 1].any()
    assert np.array_equal(told, expected)
    assert 20 < expected.sum() < valid.sum()
    answers = unpack_hex(
        "\n".join(y[i] for i in np.flatnonzero(told)), n_out, network.output_format
    )
    asked = words[np.flatnonzero(told) - latency]
    assert np.array_equal(answers, np.asarray(run_words(network, asked)))


@pytest.mark.parametrize("flavor", ["verilog", "vhdl"])
def test_scripts_build_the_module_with_valid_when_asked(flavor):
    files = export_rtl(random_network(8), flavor=flavor).plan.files
    source = f"src/codesign_nn_valid.{'v' if flavor == 'verilog' else 'vhd'}"
    assert source in files
    for script in ("vivado.tcl", "quartus.tcl"):
        text = files[script].decode()
        assert source in text and '"codesign_nn_valid"' in text
