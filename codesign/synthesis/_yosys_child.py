"""Run Yosys passes in one folder, in a process of its own.

Executed as a script by `open_flow.run_yosys` (a Yosys error ends the whole process, and its log goes
to the process' stdout).  Reads one JSON file: `passes`, `folder`, `log_path`.  All names in the passes
were checked by the caller.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the job described by the file named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    log = os.open(job["log_path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["folder"])
    from pyosys import libyosys

    design = libyosys.Design()
    for command in job["passes"]:
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    main()
