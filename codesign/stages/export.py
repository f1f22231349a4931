"""Stage "export": write the winner in every form, prove the forms equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.errors import ConfigError, DesignError, StudyError
from codesign.export.bundle import export_candidate
from codesign.export.templates import firmware_name_of
from codesign.front import Limits, designs_of, pick
from codesign.ir import QuantizedNetwork
from codesign.layers.trigger import with_trigger
from codesign.results import Choice, Export, Exported, Results, TriggerFacts
from codesign.stages.curves import curves_of, rate_metric, trigger_of
from codesign.stages.setting import Setting
from codesign.stages.statistics import judge_test
from codesign.stages.synthesize import synthesize_designs
from codesign.stages.train import train_on_demand
from codesign.study import Study
from codesign.tasks import TaskData
from codesign.training.judge import judge_outputs, output_values
from codesign.validate.certificate import certify, facts_of
from hw_models.units import cycles_to_ns

KEYS = (
    "export.backends",
    "export.rtl",
    "export.trigger_bit",
    "export.name",
    "export.version",
    "export.onnx_opset",
)


def run(setting: Setting, earlier: Results) -> Export:
    """Export and prove the winner."""
    winner = earlier.require(Choice).winner
    setting.reporter.message(export_design(setting, winner).verdict)
    return Export(digest=winner)


def export_design(
    setting: Setting,
    digest: str,
    *,
    backends: Sequence[str] | None = None,
    name: str | None = None,
    version: int | None = None,
    onnx_opset: int | None = None,
    later: Sequence[str] = (),
) -> Exported:
    """Export and prove one trained candidate of a study.

    Args:
        setting: the study's setting.
        digest: the candidate.
        backends: hls4ml back ends; default those of the study.
        name, version: of the firmware; default those of the study.
        onnx_opset: operator set of the ONNX files; default that of the study.
        later: forms that are not proved now, beside those that the study names.

    Raises:
        MismatchError: two implementations differ in one word; the message says where.
    """
    study, options = setting.study, setting.study.config.export
    trained = QuantizedNetwork.load(study.weights_file(digest))
    arrays = setting.arrays()
    scores = output_values(trained, arrays.x_test)
    trigger = trigger_of(trained, arrays, scores)
    network = trained
    if options.trigger_bit:
        require_rate(setting.task)
        assert trigger is not None, "a metric at a rate sets a threshold"
        require_reachable(trained, trigger)
        network = with_trigger(trained, trigger.threshold_word)
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
            name=name or options.name or firmware_name_of(study.config.name),
            emulator_version=options.version if version is None else version,
            onnx_opset=onnx_opset or options.onnx_opset,
            heads=setting.task.target.statement(),
            integer_ports=setting.scaling.integer_ports,
        )
        certificate = certify(
            exported,
            test_words=words,
            inputs=np.concatenate([arrays.x_train, arrays.x_test]),
            seed=study.config.seed,
            later=sorted({*options.later, *later}),
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
            # the emulation took a vector every so many cycles, and every word was right
            "interval_cycles": float(network.candidate.hardware.interval_cycles),
        }
    if any(c.name == "rtl" and c.status == "equal" for c in certificate.comparisons):
        # the words that the RTL gave: the certificate found them equal to these
        outputs = output_values(network, arrays.x_test) if options.trigger_bit else scores
        judged = judge_outputs(outputs, arrays)
        emulated_score = judge_test(arrays, judged).value
    found = Exported(
        curves=curves_of(arrays, scores),
        trigger=trigger,
        network_digest=trained.digest,
        folder=str(folder.relative_to(study.folder)),
        verdict=certificate.verdict,
        comparisons=facts_of(certificate),
        input_audit=dict(certificate.input_audit),
        emulated=emulated,
        emulated_score=emulated_score,
        skipped=dict(exported.skipped),
    )
    study.record_beside(digest, found)
    return found


def require_rate(task: TaskData) -> None:
    """Check that a trigger bit has a threshold.

    Raises:
        ConfigError: the task's network has other outputs than one score, or no rate sets a threshold on it.
    """
    if task.n_outputs != 1 or rate_metric(task.target, task.events) is None:
        raise ConfigError(
            f"export.trigger_bit: task {task.name} sets no threshold: expected one output, judged by efficiency_at_rate or"
            " tpr_at_fpr (judged_by, or the metric of a binary head); name such a metric, or leave trigger_bit out"
        )


def require_reachable(network: QuantizedNetwork, trigger: TriggerFacts) -> None:
    """Check that some word of the score reaches the threshold.

    Raises:
        DesignError: even the largest word is too frequent for the rate: the score saturates.
    """
    largest = network.output_format.max_word
    if trigger.threshold_word > largest:
        raise DesignError(
            f"export.trigger_bit: even the score's largest word, {largest}, comes too often on the test rows' background"
            " for the rate, so no threshold sets it; give output_bits more, another design, or a higher rate"
        )


def choose_design(
    study: Study,
    candidate: str | None = None,
    *,
    at_most_lut: float | None = None,
    at_least_score: float | None = None,
) -> str:
    """Return the digest of the design to export: the one named, the best within limits, or the winner.

    Raises:
        StudyError: no such design; nothing was written.
    """
    if candidate is None and at_most_lut is None and at_least_score is None:
        return study.winner()
    designs = designs_of(study)
    if candidate is None:
        limits = Limits(at_most_lut=at_most_lut, at_least_score=at_least_score)
        return pick(designs, limits, where=str(study.folder)).digest
    if candidate not in {design.digest for design in designs}:
        raise StudyError(
            f"{study.folder} knows no design {candidate!r}; `codesign front {study.folder}` lists them"
        )
    return candidate


def broken_limits(
    study: Study, digest: str, *, at_most_lut: float | None, at_least_score: float | None
) -> list[str]:
    """Say which limits a design misses now that it is trained and synthesized: it was chosen by predictions."""
    design = next(d for d in designs_of(study) if d.digest == digest)
    lut, notes = design.figures["lut"], []
    if at_most_lut is not None and lut.value > at_most_lut:
        notes.append(
            f"note: {digest} takes {lut.value:,.0f} LUT ({lut.evidence.label}), more than the {at_most_lut:,.0f} asked for;"
            " run the same command again to choose by what is known now"
        )
    if at_least_score is not None and design.score < at_least_score:
        notes.append(
            f"note: {digest} scores {design.score:.4f} ± {design.score_error:.4f} trained, less than the {at_least_score:g}"
            " asked for; run the same command again to choose by what is known now"
        )
    return notes


def export_on_demand(
    setting: Setting,
    digest: str,
    *,
    backends: Sequence[str] | None = None,
    name: str | None = None,
    version: int | None = None,
    onnx_opset: int | None = None,
    later: Sequence[str] = (),
) -> Exported:
    """Export and prove any design of the front: trained first where it is not, its RTL synthesized behind it.

    Args:
        setting: the study's setting.
        digest: of the design.
        backends: hls4ml back ends; default those of the study.
        name, version: of the firmware; default those of the study.
        onnx_opset: operator set of the ONNX files; default that of the study.
        later: forms that are not proved now.

    Raises:
        CodesignError: whatever training or the export refuses.
    """
    study, options = setting.study, setting.study.config.export
    design = study.designs().get(digest)
    if design is None:
        design = train_on_demand(setting, digest)
    found = export_design(
        setting, digest, backends=backends, name=name, version=version, onnx_opset=onnx_opset, later=later
    )  # fmt: skip
    if design.flow == "rtl" and options.rtl and options.open_synthesis:
        for why in synthesize_designs(setting, [design]).values():
            setting.reporter.message(f"not synthesized: {why}")
    return found
