"""A stand-in for vitis_hls, vitis-run and vivado: reads our Tcl, writes reports, does no work.

Usage: stand_in_tool.py <program> <its arguments>.  A top named `crash` fails, one named `silent` writes
nothing, one named `sleepy` never ends.
"""

import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import report_factory as factory


def main() -> None:
    program, arguments = sys.argv[1], sys.argv[2:]
    script = Path(next(a for a in reversed(arguments) if a.endswith(".tcl"))).read_text()
    if program == "vitis-run":
        assert arguments[:3] == ["--mode", "hls", "--tcl"]
    top = re.search(r"(?:set_top|-top) (\w+)", script)[1]
    part = re.search(r"(?:set_part|-part) (\S+)", script)[1]
    clock = re.search(r"create_clock -period (\S+)", script)[1]
    if top == "crash":
        sys.exit("ERROR: [HLS 200-70] '/x/crash.cpp' failed")
    if top == "silent":
        return
    if top == "sleepy":
        time.sleep(600)
    numbers = {"top": top, "part": part, "clock": clock}
    if program == "vivado":
        assert re.search(r"set sources .*glob", script)
        Path("vivado_synth.rpt").write_text(
            factory.fill(factory.UTILIZATION_RPT, lut=4321, **numbers)
        )
        Path("vivado_synth_timing.rpt").write_text(
            factory.fill(factory.TIMING_RPT, wns=0.7, **numbers)
        )
        if "route_design" in script:
            Path("vivado_impl_utilization.rpt").write_text(
                factory.fill(factory.UTILIZATION_RPT, state="Routed", lut=4000, **numbers)
            )
            Path("vivado_impl_timing.rpt").write_text(
                factory.fill(factory.TIMING_RPT, wns=-0.25, **numbers)
            )
        return
    assert Path(f"firmware/{top}.cpp").is_file()
    report = Path(f"{top}_prj/solution1/syn/report")
    report.mkdir(parents=True)
    (report / f"{top}_csynth.xml").write_text(factory.fill(factory.CSYNTH_XML, **numbers))
    (report / f"{top}_csynth.rpt").write_text(factory.fill(factory.CSYNTH_RPT, **numbers))
    if "cosim_design" in script:
        report = Path(f"{top}_prj/solution1/sim/report")
        report.mkdir(parents=True)
        (report / f"{top}_cosim.rpt").write_text(factory.fill(factory.COSIM_RPT, **numbers))


main()
