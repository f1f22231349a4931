"""`codesign estimate`: what a design will cost, before any tool runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from codesign.synthesis.estimates import DesignEstimate
    from hw_models.calibration import Coefficients


def register(app: typer.Typer) -> None:
    """Add the verb `estimate`."""

    @app.command()
    def estimate(
        design: Annotated[
            Path | None,
            typer.Argument(
                help="hls4ml project, ONNX, QONNX or Keras file, or study folder.",
                show_default=False,
            ),
        ] = None,
        candidate: Annotated[
            str | None,
            typer.Option(
                "--candidate", help="Digest of a study's candidate; the winner by default."
            ),
        ] = None,
        config: Annotated[
            Path | None,
            typer.Option(
                "--config", help="YAML for a model file: part, clock_period_ns, strategy, ..."
            ),
        ] = None,
        records: Annotated[
            Path | None,
            typer.Option("--records", help="Instead: a JSONL file of records.", show_default=False),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output", help="Where the estimates of --records go.", show_default=False
            ),
        ] = None,
        stage: Annotated[
            str | None,
            typer.Option(
                "--stage",
                help="csynth, vsynth or implemented.",
                show_default="(csynth of projects and records; implemented, as in a study, of all else)",
            ),
        ] = None,
        coefficients: Annotated[
            Path | None,
            typer.Option(
                "--coefficients",
                help="Coefficients file; the newest of `codesign calibrate` by default.",
            ),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Print JSON, layers included.")] = False,
    ) -> None:
        """Estimate resources, latency and interval, each with its 90 % interval, layer by layer."""
        import sys

        from codesign.synthesis import estimates

        if (design is None) == (records is None):
            raise typer.BadParameter("give either a design or --records FILE.jsonl")
        if records is not None and output is None:
            raise typer.BadParameter("--records needs --output OUT.jsonl")
        fitted, origin = estimates.open_coefficients(coefficients)
        print(f"coefficients: {origin}", file=sys.stderr)
        if records is not None and output is not None:
            n_records, n_supported = estimates.estimate_file(
                records, output, stage=stage or "csynth", coefficients=fitted
            )
            print(
                f"{n_supported} of {n_records} records estimated at stage {stage or 'csynth'} into {output}"
            )
            return
        assert design is not None
        item = estimates_of(
            design, candidate=candidate, config=config, stage=stage, coefficients=fitted
        )
        if json:
            import json as json_module

            print(json_module.dumps(estimates.estimate_json([item])[0], indent=1))
            return
        from codesign.cli._progress import output_console

        console = output_console()
        for table in estimates.estimate_tables(item):
            console.print(table)
        notes = list(item.summary["notes"])
        if (earlier := study_coefficients(design)) not in (None, origin):
            notes.append(f"the study's own figures were predicted with coefficients {earlier}")
        for note in notes:
            console.print(f"note: {note}", highlight=False, markup=False)
        if not item.summary["supported"]:
            raise typer.Exit(1)


def study_coefficients(design: Path) -> str | None:
    """Return which coefficients a study was run with; None of anything else, or before its first stage."""
    from codesign.results import Preparation
    from codesign.study import Study

    if not (design / "study.yaml").is_file():
        return None
    prepared = Study.open(design).results().last(Preparation)
    return prepared.coefficients if prepared else None


def estimates_of(
    design: Path,
    *,
    candidate: str | None,
    config: Path | None,
    stage: str | None,
    coefficients: Coefficients,
) -> DesignEstimate:
    """Estimate a design of any kind: by what the path is.

    Without a stage, networks are priced at the one that studies state and budgets limit, projects at the one
    that their compiler reports.
    """
    from codesign.errors import DesignError
    from codesign.synthesis import estimates

    if design.suffix in (".onnx", ".keras", ".h5", ".yml", ".yaml"):
        from codesign.importing.estimate import estimate_model

        return estimate_model(
            design, config, stage=stage or "implemented", coefficients=coefficients
        )
    elif (design / "study.yaml").is_file():
        from codesign.api import load_network
        from codesign.hardware.device import load_device
        from codesign.study import Study

        study = Study.open(design)
        digest = candidate or study.winner()
        found = estimates.estimate_network(
            load_network(design, digest),
            load_device(study.config.device),
            stage=stage or "implemented",
            coefficients=coefficients,
        )
        return replace(found, summary={**found.summary, "id": digest})
    elif design.is_dir():
        record = estimates.project_record(design)
    else:
        raise DesignError(
            f"{design}: expected an hls4ml project, a study folder or an .onnx file; give one of these"
        )
    return estimates.estimate_design(record, stage=stage or "csynth", coefficients=coefficients)
