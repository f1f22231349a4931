"""What AMD's HLS back ends share: the scripts of `hls_templates/amd_hls`."""

from collections.abc import Mapping
from typing import Any

from codesign.export.templates import render

#: Rendered file by template.
TEMPLATES: Mapping[str, str] = {
    "amd_hls/hls.tcl.j2": "codesign_hls.tcl",
    "amd_hls/implement.tcl.j2": "codesign_implement.tcl",
    "amd_hls/constraints.xdc.j2": "codesign.xdc",
    "amd_hls/codesign.mk.j2": "codesign.mk",
    "amd_hls/csim.cpp.j2": "codesign_csim.cpp",
}


def amd_scripts(
    context: Mapping[str, Any],
    *,
    tool: str,
    clock_uncertainty: str,
    top: str,
    design_files: tuple[str, ...],
) -> dict[str, bytes]:
    """Render the scripts of a project for `vitis_hls` or `vivado_hls`."""
    # a top that speaks AXI is played by hls4ml's own testbench, which does not compare
    bench = "codesign_csim.cpp" if top == context["name"] else f"{context['name']}_test.cpp"
    return {
        output: render(
            template,
            **context,
            tool=tool,
            clock_uncertainty=clock_uncertainty,
            top=top,
            bench=bench,
            design_files=design_files,
        )
        for template, output in TEMPLATES.items()
    }
