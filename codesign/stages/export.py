"""Stage "export": write the winner in every form, prove the forms equal, synthesise its RTL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.export.bundle import ExportResult, export_candidate
from codesign.export.rtl import solve_network
from codesign.ir import QuantizedNetwork
from codesign.results import Choice, ComparisonFacts, Export, ExportFacts, Results, Synthesized
from codesign.stages.setting import Setting, at_tool_stage, costs_of
from codesign.synthesis.open_flow import synthesize_verilog
from codesign.training.judge import merit_of
from codesign.validate.certificate import certify
from hw_models.units import cycles_to_ns

KEYS = ("export",)
#: Longest synthesis of one design.
_TIMEOUT_S = 1800.0


def run(setting: Setting, earlier: Results) -> Export:
    """Export and prove the winner."""
    found = export_design(setting, earlier.require(Choice).winner)
    setting.reporter.message(found.verdict)
    return Export(design=found)


def export_design(
    setting: Setting, digest: str, *, backends: Sequence[str] | None = None
) -> ExportFacts:
    """Export and prove one trained candidate of a study; synthesise its RTL where there is one.

    Args:
        setting: the study's setting.
        digest: the candidate.
        backends: hls4ml back ends; default those of the study.

    Raises:
        MismatchError: two implementations differ in one word; the message says where.
    """
    study, options = setting.study, setting.study.config.export
    network = QuantizedNetwork.load(study.weights_file(digest))
    arrays = setting.arrays()
    words = network.input_words(arrays.x_test)
    is_rtl = options.rtl and network.candidate.hardware.flow == "rtl"
    folder = study.firmware_folder(digest)
    steps = [0]
    with setting.reporter.stage(
        "exporting and comparing bit for bit", 16.0 if is_rtl else 12.0
    ) as stage:

        def say(line: str) -> None:
            steps[0] += 1
            stage.update(float(steps[0]), line)

        exported = export_candidate(
            network,
            folder,
            scaling=setting.scaling.to_json(),
            vectors=words,
            backends=options.backends if backends is None else backends,
            with_rtl=is_rtl,
            progress=say,
            study=study.config.name,
        )
        certificate = certify(
            exported,
            test_words=words,
            inputs=np.concatenate([arrays.x_train, arrays.x_test]),
            seed=study.config.seed,
            progress=say,
        )
    for name, reason in exported.skipped.items():
        setting.reporter.message(f"not exported: {name}: {reason}")
    emulated: dict[str, float] = {}
    emulated_score = None
    if certificate.latency_cycles is not None:
        cycles = certificate.latency_cycles
        period_ns = network.candidate.hardware.clock_period_ns
        emulated = {
            "latency_cycles": float(cycles),
            "latency_ns": float(cycles_to_ns(cycles, period_ns)),
            "interval_cycles": 1.0,  # the emulation took one vector every cycle, and every word was right
        }
        # the words that the RTL gave: the certificate found them equal to these
        emulated_score = merit_of(
            network, arrays, arrays.x_test, arrays.y_test, weights=arrays.weights_test, is_test=True
        )
    return ExportFacts(
        folder=str(folder.relative_to(study.folder)),
        verdict=certificate.verdict,
        comparisons={
            c.name: ComparisonFacts(
                mismatches=c.mismatches,
                vectors=sum(c.vectors.values()),
                status=c.status + (f": {c.note}" if c.note else ""),
            )
            for c in certificate.comparisons
        },
        input_audit=dict(certificate.input_audit),
        emulated=emulated,
        emulated_score=emulated_score,
        synthesized=_synthesize(setting, network, exported)
        if is_rtl and options.open_synthesis
        else None,
        skipped=dict(exported.skipped),
    )


def _synthesize(setting: Setting, network: QuantizedNetwork, exported: ExportResult) -> Synthesized:
    """Count the cells of exported RTL with Yosys, beside what was predicted of this very tool stage."""
    with setting.reporter.stage("open synthesis of the RTL (Yosys)", 1.0):
        found = synthesize_verilog(exported.rtl_sources, exported.name, timeout_s=_TIMEOUT_S)
    # Yosys counts LUTs before placement: compare it with the estimate of that tool stage
    scorer = at_tool_stage(setting, "vsynth")
    expected = costs_of(scorer.score_quantized([network], solve=solve_network), 0)
    return Synthesized(
        tool="yosys",
        lut=found.lut,
        ff=found.ff,
        dsp=found.dsp,
        bram_18k=found.bram_18k,
        predicted={name: expected[name] for name in ("lut", "ff")},
    )
