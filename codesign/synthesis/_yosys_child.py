"""Run Yosys' Xilinx flow on one folder of Verilog, in a process of its own.

Executed as a script by `open_flow.synthesize_verilog` (a Yosys error ends the whole process, and its
log goes to the process' stdout).  Reads one JSON file: `sources` (names relative to `folder`), `top`,
`family`, `folder`, `stat_path`, `log_path`.  All names were checked by the caller.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Synthesise the job described by the file named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    log = os.open(job["log_path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["folder"])
    from pyosys import libyosys

    design = libyosys.Design()
    libyosys.run_pass("read_verilog -sv -defer " + " ".join(job["sources"]), design)
    libyosys.run_pass(
        f"synth_xilinx -family {job['family']} -top {job['top']} -flatten -noiopad -noclkbuf",
        design,
    )
    libyosys.run_pass(f"tee -q -o {job['stat_path']} stat -json -tech xilinx", design)


if __name__ == "__main__":
    main()
