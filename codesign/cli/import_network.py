"""`codesign import`: read a network that was trained elsewhere, prove it, and keep it as a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `import`."""

    @app.command("import")
    def import_network(
        model: Annotated[
            Path,
            typer.Argument(
                help="ONNX, QONNX or Keras file, hls4ml project folder or hls4ml_config.yml."
            ),
        ],
        output: Annotated[
            Path | None, typer.Option(help="Study folder.  [default: runs/<name of the file>]")
        ] = None,
        precision: Annotated[
            str | None,
            typer.Option(help="Type of what the file leaves in floats.", metavar="ap_fixed<16,6>"),
        ] = None,
        inputs: Annotated[
            Path | None,
            typer.Option(help="NumPy file of your own inputs, (n, *shape), compared as well."),
        ] = None,
        outputs: Annotated[
            Path | None,
            typer.Option(help="NumPy file of what your own framework answers to --inputs."),
        ] = None,
        device: Annotated[str, typer.Option(help="Device, as in a study.")] = "xcvu13p",
        clock_mhz: Annotated[float, typer.Option(help="Target clock.", min=1.0)] = 200.0,
        flow: Annotated[
            str | None,
            typer.Option(
                help="rtl or hls.", show_default="hls, or rtl with distributed arithmetic"
            ),
        ] = None,
        strategy: Annotated[str, typer.Option(help="hls4ml strategy of every layer.")] = "latency",
        reuse_factor: Annotated[int, typer.Option(help="Of every layer.", min=1)] = 1,
        io_type: Annotated[str, typer.Option(help="io_parallel or io_stream.")] = "io_parallel",
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Import a network: export, validate, estimate and front then work on the study folder."""
        import re

        from codesign.cli._progress import RichReporter, output_console
        from codesign.config import parse
        from codesign.pipeline import run_study
        from codesign.results import ImportedNetwork
        from codesign.study import Study, StudyConfig

        stem = model.resolve().parent.name if model.name == "hls4ml_config.yml" else model.stem
        name = re.sub(r"[^A-Za-z0-9_\-]", "_", stem)[:60].lstrip("_-") or "network"
        section = {
            "file": str(model.resolve()),
            "precision": precision,
            "inputs": None if inputs is None else str(inputs.resolve()),
            "outputs": None if outputs is None else str(outputs.resolve()),
            "search": False,
            "flow": flow,
            "io_type": io_type,
            "strategy": strategy,
            "reuse_factor": reuse_factor,
            "clock_mhz": clock_mhz,
        }
        config = parse(
            StudyConfig,
            # firmware first: Yosys takes minutes, and `codesign synthesize` runs it when it is wanted
            {
                "name": name,
                "device": device,
                "network": section,
                "export": {"open_synthesis": False},
            },
            where="codesign import",
        )
        study = Study.at(output or Path("runs") / name, config)
        with RichReporter() as reporter:
            run_study(study, until="choose", reporter=reporter)
        found = study.results().require(ImportedNetwork)
        design = study.designs()[study.winner()]
        if json:
            print(found.model_dump_json(indent=1, by_alias=True))
            return
        from rich.table import Table

        table = Table("vectors", "n", "outputs", "differing", "largest difference", "in last bits")
        for kind, p in found.proof.items():
            table.add_row(
                kind, f"{p.vectors:,}", f"{p.outputs:,}", f"{p.differing:,}", f"{p.largest:.6g}",
                f"{p.largest_steps:.3g}",
            )  # fmt: skip
        output_console().print(table)
        print(found.verdict)
        for note in found.notes:
            print(f"note: {note}")
        cost = design.predicted_with_weights
        print(
            f"predicted with weights: {cost['lut'].value:,.0f} LUT, {cost['dsp'].value:,.0f} DSP,"
            f" {cost['latency_cycles'].value:.0f} cycles at {design.clock_mhz:.0f} MHz"
        )
        print(f"study: {study.folder}; next: codesign export {study.folder}")
