"""Stage "synthesize": count the cells of every trained RTL design with Yosys, several at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from codesign.errors import CodesignError
from codesign.export.rtl import export_rtl, solve_network
from codesign.ir import QuantizedNetwork
from codesign.results import Results, Synthesis, Synthesized, TrainedDesign, Training
from codesign.stages.setting import Setting, at_tool_stage, costs_of
from codesign.synthesis.open_flow import OpenSynthesisResult, synthesize_verilog

KEYS = ("export.rtl", "export.open_synthesis")
#: Longest synthesis of one design.
_TIMEOUT_S = 900.0
_TOP = "codesign_nn"


def run(setting: Setting, earlier: Results) -> Synthesis:
    """Synthesise the RTL of every finalist of that flow; one that fails is named, not fatal."""
    options, designs = setting.study.config.export, setting.study.designs()
    wanted = [designs[digest] for digest in earlier.require(Training).finalists]
    wanted = [d for d in wanted if d.flow == "rtl"]
    if not (options.rtl and options.open_synthesis):
        wanted = []
    failed = synthesize_designs(setting, wanted)
    for digest, reason in failed.items():
        setting.reporter.message(f"not synthesized: {digest}: {reason}")
    return Synthesis(designs=[d.digest for d in wanted if d.digest not in failed], failed=failed)


def synthesize_designs(setting: Setting, designs: Sequence[TrainedDesign]) -> dict[str, str]:
    """Synthesise designs that are not synthesized yet; what is found goes into the study folder.

    Returns:
        Reason by digest, of those that failed.
    """
    study = setting.study
    missing = [design for design in designs if study.synthesized(design) is None]
    if not missing:
        return {}
    networks = [QuantizedNetwork.load(study.trained(design.digest)) for design in missing]
    # Yosys counts LUTs before placement: compare it with the estimate of that tool stage
    expected = at_tool_stage(setting, "vsynth").score_quantized(networks, solve=solve_network)
    failed: dict[str, str] = {}
    with (
        setting.reporter.stage(
            f"open synthesis of {len(missing)} designs (Yosys)", len(missing)
        ) as stage,
        setting.pool() as pool,
    ):
        futures = [] if pool is None else [pool.submit(_synthesize, n) for n in networks]
        for i, (design, network) in enumerate(zip(missing, networks, strict=True)):
            try:
                cells = futures[i].result() if futures else _synthesize(network)
            except CodesignError as error:
                failed[design.digest] = str(error)
            else:
                costs = costs_of(expected, i)
                study.record_beside(
                    design.digest,
                    Synthesized(
                        network_digest=design.network_digest,
                        seconds=cells.wall_s,
                        tool=f"yosys {cells.tool_version}",
                        lut=cells.lut,
                        ff=cells.ff,
                        dsp=cells.dsp,
                        bram_18k=cells.bram_18k,
                        predicted={name: costs[name] for name in ("lut", "ff")},
                    ),
                )
            stage.update(i + 1)
    return failed


def _synthesize(network: QuantizedNetwork) -> OpenSynthesisResult:
    """Write the very Verilog that an export holds, and synthesise it."""
    rtl = export_rtl(network, name=_TOP, flavor="verilog")
    with tempfile.TemporaryDirectory(prefix="codesign_rtl_") as name:
        rtl.plan.write(Path(name) / "rtl")
        return synthesize_verilog(Path(name) / "rtl" / "src", _TOP, timeout_s=_TIMEOUT_S)
