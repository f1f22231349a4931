"""Reports of tools that codesign knows by name and does not read: better named than passed over."""

import re
from collections.abc import Callable

#: What each kind of file is, its name, and, where the name alone does not tell, what its first lines hold.
_FOREIGN = (
    (
        "a FINN report",
        re.compile(
            r"estimate_layer_\w+\.json|estimate_network_performance\.json|op_and_param_counts\.json|"
            r"rtlsim_performance\.json|post_synth_resources\.(?:json|xml)|ooc_synth_and_timing\.json"
        ),
        None,
    ),
    (
        "a Catapult report",
        re.compile(r"(?:rtl|cycle|concat_rtl|power|messages)\.rpt"),
        re.compile(r"Catapult"),
    ),
    (
        "a Quartus compilation report",
        re.compile(r".+\.(?:fit|map|syn|sta|flow|asm)\.(?:rpt|summary)"),
        None,
    ),
    (
        "a Libero report",
        re.compile(r".+_(?:compile_netlist_resources|place_and_route)\w*\.(?:xml|rpt)"),
        None,
    ),
)


def foreign_reason(name: str, head: Callable[[], str]) -> str | None:
    """Say what another tool's file is and why it is left out; None for a file of no such tool.

    Args:
        name: the file's name.
        head: returns its first lines; asked only when the name fits.
    """
    for what, pattern, content in _FOREIGN:
        if pattern.fullmatch(name) and (content is None or content.search(head())):
            return (
                f"{what}, which is not supported: codesign calibrates on reports of Vivado HLS, Vitis HLS, Vivado "
                "and Intel's HLS compilers, and on hls4ml's JSON; leave the file out"
            )
    return None
