"""`codesign export`: write a trained candidate in every form and prove the forms equal."""

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
                help="Digest of a trained candidate.", show_default="the winner", metavar="DIGEST"
            ),
        ] = None,
        backend: Annotated[
            list[str] | None,
            typer.Option(
                help="hls4ml back end; repeat for more.", show_default="those of the study"
            ),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Export a candidate: ONNX, QONNX, hls4ml projects, RTL, emulator, golden vectors, certificate."""

        from codesign.cli._progress import RichReporter
        from codesign.export.backends import BACKENDS
        from codesign.stages.export import export_design
        from codesign.stages.setting import open_setting
        from codesign.study import Study

        for name in backend or ():
            BACKENDS.get(name)
        opened = Study.open(study)
        digest = opened.winner() if candidate is None else candidate
        opened.trained(digest)
        with RichReporter() as reporter:
            found = export_design(open_setting(opened, reporter), digest, backends=backend or None)
        if json:
            print(found.model_dump_json(indent=1))
            return
        print(found.verdict)
        print(f"export: {opened.folder / found.folder}")
