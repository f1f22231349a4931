"""`rtl:FOLDER?gaps=7`: the exported Verilog, Verilated and driven clock by clock.

The library is built once per content of the folder, in the user's cache: an export is sealed by its
certificate and must not change.

Latency and interval are measured when the device is loaded and must equal what `rtl.json` states.  With
`gaps`, up to so many idle cycles with random words follow each event.
"""

from __future__ import annotations

from dataclasses import replace

from codesign.errors import DesignError
from codesign.export.plan import ProjectPlan
from codesign.export.rtl import RtlExport
from codesign.tools import cache_folder
from codesign.validate.faults import DeviceFault
from codesign.validate.forms import verilog_form
from codesign.validate.implementation import Form, InProcess
from codesign.validate.url import DEVICES, DeviceContext, DeviceUrl


def open_rtl(url: DeviceUrl, context: DeviceContext) -> InProcess:
    """Create the device; without a path, the candidate's `rtl/verilog` folder."""
    url.check_options("gaps")
    text = url.options.get("gaps", "0")
    if not text.isdigit() or int(text) > 1000:
        raise DesignError(f"device URL {url.text!r}: gaps must be 0 to 1000 cycles, got {text!r}")
    folder = context.locate(url, "rtl/verilog")

    def open() -> Form:
        plan = ProjectPlan.read(folder)
        export = RtlExport.read(plan, str(folder))
        form = verilog_form(export, cache_folder() / "rtl" / plan.digest, max_gap_cycles=int(text))
        assert form.timing is not None, "Verilog is clocked"
        try:
            measured = form.timing()
        except DeviceFault:
            form.close()
            raise
        return replace(form, timing=lambda: measured)

    return InProcess(open, expected_digest=context.expected_digest)


DEVICES.add("rtl", open_rtl)
