"""Small synthesis reports in the layouts of real tools, written from numbers by the tests themselves.

Run as a script it is the stand-in for `vitis_hls` and `vivado`: see `stand_in`.
"""

from pathlib import Path

CSYNTH_XML = """<?xml version="1.0" encoding="utf-8"?>
<profile>
<ReportVersion><Version>{version}</Version></ReportVersion>
<UserAssignments><unit>ns</unit><ProductFamily>virtexuplus</ProductFamily><Part>{part}</Part>
<TopModelName>{top}</TopModelName><TargetClockPeriod>{clock}</TargetClockPeriod>
<ClockUncertainty>1.35</ClockUncertainty>{flow}</UserAssignments>
<PerformanceEstimates><PipelineType>yes</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>3.6</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>{latency}</Best-caseLatency>
<Worst-caseLatency>{latency}</Worst-caseLatency><Interval-min>{interval}</Interval-min>
<Interval-max>{interval}</Interval-max></SummaryOfOverallLatency></PerformanceEstimates>
<AreaEstimates><Resources><BRAM_18K>{bram}</BRAM_18K><{dsp_name}>{dsp}</{dsp_name}><FF>{ff}</FF><LUT>{lut}</LUT></Resources>
<AvailableResources><BRAM_18K>5376</BRAM_18K></AvailableResources></AreaEstimates>
</profile>
"""

_BAR = "=" * 64

CSYNTH_RPT = """

{bar}
== {tool} HLS Report for '{top}'
{bar}
* Date:           Tue Jan 28 04:09:09 2025

* Version:        {version} (Build 1 on Oct 13 2022)
* Project:        {top}_prj
* Solution:       solution1
* Product family: virtexuplus
* Target device:  {part}


{bar}
== Performance Estimates
{bar}
+ Timing{old_unit}:
    * Summary:
    +--------+---------+----------+------------+
    |  Clock |  Target | Estimated| Uncertainty|
    +--------+---------+----------+------------+
    |ap_clk  |  {clock}{unit}|  3.60{unit}|     1.35{unit}|
    +--------+---------+----------+------------+

+ Latency:
    * Summary:
    +---------+---------+-----------+-----------+-----+-----+---------+
    |  Latency (cycles) |   Latency (absolute)  |  Interval | Pipeline|
    |   min   |   max   |    min    |    max    | min | max |   Type  |
    +---------+---------+-----------+-----------+-----+-----+---------+
    |{latency:9}|{latency:9}|  75.000 ns|  75.000 ns|{interval:5}|{interval:5}|      yes|
    +---------+---------+-----------+-----------+-----+-----+---------+

    + Detail:
        * Instance:
        +----------+----------------------------+----+----+----------+----------+----+----+-----+
        | Instance |           Module           | min| max|    min   |    max   | min| max| Type|
        +----------+----------------------------+----+----+----------+----------+----+----+-----+
        |grp_a     |dense_latency_{config}_s    |   1|   1|  5.000 ns|  5.000 ns|   1|   1|  yes|
        +----------+----------------------------+----+----+----------+----------+----+----+-----+

        * Loop:
        N/A



{bar}
== Utilization Estimates
{bar}
* Summary:
+-----------------+---------+-----+--------+-------+-----+
|       Name      | BRAM_18K|{dsp_name:5}|   FF   |  LUT  | URAM|
+-----------------+---------+-----+--------+-------+-----+
|DSP              |        -|    -|       -|      -|    -|
|Instance         |{bram:9}|{dsp:5}|{ff:8}|{lut:7}|    0|
+-----------------+---------+-----+--------+-------+-----+
|Total            |{bram:9}|{dsp:5}|{ff:8}|{lut:7}|    0|
+-----------------+---------+-----+--------+-------+-----+
|Utilization (%)  |   ~0    |    1|   ~0   |      1|    0|
+-----------------+---------+-----+--------+-------+-----+

+ Detail:
    * Instance:
    +----------+----------------------------+---------+----+------+------+-----+
    | Instance |           Module           | BRAM_18K| DSP|  FF  |  LUT | URAM|
    +----------+----------------------------+---------+----+------+------+-----+
    |grp_a     |dense_latency_{config}_s    |        0|   3|    40|   120|    0|
    +----------+----------------------------+---------+----+------+------+-----+

    * DSP:
    N/A
"""

