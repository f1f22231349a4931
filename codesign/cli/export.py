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
        import json as json_module

        from codesign.cli._progress import RichReporter
        from codesign.errors import StudyError
        from codesign.export.backends import BACKENDS
        from codesign.pipeline import export_network, open_setting
        from codesign.study import Study

        for name in backend or ():
            BACKENDS.get(name)
        opened = Study.open(study)
        digest = candidate
        if digest is None:
            winner = opened.progress().get("train", {}).get("winner")
            if winner is None:
                raise StudyError(
                    f"{study} has no winner yet; run `codesign run` to its end, or name a --candidate"
                )
            digest = str(winner["digest"])
        if not opened.weights_file(digest).exists():
            raise StudyError(f"{study} has trained no candidate {digest!r}; see `codesign report`")
        with RichReporter() as reporter:
            found = export_network(
                open_setting(opened), digest, reporter=reporter, backends=backend or None
            )
        if json:
            print(json_module.dumps(found, indent=1, allow_nan=False))
            return
        print(found["verdict"])
        print(f"export: {opened.folder / found['folder']}")
