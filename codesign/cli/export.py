"""`codesign export`: write a design of the front in every form and prove the forms equal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb `export`."""

    @app.command()
    def export(
        study: Annotated[Path, typer.Argument(help="Study folder.")],
        candidate: Annotated[
            str | None,
            typer.Option(
                help="Digest of a design of the front; trained first where it is not.",
                show_default="the winner",
                metavar="DIGEST",
            ),
        ] = None,
        at_most_lut: Annotated[
            float | None, typer.Option("--at-most-lut", help="Instead: the best one within N LUT.")
        ] = None,
        at_least_score: Annotated[
            float | None,
            typer.Option("--at-least-score", help="Instead: the cheapest one of that score."),
        ] = None,
        backend: Annotated[
            list[str] | None,
            typer.Option(
                help="hls4ml back end; repeat for more.", show_default="those of the study"
            ),
        ] = None,
        name: Annotated[
            str | None,
            typer.Option(help="Name of the firmware.", show_default="the study's"),
        ] = None,
        version: Annotated[
            int | None,
            typer.Option(
                help="Version of the firmware.", show_default="the study's", min=1, max=9999
            ),
        ] = None,
        onnx_opset: Annotated[
            int | None,
            typer.Option(
                help="Operator set of the ONNX files: 21, or 19, which ONNX Runtime 1.17 of CMS software reads.",
                show_default="the study's",
                metavar="N",
            ),
        ] = None,
        later: Annotated[
            list[str] | None,
            typer.Option(
                help="Form that is not proved now but by codesign validate (rtl_vhdl, hls4ml_vitis, ...); repeat for more.",
                show_default="those of the study",
                metavar="FORM",
            ),
        ] = None,
        interval: Annotated[
            int | None,
            typer.Option(
                help="Also Verilog that takes an event every N cycles: particles of a deep set share logic.",
                metavar="N",
                show_default="one every cycle",
            ),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Export a design: ONNX, QONNX, hls4ml projects, RTL, emulator, golden vectors, certificate."""
        from codesign.cli._progress import RichReporter
        from codesign.export.backends import BACKENDS
        from codesign.export.onnx import check_opset
        from codesign.export.templates import check_firmware_name
        from codesign.stages.export import broken_limits, choose_design, export_on_demand
        from codesign.stages.setting import open_setting
        from codesign.study import Study

        if candidate is not None and (at_most_lut, at_least_score) != (None, None):
            raise typer.BadParameter(
                "give either --candidate or limits, not both", param_hint="--candidate"
            )
        for wanted in backend or ():
            BACKENDS.get(wanted)
        if name is not None:
            check_firmware_name(name)
        if onnx_opset is not None:
            check_opset(onnx_opset)
        opened = Study.open(study)
        digest = choose_design(
            opened, candidate, at_most_lut=at_most_lut, at_least_score=at_least_score
        )
        with RichReporter() as reporter:
            found = export_on_demand(
                open_setting(opened, reporter), digest, backends=backend or None,
                name=name, version=version, onnx_opset=onnx_opset, later=later or (),
            )  # fmt: skip
        shared = None
        if interval is not None:
            from codesign.validate.shared import share_logic

            shared = share_logic(opened.folder / found.folder, interval)
        if json:
            print(found.model_dump_json(indent=1, by_alias=True))
            return
        print(found.verdict)
        for note in broken_limits(
            opened, digest, at_most_lut=at_most_lut, at_least_score=at_least_score
        ):
            print(note)
        print(f"export: {opened.folder / found.folder}")
        if shared is not None:
            print(f"export: {shared[0]}: {shared[1]}")