UTILIZATION_RPT = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved.
---------------------------------------------------------------
| Tool Version : Vivado v.{version} (lin64) Build 1
| Date         : Sun Mar 19 07:48:36 2023
| Command      : report_utilization -file x.rpt
| Design       : {top}
| Device       : {part}
| Design State : {state}
---------------------------------------------------------------

Utilization Design Information

1. {prefix} Logic
--------------

+----------------------------+------+-------+-----------+-------+
|          Site Type         | Used | Fixed | Available | Util% |
+----------------------------+------+-------+-----------+-------+
| {prefix} LUTs*                | {lut} |     0 |     53200 |  2.87 |
|   LUT as Logic             | 1478 |     0 |     53200 |  2.78 |
| {prefix} Registers            | {ff} |     0 |    106400 |  2.28 |
+----------------------------+------+-------+-----------+-------+

2. Memory
---------

| Block RAM Tile |  {tiles} |     0 |       140 |  0.00 |

3. DSP
------

| DSPs           |   {dsp} |     0 |       220 | 30.00 |
"""

COSIM_RPT = """Report time       : Tue Dec 19 22:25:46 CST 2017.
Solution          : solution1.
Simulation tool   : xsim.

+----------+----------+-----------------+-----------------+
|          |          |     Latency     |     Interval    |
+   RTL    +  Status  +-----------------+-----------------+
|          |          | min | avg | max | min | avg | max |
+----------+----------+-----------------+-----------------+
|      VHDL|        NA|   NA|   NA|   NA|   NA|   NA|   NA|
|   Verilog|{status:>10}|{latency:5}|{latency:5}|{latency:5}|{interval:5}|{interval:5}|{interval:5}|
+----------+----------+-----------------+-----------------+
"""

TIMING_RPT = """------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)
    -------      -------  ---------------------  -------------------      -------
     {wns:.3f}        0.000                      0                 1234        0.050

------------------------------------------------------------------------------------------------
| Clock Summary
Clock   Waveform(ns)         Period(ns)      Frequency(MHz)
-----   ------------         ----------      --------------
ap_clk  {{0.000 2.500}}        {clock}           200.000
"""

DEFAULTS = {
    "version": "2023.1", "part": "xcvu13p-flga2577-2-e", "top": "myproject", "clock": "5.00", "latency": 15,
    "interval": 1, "bram": 4, "dsp": 66, "ff": 24233, "lut": 11694, "dsp_name": "DSP", "tool": "Vitis",
    "config": "config2", "bar": _BAR, "unit": " ns", "old_unit": "", "flow": "<FlowTarget>vivado</FlowTarget>",
    "state": "Synthesized", "prefix": "CLB", "tiles": "2.5", "status": "Pass", "wns": 0.25,
}  # fmt: skip


def fill(template: str, **numbers: object) -> str:
    """Fill a report template; what is not given comes from `DEFAULTS`."""
    return template.format(**DEFAULTS | numbers)


def old_vivado(**numbers: object) -> dict[str, object]:
    """The particulars of Vivado HLS 2016 to 2020."""
    return {
        "version": "2019.2",
        "tool": "Vivado",
        "dsp_name": "DSP48E",
        "flow": "",
        "unit": "",
        "old_unit": " (ns)",
    } | numbers


PARAMETERS_H = """#ifndef PARAMETERS_H_
#define PARAMETERS_H_
// dense
struct config2 : nnet::dense_config {
    static const unsigned n_in = 3;
    static const unsigned n_out = 2;
    static const unsigned io_type = nnet::io_parallel;
    static const unsigned strategy = nnet::latency;
    static const unsigned reuse_factor = 1;
    static const unsigned n_zeros = 0;
    typedef weight_default_t weight_t;
};

struct relu_config3 : nnet::activ_config {
    static const unsigned n_in = N_LAYER_2;
    static const unsigned table_size = 1024;
};
#endif
"""

DEFINES_H = """#define N_INPUT_1_1 3
#define N_LAYER_2 2
typedef ap_fixed<16,6> input_t;
typedef ap_fixed<8,2> weight_default_t;
typedef ap_fixed<16,6> layer2_t;
typedef ap_ufixed<8,0,AP_RND,AP_SAT> result_t;
"""

TOP_CPP = """#include "myproject.h"
void myproject(input_t input_1[N_INPUT_1_1], result_t layer3_out[N_LAYER_2]) {
    nnet::dense<input_t, layer2_t, config2>(input_1, layer2_out, w2, b2); // dense
    nnet::relu<layer2_t, result_t, relu_config3>(layer2_out, layer3_out); // dense_relu
}
"""

CONFIG_YML = """Backend: Vitis
ClockPeriod: 5
ClockUncertainty: 27%
HLSConfig:
  Model:
    Precision:
      default: ap_fixed<16,6>
    ReuseFactor: 1
    Strategy: Latency
IOType: io_parallel
KerasModel: !keras_model 'x.keras'
OutputDir: out
Part: xcvu13p-flga2577-2-e
ProjectName: myproject
"""

PROJECT_TCL = """variable project_name
set project_name "myproject"
variable backend
set backend "vitis"
variable part
set part "xcvu13p-flga2577-2-e"
variable clock_period
set clock_period 5
"""


def write_project(
    folder: Path, *, weights: str = "0.25, 0, -0.703125, 1.0, 0.015625, -0.5"
) -> Path:
    """Write a minimal hls4ml project: dense 3 -> 2 and a ReLU."""
    (folder / "firmware" / "weights").mkdir(parents=True)
    (folder / "firmware" / "parameters.h").write_text(PARAMETERS_H)
    (folder / "firmware" / "defines.h").write_text(DEFINES_H)
    (folder / "firmware" / "myproject.cpp").write_text(TOP_CPP)
    (folder / "firmware" / "weights" / "w2.txt").write_text(weights)
    (folder / "hls4ml_config.yml").write_text(CONFIG_YML)
    (folder / "project.tcl").write_text(PROJECT_TCL)
    return folder


def write_reports(solution: Path, **numbers: object) -> None:
    """Write the reports of csynth and cosim under an HLS solution folder."""
    (solution / "syn" / "report").mkdir(parents=True, exist_ok=True)
    (solution / "sim" / "report").mkdir(parents=True, exist_ok=True)
    (solution / "syn" / "report" / "myproject_csynth.xml").write_text(fill(CSYNTH_XML, **numbers))
    (solution / "syn" / "report" / "csynth.xml").write_text(fill(CSYNTH_XML, **numbers))
    (solution / "syn" / "report" / "myproject_csynth.rpt").write_text(fill(CSYNTH_RPT, **numbers))
    (solution / "syn" / "report" / "dense_latency_config2_s_csynth.rpt").write_text(
        fill(CSYNTH_RPT, **numbers | {"top": "dense_latency_config2_s", "lut": 120})
    )
    (solution / "sim" / "report" / "myproject_cosim.rpt").write_text(fill(COSIM_RPT, **numbers))


CSYNTH_SUMMARY = """

{bar}
== Synthesis Summary Report of '{top}'
{bar}
+ General Information:
    * Date:           Mon Nov 02 10:00:00 2026
    * Version:        {version} (Build 1 on Nov  8 2024)
    * Project:        {top}_prj
    * Solution:       solution1 (Vivado IP Flow Target)
    * Product family: zynquplus
    * Target device:  {part}


+ Performance & Resource Estimates:

    PS: '+' for module; 'o' for loop; '*' for dataflow
    +----------------+------+------+---------+---------+----------+---------+-------+----------+--------+---------+------------+------------+-----+
    |     Modules    | Issue|      | Latency | Latency | Iteration|         |  Trip |          |        |         |            |            |     |
    |     & Loops    | Type | Slack| (cycles)|   (ns)  |  Latency | Interval| Count | Pipelined|  BRAM  |   DSP   |     FF     |     LUT    | URAM|
    +----------------+------+------+---------+---------+----------+---------+-------+----------+--------+---------+------------+------------+-----+
    |+ {top}*     |     -|  0.24|{latency:9}|{span_ns:9}|         -|{interval:9}|      -|       yes|{bram} (~0%)|{dsp} (1%)|{ff} (~0%)|{lut} (2%)|    -|
    | + inner_network |     -|  0.24|        4|   20.000|         -|        2|      -|       yes|       -|   3 (~0%)|  40 (~0%)|  120 (~0%)|    -|
    |  o Loop         |     -|  0.24|        4|   20.000|         -|        2|      -|       yes|       -|        -|           -|           -|    -|
    +----------------+------+------+---------+---------+----------+---------+-------+----------+--------+---------+------------+------------+-----+
"""

VERSAL_UTILIZATION_RPT = """| Tool Version : Vivado v.2025.1 (lin64) Build 1
| Design       : {top}
| Device       : {part}
| Design State : {state}

1. Netlist Logic
----------------
| Registers                  | {ff} | 34745 |          0 |   5148416 |  4.54 |
|   Register as Flip Flop    | 1 | 34745 |          0 |   5148416 |  4.54 |
| CLB LUTs                   | {lut} | 22905 |          0 |   2574208 |  4.52 |

3. BLOCKRAM
-----------
| Block RAM Tile             |  {tiles} |     0 |       140 |          0 |  0.00 |

4. ARITHMETIC
-------------
| DSP Slices                 |   {dsp} |     0 |       220 |          0 | 30.00 |
"""

SEVERAL_CLOCKS_RPT = """| Design State : {state}
| Design Timing Summary

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)
    -------      -------  ---------------------  -------------------      -------
     -1.500       -9.000                      7                 1234        0.050

Clock Summary
Clock    Waveform(ns)         Period(ns)      Frequency(MHz)
-----    ------------         ----------      --------------
dbg_hub  {{0.000 20.000}}       40.000          25.000
{name}   {{0.000 2.500}}        {clock}           200.000

Intra Clock Table
Clock    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)
-----    -------      -------  ---------------------  -------------------      -------
dbg_hub   -1.500       -9.000                      7                   20        0.050
{name}     {wns:.3f}        0.000                      0                 1214        0.050
"""
DEFAULTS |= {"span_ns": "75.000", "name": "ap_clk"}


def write_trigger_emulator(folder: Path, place: str) -> Path:
    """Write a network as the trigger experiments keep it: sources in `place`, sizes as constants, one file of weights."""
    firmware = folder / place
    firmware.mkdir(parents=True, exist_ok=True)
    header = PARAMETERS_H.replace("struct", "  struct").replace("\n};", "\n  };")
    (firmware / "parameters.h").write_text("namespace net_v1 {\n" + header + "}\n")
    sizes = (
        "static const int N_INPUT_1_1 = 3;\nconstexpr unsigned N_LAYER_2 = N_INPUT_1_1 * 2 / 3;\n"
    )
    kinds = "\n".join(line for line in DEFINES_H.splitlines() if line.startswith("typedef"))
    (firmware / "defines.h").write_text(f"namespace net_v1 {{\n{sizes}{kinds}\n}}\n")
    (firmware / "net_v1.cpp").write_text(f"namespace net_v1 {{\n{TOP_CPP}\n}}\n")
    weights = "0.25, 0, -0.703125, 1.0, 0.015625, -0.5"
    (firmware / "weights.h").write_text(f"weight2_t w2[6] = {{{weights}}};\n")
    return folder
